"""Keyed noise by numpy's and by torch's operators: one definition, the same bits, and nothing waits for a device."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import ddim
from ddim.noise import images as kept_images
from ddim.noise import philox
from ddim.noise.keyed import DrawnAhead, KeyedStep, NoiseKey, draw_by_torch
from ddim.noise.operators import TORCH
from ddim.noise.source import noise_source

CPU, META = torch.device("cpu"), torch.device("meta")
ROOT = Path(__file__).resolve().parents[2]
LIMITS = (1, 2, 255, 256, 257, 511, 513, 1023, 1024, 1025, 2047, 2048, 3073)


def by_torch(key: NoiseKey, steps: range) -> Tensor:
    """The path of a device without Triton, on the CPU."""
    noise = torch.full((len(steps), *key.shape), torch.nan, dtype=torch.float32)
    draw_by_torch(noise, key.words, steps, key.images_on_device)
    return noise


def bits(noise: Tensor) -> bytes:
    return noise.contiguous().numpy().tobytes()


def reference_words(counters: list[list[int]], key: tuple[int, int]) -> np.ndarray:
    """Philox4x32-10 in Python's whole numbers, from the paper; shape ``(counters, 4)``."""
    found = []
    for c in counters:
        k = list(key)
        for _ in range(10):
            high0, low0 = divmod(0xD2511F53 * c[0], 1 << 32)
            high1, low1 = divmod(0xCD9E8D57 * c[2], 1 << 32)
            c = [high1 ^ c[1] ^ k[0], low1, high0 ^ c[3] ^ k[1], low0]
            k = [(k[0] + 0x9E3779B9) % (1 << 32), (k[1] + 0xBB67AE85) % (1 << 32)]
        found.append(c)
    return np.array(found, np.uint32)


def polynomial(coefficients: tuple[float, ...], x: np.ndarray) -> np.ndarray:
    total = np.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = (total * x).astype(np.float32) + np.float32(coefficient)
    return total


def reference(key: NoiseKey, step: int) -> np.ndarray:
    """The noise of a step as the docstring of ``philox.py`` defines it, every block alone; shape ``(B, count)``."""
    count, lanes = int(np.prod(key.shape[1:])), philox.LANES
    tiles = -(-count // (4 * lanes))
    rows = []
    for image in key.images.tolist():
        words = reference_words([[block, image, step, 0] for block in range(tiles * lanes)], key.words)
        normals = []
        for a, b in (words[:, :2].T, words[:, 2:].T):
            mantissa, exponent = np.frexp((a | 1).astype(np.float32))
            small = mantissa < np.float32(np.sqrt(0.5))
            f = np.where(small, 2 * mantissa, mantissa).astype(np.float32) - np.float32(1)
            scale = (exponent - small - 32).astype(np.float32) * np.float32(-philox.LN4)
            radius = np.sqrt(polynomial(philox.LOG, f) * f + scale)
            radius = np.where(a & 1, -radius, radius)
            u = b.astype(np.int32).astype(np.float32) * np.float32(2.0**-31)
            normals += [radius * polynomial(philox.COS, u * u), radius * u * polynomial(philox.SIN, u * u)]
        by_tile = np.stack(normals).reshape(4, tiles, lanes).transpose(1, 0, 2)
        rows.append(by_tile.reshape(-1)[:count])
    return np.stack(rows)


@settings(max_examples=60, deadline=None)
@given(
    count=st.one_of(st.sampled_from(LIMITS), st.integers(1, 2500)),
    seed=st.integers(-(2**70), 2**70),
    step=st.integers(0, 2**32 - 2),
    images=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=3),
    blocks=st.sampled_from([256, 512, 1024, 1 << 14]),
)
def test_both_kinds_of_operators_give_the_bits_of_the_definition(
    count: int, seed: int, step: int, images: list[int], blocks: int
) -> None:
    """``blocks`` is the size of a pass: small ones cut the work between tiles and between images."""
    key = NoiseKey.of((len(images), count), seed, images, CPU)
    expected = np.stack([reference(key, step), reference(key, step + 1)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(philox, "_HOST_BLOCKS", blocks)
        patch.setattr(philox, "_DEVICE_BLOCKS", blocks)
        assert bits(key.draw(range(step, step + 2))) == expected.tobytes()
        assert bits(by_torch(key, range(step, step + 2))) == expected.tobytes()


@pytest.mark.parametrize("shape", [(3, 4, 5, 6), (2, 3, 64, 64), (1, 4, 128, 128), (2, 300_001), (5000, 3)])
def test_both_kinds_of_operators_agree_on_whole_images(shape: tuple[int, ...]) -> None:
    key, steps = NoiseKey.of(shape, 5, None, CPU), range(7, 9)
    assert bits(key.draw(steps)) == bits(by_torch(key, steps))


@pytest.mark.parametrize("shape", [(0, 4), (2, 0), (0,)])
def test_nothing_is_drawn_for_nothing(shape: tuple[int, ...]) -> None:
    key = NoiseKey.of(shape, 1, None, CPU)
    assert key.draw(range(3)).shape == by_torch(key, range(3)).shape == (3, *shape)


def test_the_root_is_rounded_correctly_whatever_torch_gives_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every mantissa at an odd and an even exponent; every fifth with guesses wrong by one more unit, or of 11 bits."""
    root = torch.Tensor.sqrt
    mantissas = torch.arange(2**23, 2**24, dtype=torch.int32).float()
    for factor, wrong, every in ((1, 0, 1), (1, -1, 5), (1, 1, 5), (1 - 2.0**-11, 0, 5), (1 + 2.0**-11, 0, 5)):
        monkeypatch.setattr(torch.Tensor, "sqrt", lambda x, factor=factor, wrong=wrong: root(x) * factor + wrong)
        for scale in (2.0**-22, 2.0**-19, 2.0**-46):
            x = mantissas[::every] * scale
            found = torch.empty_like(x)
            TORCH.sqrt(x, found)
            assert found.numpy().tobytes() == np.sqrt(x.numpy()).tobytes()
    zeros = torch.tensor([0.0, -0.0])
    TORCH.sqrt(zeros, zeros)
    assert zeros.numpy().tobytes() == np.array([0.0, -0.0], np.float32).tobytes()


class Devices(TorchDispatchMode):
    """Lists the operators that read a value on the host, and those that touch another device than the noise's."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device, self.reads, self.elsewhere, self.operators = device, [], [], 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.operators += 1
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)]
        if any(word in func.name() for word in ("_local_scalar_dense", "is_nonzero", "nonzero", "equal")):
            self.reads.append(func.name())
        if any(tensor.device != self.device and tensor.dim() for tensor in tensors):
            self.elsewhere.append(func.name())
        return result


@pytest.mark.parametrize("device", [CPU, META], ids=str)
@pytest.mark.parametrize("images", [None, [4, 0, 2**32 - 1]], ids=["rows", "numbered"])
def test_a_draw_stays_on_its_device_and_never_waits(device: torch.device, images: list[int] | None) -> None:
    """The meta device holds no values, so reading one would raise too."""
    key = NoiseKey.of((3, 4, 20, 20), 5, images, device)
    assert key.images_on_device is None or key.images_on_device.device == device
    noise = torch.empty((2, *key.shape), device=device)
    with Devices(device) as seen:
        draw_by_torch(noise, key.words, range(3, 5), key.images_on_device)
    assert seen.operators > 100
    assert seen.reads == seen.elsewhere == []


def test_a_run_on_a_device_without_triton_draws_its_noise_there() -> None:
    source = noise_source(torch.empty((3, 4, 20, 20), device=META), 4, unseeded=1, image_indices=[9, 8, 7])
    source.at(0, 1.0).draw()
    with Devices(META) as seen:
        for step in range(4):
            assert source.at(step, 1.0).draw().device == META
    assert seen.reads == seen.elsewhere == []


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_modes_of_torch_change_nothing(mode: Callable[[], Any]) -> None:
    key, steps = NoiseKey.of((2, 3, 30, 30), 5, [1, 7], CPU), range(2)
    expected, before = bits(key.draw(steps)), torch.get_default_dtype()
    torch.use_deterministic_algorithms(True)
    torch.set_default_dtype(torch.float64)
    try:
        with mode():
            assert bits(key.draw(steps)) == bits(by_torch(key, steps)) == expected
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_default_dtype(before)


def digest() -> str:
    """Of noise by both kinds of operators, for a few shapes."""
    found = hashlib.blake2b(digest_size=16)
    for shape in ((1, 3, 64, 64), (3, 4, 33, 31), (1, 270_001), (40, 7)):
        key = NoiseKey.of(shape, 11, None, CPU)
        for noise in (key.draw(range(2)), by_torch(key, range(2))):
            found.update(bits(noise))
    return found.hexdigest()


@pytest.mark.parametrize(("capability", "threads"), [("default", "2"), ("avx2", "1")])
def test_bits_depend_on_neither_threads_nor_instructions(capability: str, threads: str) -> None:
    settings_ = {**os.environ, "ATEN_CPU_CAPABILITY": capability, "OMP_NUM_THREADS": threads, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(Path(__file__))]
    done = subprocess.run(command, capture_output=True, text=True, env=settings_, timeout=280, check=True)
    assert done.stdout.strip() == digest()


@pytest.mark.parametrize(
    ("shape", "draws"), [((1, 3, 64, 64), 2), ((1, 4, 64, 64), 2), ((8, 3, 64, 64), 7), ((1, 3, 8, 8), 1)]
)
def test_small_images_are_drawn_ahead_with_the_same_bits(
    shape: tuple[int, ...], draws: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most 256 KB at once, never beyond the last step."""
    expected = [ddim.keyed_noise(shape, 6, 20 + step) for step in range(7)]
    made: list[range] = []
    draw = NoiseKey.draw
    monkeypatch.setattr(NoiseKey, "draw", lambda key, steps: made.append(steps) or draw(key, steps))
    source = noise_source(torch.zeros(shape), 7, unseeded=6, first=20)
    for step in range(7):
        assert torch.equal(source.at(step, 1.0).draw(), expected[step])
    assert len(made) == draws
    assert made[0].start == 20 and made[-1].stop == 27
    assert all(len(steps) == 1 or len(steps) * expected[0].numel() <= 1 << 16 for steps in made)


def test_steps_may_be_drawn_in_any_order() -> None:
    source = noise_source(torch.zeros(2, 5), 9, unseeded=6)
    for step in (8, 0, 3, 3, 1, 7):
        assert torch.equal(source.at(step, 1.0).draw(), ddim.keyed_noise((2, 5), 6, step))
    last = 2**32 - 1
    key = NoiseKey.of((2, 5), 6, None, CPU)
    assert torch.equal(KeyedStep(key, last, DrawnAhead(last + 1)).draw(), ddim.keyed_noise((2, 5), 6, last))


def test_image_numbers_on_devices_take_bounded_memory() -> None:
    lists = [NoiseKey.of((40_000, 1), 1, range(start, start + 40_000), META) for start in range(1, 12)]
    for key in lists:
        assert key.images_on_device.shape == (40_000,)
        assert sum(len(words) for words, _ in kept_images._kept) <= kept_images.MAX_KEPT_BYTES
    again = NoiseKey.of((40_000, 1), 1, range(11, 40_011), META)
    assert again.images_on_device is lists[-1].images_on_device
    large = NoiseKey.of((400_000, 1), 1, range(1, 400_001), META)
    assert large.images_on_device.shape == (400_000,)
    assert len(kept_images._kept) == 1


if __name__ == "__main__":
    print(digest())

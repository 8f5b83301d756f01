"""Runs the GPU kernels in Triton's interpreter and prints what came out, as JSON.

A process of its own: whether Triton interprets is decided when it is imported, and the core asks the Triton that was
imported before it.
"""

from __future__ import annotations

import json
import sys
from itertools import product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import numpy as np
import oracle
import torch
import triton  # noqa: F401 - before ddim

import ddim
from ddim.noise.keyed import KeyedStep, NoiseKey
from ddim.noise.operators import NUMPY
from ddim.noise.philox import normals
from ddim.noise.triton_noise import write_noise
from ddim.step.apply import apply_step
from ddim.step.coefficients import coefficients_between
from ddim.step.x0 import Clip, Threshold
from ddim.triton_support import kernels_accept

SHAPE = (2, 3, 19, 21)  # an odd number of elements, in more than one tile


def tensors(dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    return [torch.randn(SHAPE, generator=torch.Generator().manual_seed(i)).to(dtype) for i in range(4)]


def noise_bits() -> dict[str, bool]:
    """Whether the noise of the kernel has the bits of the CPU's."""
    cases = {
        "one image": ((1, 2500), 0, 0, None),
        "a few elements": ((3, 7), -5, 1, None),
        "numbered images": ((3, 2, 300), 2**70, 2**32 - 1, [2**32 - 1, 0, 77]),
    }
    found = {}
    for name, (shape, seed, step, images) in cases.items():
        key = NoiseKey.of(shape, seed, images, torch.device("cpu"))
        drawn, by_numpy = torch.empty(shape), torch.empty(shape)
        write_noise(drawn, key.words, step, key.images_on_device)
        steps = np.full(shape[0], step, np.int64)
        normals(key.words, key.images, steps, by_numpy.view(shape[0], -1).numpy(), NUMPY)
        found[name] = torch.equal(drawn, by_numpy) and torch.equal(drawn, ddim.keyed_noise(shape, seed, step, images))
    return found


def step_errors() -> dict[str, float]:
    """Largest difference from the paper's step in float64, over the size of the result."""
    errors = {}
    outputs = [torch.float32, torch.float16, torch.bfloat16]
    processing = {"plain": {}, "clip": {"clip": 0.8}, "threshold": {"threshold": (0.9, 3.0)}}
    processors = {"plain": None, "clip": Clip(0.8), "threshold": Threshold(0.9, 3.0)}
    cases = product(ddim.PREDICTION_TYPES, processors, ["none", "given", "keyed"], [False, True], [False, True])
    for i, (prediction, process, source, rederive, guided) in enumerate(cases):
        eta = 0.0 if source == "none" else 0.7
        x, z = tensors()[0], tensors()[3]
        _, m, text, _ = tensors(outputs[i % 3])
        key = KeyedStep(NoiseKey.of(SHAPE, 3, [5, 9], x.device), 4)
        noise = {"none": None, "given": z, "keyed": key}[source]
        output = ddim.Guided(m, text, 4.0, 0.6) if guided else m
        combined = ddim.Guided(m.double(), text.double(), 4.0, 0.6).tensor() if guided else m.double()
        z = {"none": None, "given": z, "keyed": ddim.keyed_noise(SHAPE, 3, 4, [5, 9])}[source]
        derived = rederive and process != "plain"
        exact = oracle.coefficients(0.2, 0.5, prediction, eta)
        expected, _ = oracle.step(exact, x, combined, z, rederive=derived, **processing[process])
        target = x.clone() if i % 2 else None
        result, _ = apply_step(
            coefficients_between(0.2, 0.5, prediction, eta),
            x if target is None else target,
            output,
            process_x0=processors[process],
            use_clipped_model_output=rederive,
            noise=noise,
            out=target,
        )
        assert target is None or result is target
        name = f"{prediction} {process} {source} {'rederived ' if rederive else ''}{'guided' if guided else ''}"
        errors[name.strip()] = float((result.double() - expected).abs().max() / expected.abs().max())
    return errors


def _cfg_plus_plus(x: torch.Tensor, t: torch.Tensor) -> ddim.CFGPlusPlus:
    """Two outputs, which the step's kernel leaves to torch."""
    return ddim.CFGPlusPlus(torch.tanh(x), torch.sin(x))


def whole_runs() -> dict[str, float]:
    """Differences of ``sample()`` with the kernels from the same in float64, which they do not take."""
    errors = {}
    for name, options in {
        "eta 0": {},
        "eta 1": {"eta": 1.0, "seed": 3},
        "numbered": {"eta": 0.5, "seed": 4, "image_indices": [8, 2]},
        "given": {"eta": 1.0, "variance_noise": torch.randn((3, *SHAPE), generator=torch.Generator().manual_seed(9))},
        "cfg++": {"eta": 1.0, "seed": 5},
    }.items():
        scheduler = ddim.make_schedule(3, ddim.SchedulerConfig(prediction_type="v_prediction")).scheduler()
        x = tensors()[0]
        model = _cfg_plus_plus if name == "cfg++" else lambda x, t: torch.tanh(x)
        runs = [ddim.sample(model, start, scheduler, **options) for start in (x, x.double())]
        errors[name] = float((runs[0] - runs[1]).abs().max())
    return errors


def what_is_fused() -> dict[str, bool]:
    x = tensors()[0]
    return {
        "float32": kernels_accept(x),
        "float16": kernels_accept(x.half()),
        "float64": kernels_accept(x.double()),
        "other layout": kernels_accept(x.transpose(1, 2)),
        "needs gradients": kernels_accept(x.clone().requires_grad_()),
    }


if __name__ == "__main__":
    print(json.dumps({f.__name__: f() for f in (noise_bits, step_errors, whole_runs, what_is_fused)}))

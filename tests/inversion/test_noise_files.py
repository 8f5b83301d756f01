"""Noise files: what goes in comes out, and nothing else gets in."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import ddim
from ddim import DDIMError, VarianceNoise, load_noise, save_noise


@pytest.fixture(scope="module")
def plan(scheduler: Any) -> ddim.DDIMScheduler:
    return scheduler(5, rescale_betas_zero_snr=True, prediction_type="v_prediction")


@pytest.fixture(scope="module")
def model(mixture: Any, plan: Any) -> Any:
    return mixture(3, shape=(2, 8, 8)).model(plan)


@pytest.fixture(scope="module")
def x0(mixture: Any) -> torch.Tensor:
    return mixture(3, shape=(2, 8, 8)).draw(2, 1).float()


def invert(model: Any, x0: Any, plan: Any, method: str = "variance_noise", **options: Any) -> ddim.Inversion:
    return ddim.invert(model, x0, plan, method=method, seed=4, **options)


@pytest.mark.parametrize("method", ddim.INVERSION_METHODS)
def test_a_file_brings_back_everything(tmp_path: Path, model: Any, x0: Any, plan: Any, method: str) -> None:
    options = {"eta": [1.0, 0.5, 1.0, "sigma_hat", 1.0]} if method == "variance_noise" else {}
    found = invert(model, x0, plan, method, **options)
    path = tmp_path / "a.safetensors"
    assert save_noise(found, path) == path.stat().st_size
    again = load_noise(path)
    for name in ("method", "schedule", "eta", "mixing", "seed", "noise_path"):
        assert getattr(again, name) == getattr(found, name), name
    for name in ("latent", "variance_noise", "second_latent", "residual"):
        one, two = getattr(found, name), getattr(again, name)
        assert type(one) is type(two) and (one is None or torch.equal(one, two)), name
    assert torch.equal(ddim.reconstruct(model, again), ddim.reconstruct(model, found))
    assert os.listdir(tmp_path) == ["a.safetensors"]


def test_half_precision_halves_the_file_and_keeps_the_picture(tmp_path: Path, model: Any, x0: Any, plan: Any) -> None:
    found = invert(model, x0, plan, noise_dtype=torch.float16)
    sizes = [save_noise(found, tmp_path / "f.safetensors", dtype=kind) for kind in (None, torch.float16)]
    noise = found.variance_noise[:-1]
    assert sizes[0] - sizes[1] == pytest.approx(noise.numel() * 2, abs=64)
    again = load_noise(tmp_path / "f.safetensors")
    assert torch.equal(again.variance_noise, found.variance_noise)
    assert float((ddim.reconstruct(model, again) - x0).square().mean()) < 1e-12


def test_half_precision_of_any_noise_is_near(tmp_path: Path, model: Any, x0: Any, plan: Any) -> None:
    found = invert(model, x0, plan)
    save_noise(found, tmp_path / "f.safetensors", dtype=torch.float16)
    back = ddim.reconstruct(model, load_noise(tmp_path / "f.safetensors"))
    assert 0 < float((back - x0).square().mean()) < 1e-6


def test_one_step_has_only_the_last(tmp_path: Path, mixture: Any, scheduler: Any) -> None:
    plan, data = scheduler(1), mixture(3, shape=(2, 8, 8))
    found = invert(data.model(plan), data.draw(1, 1), plan)
    save_noise(found, tmp_path / "f.safetensors")
    assert torch.equal(load_noise(tmp_path / "f.safetensors").variance_noise, found.variance_noise)


def test_noise_that_half_precision_cannot_hold_is_refused(tmp_path: Path, model: Any, x0: Any, plan: Any) -> None:
    found = invert(model, x0, plan, eta=1e-7)
    with pytest.raises(DDIMError, match="store it in float32"):
        save_noise(found, tmp_path / "f.safetensors", dtype=torch.float16)
    assert os.listdir(tmp_path) == []


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, model: Any, x0: Any, plan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f.safetensors"
    found = invert(model, x0, plan)
    save_noise(found, path)
    before = path.read_bytes()

    def broken(source: Any, target: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(OSError, match="disk full"):
        save_noise(found, path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["f.safetensors"]


def test_a_file_has_the_permissions_of_any_new_file(tmp_path: Path, model: Any, x0: Any, plan: Any) -> None:
    (tmp_path / "ordinary").touch()
    save_noise(invert(model, x0, plan), tmp_path / "noise.safetensors")
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1


def test_files_hold_no_code(tmp_path: Path, model: Any, x0: Any, plan: Any) -> None:
    path = tmp_path / "f.safetensors"
    save_noise(invert(model, x0, plan), path)
    assert set(load_file(path)) == {"latent", "noise", "last"}


# -- untrusted files -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory, model: Any, x0: Any, plan: Any) -> Path:
    path = tmp_path_factory.mktemp("good") / "good.safetensors"
    save_noise(invert(model, x0, plan), path)
    return path


def rewritten(good: Path, target: Path, tensors: Any = None, edit: Any = None, **metadata: str) -> Path:
    """The good file with changes to its tensors, its description or its metadata."""
    from safetensors import safe_open

    with safe_open(good, framework="pt") as file:
        old = file.metadata()
    new = json.loads(old["inversion"])
    if edit is not None:
        edit(new)
    kept = load_file(good)
    if tensors is not None:
        tensors(kept)
    save_file(kept, target, {**old, "inversion": json.dumps(new), **metadata})
    return target


def change(path: str, value: Any) -> Any:
    """A function that sets a nested key; ``...`` deletes it."""

    def apply(description: Any) -> None:
        *parents, last = path.split("/")
        for parent in parents:
            description = description[parent]
        if value is ...:
            del description[last]
        else:
            description[last] = value

    return apply


DESCRIPTIONS = {
    "a missing schedule": (change("schedule", ...), "an object 'schedule', got None"),
    "an unknown setting": (change("schedule/config/evil", 1), "settings of SchedulerConfig, got 'evil'"),
    "a huge schedule": (change("schedule/config/num_train_timesteps", 10**12), "num_train_timesteps"),
    "too many betas": (change("schedule/config/trained_betas", [0.1] * 1_000_001), "betas"),
    "a string for a number": (change("schedule/config/beta_start", "0"), "beta_start"),
    "a step that is no pair": (change("schedule/pairs", [[999]]), "must be a pair of timesteps, got .999."),
    "a step out of range": (change("schedule/pairs", [[5000, -1]] * 5), "each timestep"),
    "a step upwards": (change("schedule/pairs", [[10, 20]] * 5), "each next timestep"),
    "no steps": (change("schedule/pairs", []), "1 to 1000 steps.*got 0"),
    "other steps": (change("schedule/pairs", [[999, 500], [500, -1]]), "eta must be"),
    "eta out of range": (change("eta", [2.0] * 5), "eta"),
    "eta of another kind": (change("eta", {"a": 1}), "a list 'eta', got"),
    "an unknown method": (change("method", "magic"), "method must be"),
    "another method": (change("method", "ddim"), "must hold the tensors latent, got last, latent, noise"),
    "a method without its mixing": (change("method", "edict"), "mixing"),
    "a missing method": (change("method", ...), "method must be"),
    "an unhashable method": (change("method", ["ddim"]), "method must be"),
    "an unknown path": (change("noise_path", "x"), "noise_path"),
    "residual of others": (change("residual", [0.0]), "one error per image, 2, got 1"),
    "a residual that is text": (change("residual", ["a", "b"]), "residual"),
    "a fractional seed": (change("seed", 0.5), "seed"),
    "a first step out of range": (change("schedule/first", -1), "first step"),
}


@pytest.mark.parametrize(("edit", "message"), DESCRIPTIONS.values(), ids=DESCRIPTIONS.keys())
def test_a_wrong_description_is_refused(tmp_path: Path, good: Path, edit: Any, message: str) -> None:
    path = rewritten(good, tmp_path / "bad.safetensors", edit=edit)
    with pytest.raises(DDIMError, match=f"bad.safetensors cannot be used.*{message}"):
        load_noise(path)


def swap(name: str, change: Any) -> Any:
    def apply(tensors: dict[str, torch.Tensor]) -> None:
        tensors[name] = change(tensors[name]) if name in tensors else change(None)

    return apply


TENSORS = {
    "another size": (swap("noise", lambda x: x[..., :4].clone()), r"noise must have the shape \(4, 2, 2, 8, 8\), got"),
    "fewer steps": (swap("noise", lambda x: x[:3].clone()), r"noise must have the shape \(4, 2, 2, 8, 8\), got"),
    "not finite": (swap("last", lambda x: x * float("nan")), "NaN or infinite"),
    "whole numbers": (
        swap("latent", lambda x: x.long()),
        "dtype of latent must be one of F16, BF16, F32, F64, got I64",
    ),
    "an extra tensor": (swap("model.weight", lambda _: torch.zeros(2)), "must hold the tensors .*, got .*model.weight"),
    "a missing tensor": (
        lambda tensors: tensors.pop("last"),
        "must hold the tensors last, latent, noise, got latent, noise",
    ),
    "no latent": (lambda tensors: tensors.pop("latent"), "must hold the tensors .*, got last, noise"),
    "a flat latent": (swap("latent", lambda x: x.flatten().clone()), r"shape \(B, ...\)"),
}


@pytest.mark.parametrize(("tensors", "message"), TENSORS.values(), ids=TENSORS.keys())
def test_wrong_tensors_are_refused(tmp_path: Path, good: Path, tensors: Any, message: str) -> None:
    with pytest.raises(DDIMError, match=message):
        load_noise(rewritten(good, tmp_path / "bad.safetensors", tensors=tensors))


METADATA = {
    "more lists than any plan needs": ({"inversion": "[" + "[]," * 1_000_100 + "[]]"}, "lists and objects"),
    "not JSON": ({"inversion": "{"}, "valid JSON"),
    "deep JSON": ({"inversion": "[" * 100_000}, "valid JSON"),
    "a long number": ({"inversion": "9" * 100_000}, "valid JSON|JSON object"),
    "a list": ({"inversion": "[]"}, "JSON object, got"),
    "another version": ({"version": "99"}, "version must be '1', got '99'"),
    "another format": ({"format": "pt"}, "format must be 'ddim-noise', got 'pt'"),
}


@pytest.mark.parametrize(("metadata", "message"), METADATA.values(), ids=METADATA.keys())
def test_wrong_metadata_is_refused(tmp_path: Path, good: Path, metadata: dict[str, str], message: str) -> None:
    with pytest.raises(DDIMError, match=message):
        load_noise(rewritten(good, tmp_path / "bad.safetensors", **metadata))


def test_other_files_are_refused(tmp_path: Path, good: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "lora.safetensors")
    contents = {
        "lora.safetensors": None,
        "empty": b"",
        "short": b"\x01\x02",
        "text": b"hello, world, this is not a tensor file",
        "huge header": (2**40).to_bytes(8, "little") + b"{}",
        "zero header": bytes(64),
        "long text": (30_020).to_bytes(8, "little") + b'{"__metadata__":"' + b"x" * 30_001 + b'"}',
        "cut": good.read_bytes()[:-100],
        "longer": good.read_bytes() + b"more",
    }
    for name, content in contents.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(DDIMError, match=name) as refused:
            load_noise(tmp_path / name)
        assert len(str(refused.value)) < 1000


def test_a_large_file_is_refused_unread(tmp_path: Path, good: Path) -> None:
    with pytest.raises(DDIMError, match="at most 100 bytes, got"):
        load_noise(good, max_bytes=100)
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(ddim.MAX_FILE_BYTES + 1)
    with pytest.raises(DDIMError, match="at most"):
        load_noise(tmp_path / "sparse")


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_damage_gets_past_the_checks(tmp_path: Path, good: Path, data: st.DataObject) -> None:
    """Bytes changed anywhere in the header, or the file cut: a DDIMError, or noise of the right kind; nothing else."""
    content = bytearray(good.read_bytes())
    header = 8 + int.from_bytes(content[:8], "little")
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, header - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(content[:end])
    try:
        found = load_noise(path)
    except DDIMError:
        return
    assert type(found.variance_noise) is VarianceNoise
    assert found.variance_noise.shape == (len(found.schedule.plan), *found.latent.shape)

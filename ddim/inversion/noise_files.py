"""Inversions as files: safetensors with the latent, the noise of every step and the schedule they belong to.

Tensors: ``latent`` (B, ...), and, as the method has them, ``noise`` (S - 1, B, ...), ``last`` (B, ...) for the last
step, ``second`` (B, ...) for the other track. Everything else is JSON under the metadata key ``inversion``.

A file may come from a stranger: sizes, names, kinds and shapes are checked before anything is allocated.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import DDIMError, check_choice, check_integer, check_number
from ..noise.recorded import VarianceNoise
from ..plan import Schedule
from ..schedule.settings import SchedulerConfig
from ..schedule.timesteps import TimestepPlan
from ..step.checks import eta_of_each_step
from .api import INVERSION_METHODS
from .result import Inversion
from .stochastic import NOISE_PATHS

__all__ = ["MAX_FILE_BYTES", "load_noise", "save_noise"]

FORMAT = "ddim-noise"
VERSION = "1"
MAX_FILE_BYTES = 4 * 2**30
MAX_HEADER_BYTES = 8 * 2**20
MAX_TRAIN_TIMESTEPS = 100_000
MAX_DIMENSIONS = 8
_TENSORS = ("latent", "noise", "last", "second")
_DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}


# -- writing -------------------------------------------------------------------------------------------------------


def save_noise(inversion: Inversion, path: str | os.PathLike[str], *, dtype: torch.dtype | None = None) -> int:
    """Write an inversion to a safetensors file, whole or not at all.

    Args:
        inversion: from :func:`ddim.invert`.
        path: of the file; one that exists is replaced.
        dtype: ``torch.float16`` stores the noise of all steps but the last in half the space. It loses nothing where
            the inversion was made with ``noise_dtype=torch.float16``. By default the dtypes are kept.

    Returns:
        The size of the file in bytes.

    Raises:
        DDIMError: where the noise does not fit ``dtype``.
        OSError: where the file cannot be written; what was there before is left as it was.
    """
    from safetensors.torch import save_file

    tensors, target = _tensors(inversion, dtype), Path(path)
    metadata = {"format": FORMAT, "version": VERSION, "inversion": json.dumps(_description(inversion))}
    handle, partial = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    os.close(handle)
    try:
        save_file(tensors, partial, metadata)
        os.replace(partial, target)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
    return target.stat().st_size


def _tensors(inversion: Inversion, dtype: torch.dtype | None) -> dict[str, Tensor]:
    tensors = {"latent": inversion.latent}
    if inversion.variance_noise is not None:
        noise = inversion.variance_noise.as_subclass(Tensor)
        tensors["last"] = noise[-1]
        if len(noise) > 1:
            tensors["noise"] = _fitting(noise[:-1], dtype)
    if inversion.second_latent is not None:
        tensors["second"] = inversion.second_latent
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _fitting(noise: Tensor, dtype: torch.dtype | None) -> Tensor:
    if dtype is None:
        return noise
    largest = float(noise.abs().max())
    if largest > torch.finfo(dtype).max:
        raise DDIMError(f"the noise reaches {largest:g}, which {dtype} cannot hold; store it in float32")
    return noise.to(dtype)


def _description(inversion: Inversion) -> dict[str, Any]:
    """What the tensors do not say, as JSON values."""
    plan = inversion.schedule.plan
    return {
        "method": inversion.method,
        "eta": list(inversion.eta),
        "seed": inversion.seed,
        "noise_path": inversion.noise_path,
        "mixing": inversion.mixing,
        "residual": [value if math.isfinite(value) else None for value in inversion.residual.tolist()],
        "schedule": {
            "config": dict(inversion.schedule.config),
            "pairs": [list(pair) for pair in plan.pairs],
            "first": plan.first,
        },
    }


# -- reading -------------------------------------------------------------------------------------------------------


def load_noise(path: str | os.PathLike[str], *, max_bytes: int = MAX_FILE_BYTES) -> Inversion:
    """Read an inversion from a file that :func:`save_noise` wrote.

    Args:
        path: of the file.
        max_bytes: a larger file is refused unread.

    Returns:
        The inversion, on the CPU; half-precision noise comes back in the latent's working dtype.

    Raises:
        DDIMError: for anything that is not such a file, whole and consistent.
        OSError: where it cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    name = Path(path).name
    try:
        _check_size(Path(path), max_bytes)
        with safe_open(path, framework="pt", device="cpu") as file:
            told = _metadata(file.metadata())
            shapes = _checked_shapes(file, told)
            tensors = {key: file.get_tensor(key) for key in shapes}
        return _assembled(told, tensors)
    except SafetensorError as error:
        raise DDIMError(f"{name} is not a whole safetensors file: {error}") from error
    except DDIMError as error:
        raise DDIMError(f"{name} cannot be used as a noise file: {error}") from error


def _check_size(path: Path, max_bytes: int) -> None:
    """Refuse by size before the file, or its header, is taken into memory."""
    size = path.stat().st_size
    if size > max_bytes:
        raise DDIMError(f"it has {size} bytes, and at most {max_bytes} are read")
    with path.open("rb") as file:
        header = int.from_bytes(file.read(8), "little")
    if not 0 < header <= min(size, MAX_HEADER_BYTES):
        raise DDIMError(f"its header claims {header} bytes, and at most {MAX_HEADER_BYTES} are read")


def _metadata(metadata: Mapping[str, str] | None) -> dict[str, Any]:
    """The description, with every value of a kind and range that can be used."""
    if not metadata or metadata.get("format") != FORMAT:
        raise DDIMError("it is a safetensors file of something else; noise files come from DDIM Save Noise")
    if metadata.get("version") != VERSION:
        raise DDIMError(f"its format has version {metadata.get('version')!r:.20}, and this reads version {VERSION}")
    try:
        told = json.loads(metadata.get("inversion", ""))
    except (ValueError, RecursionError) as error:
        raise DDIMError("its description is not JSON") from error
    if not isinstance(told, dict):
        raise DDIMError("its description is not a JSON object")
    method = check_choice("method", told.get("method"), INVERSION_METHODS)
    schedule = _schedule(_part(told, "schedule", dict))
    return {
        "method": method,
        "schedule": schedule,
        "eta": eta_of_each_step(_part(told, "eta", list), len(schedule.plan)),
        "residual": [_number_or_nan(value) for value in _part(told, "residual", list)],
        "seed": None if told.get("seed") is None else check_integer("seed", told["seed"], -(2**64), 2**64),
        "noise_path": None if told.get("noise_path") is None else _noise_path(told["noise_path"]),
        "mixing": None if told.get("mixing") is None else check_number("mixing", told["mixing"], 1e-6, 1.0),
    }


def _part(told: Mapping[str, Any], key: str, kind: type) -> Any:
    if not isinstance(told.get(key), kind):
        raise DDIMError(f"its description has no {key}")
    return told[key]


def _number_or_nan(value: Any) -> float:
    return math.nan if value is None else check_number("residual", value, 0.0)


def _noise_path(value: Any) -> str:
    return check_choice("noise_path", value, NOISE_PATHS)


def _schedule(told: Mapping[str, Any]) -> Schedule:
    given = _part(told, "config", dict)
    unknown = sorted(set(given) - {field.name for field in fields(SchedulerConfig)})
    if unknown:
        raise DDIMError(f"its schedule has the unknown setting {unknown[0]!r:.40}")
    check_integer("num_train_timesteps", given.get("num_train_timesteps"), 1, MAX_TRAIN_TIMESTEPS)
    if isinstance(given.get("trained_betas"), list) and len(given["trained_betas"]) > MAX_TRAIN_TIMESTEPS:
        raise DDIMError(f"its schedule has more than {MAX_TRAIN_TIMESTEPS} betas")
    config = SchedulerConfig(**given)
    pairs = tuple(_pair(pair, config.num_train_timesteps) for pair in _part(told, "pairs", list))
    if not 1 <= len(pairs) <= config.num_train_timesteps:
        raise DDIMError(f"its schedule has {len(pairs)} steps for {config.num_train_timesteps} timesteps")
    first = check_integer("first step", told.get("first"), 0, config.num_train_timesteps)
    schedule = Schedule(config, TimestepPlan(pairs, first))
    if not all(0.0 <= level <= 1.0 for level in schedule.alpha_bars):
        raise DDIMError("its schedule has noise levels outside 0 to 1")
    return schedule


def _pair(pair: Any, total: int) -> tuple[int, int]:
    if not isinstance(pair, list) or len(pair) != 2:
        raise DDIMError(f"its schedule has a step that is not a pair of timesteps: {pair!r:.40}")
    t = check_integer("each timestep", pair[0], 0, total - 1)
    return t, check_integer("each next timestep", pair[1], -total, t)


def _checked_shapes(file: Any, told: Mapping[str, Any]) -> dict[str, list[int]]:
    """Names and shapes of the tensors, from the header alone."""
    names = set(file.keys())
    if "latent" not in names or names - set(_TENSORS):
        raise DDIMError(f"it should hold {', '.join(_TENSORS)}, got {', '.join(sorted(names))[:120]}")
    slices = {name: file.get_slice(name) for name in sorted(names)}
    strange = [name for name, part in slices.items() if part.get_dtype() not in _DTYPES]
    if strange:
        raise DDIMError(f"{strange[0]} should hold floating-point numbers, got {slices[strange[0]].get_dtype()}")
    shapes = {name: list(part.get_shape()) for name, part in slices.items()}
    latent, steps = shapes["latent"], len(told["schedule"].plan)
    if not 2 <= len(latent) <= MAX_DIMENSIONS or 0 in latent:
        raise DDIMError(f"latent should have the shape (B, ...), got {latent}")
    wanted = {"latent": latent, "second": latent, "last": latent, "noise": [steps - 1, *latent]}
    needed = {"variance_noise": {"last"} | ({"noise"} if steps > 1 else set()), "edict": {"second"}}
    if names - {"latent"} != needed.get(told["method"], set()):
        raise DDIMError(f"a file of method {told['method']} with {steps} steps cannot hold {', '.join(sorted(names))}")
    wrong = [name for name, shape in shapes.items() if shape != wanted[name]]
    if wrong:
        raise DDIMError(f"{wrong[0]} should have the shape {wanted[wrong[0]]}, got {shapes[wrong[0]]}")
    if len(told["residual"]) != latent[0]:
        raise DDIMError(f"residual should name one error per image: {latent[0]} expected, got {len(told['residual'])}")
    return shapes


def _assembled(told: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Inversion:
    bad = [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
    if bad:
        raise DDIMError(f"{bad[0]} holds NaN or infinite values")
    last, second = tensors.get("last"), tensors.get("second")
    if told["method"] == "edict" and told["mixing"] is None:
        raise DDIMError("its description has no mixing")
    noise = None
    if last is not None:
        steps = [tensors["noise"].to(last.dtype)] if "noise" in tensors else []
        noise = torch.cat([*steps, last[None]]).as_subclass(VarianceNoise)
    return Inversion(
        method=told["method"],
        latent=tensors["latent"],
        residual=torch.tensor(told["residual"], dtype=torch.float64),
        schedule=told["schedule"],
        eta=told["eta"],
        variance_noise=noise,
        second_latent=second,
        mixing=told["mixing"],
        seed=told["seed"],
        noise_path=told["noise_path"],
    )

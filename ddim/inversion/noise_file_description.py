"""The description in a noise file: everything about an inversion except its tensors, as JSON in the file's metadata."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from ..errors import DDIMError, check_choice, check_integer, check_number, show
from ..parity import parity_of
from ..plan import Schedule
from ..schedule.common_settings import MAX_TRAIN_TIMESTEPS
from ..schedule.settings import SchedulerConfig, Settings
from ..schedule.sigma_settings import SigmaConfig
from ..schedule.timesteps import END, TimestepPlan
from ..step.checks import eta_of_each_step
from ..step.equations import Eta
from ..step.levels import FLOW, KINDS, VARIANCE_EXPLODING, VARIANCE_PRESERVING
from .api import INVERSION_METHODS
from .result import Inversion
from .stochastic import NOISE_PATHS

__all__ = ["Description", "metadata_of", "parse_metadata"]

FORMAT = "ddim-noise"
VERSION = "1"
# Parsed JSON can take 40 times the memory of its text if it consists of lists and objects. A description has one list
# per step, and a few more.
MAX_JSON_CONTAINERS = MAX_TRAIN_TIMESTEPS + 16

_JSON_TYPES: dict[type, str] = {dict: "an object", list: "a list"}

_SETTINGS: dict[str, type[SchedulerConfig] | type[SigmaConfig]] = {
    VARIANCE_PRESERVING: SchedulerConfig,
    FLOW: SigmaConfig,
    VARIANCE_EXPLODING: SigmaConfig,
}

T = TypeVar("T")


@dataclass(frozen=True)
class Description:
    """Everything about an inversion except its tensors, checked; attributes as for :class:`Inversion`."""

    method: str
    schedule: Schedule
    eta: tuple[Eta, ...]
    residual: tuple[float, ...]
    seed: int | None
    noise_path: str | None
    mixing: float | None


def metadata_of(inversion: Inversion) -> dict[str, str]:
    """Return the metadata of an inversion's file.

    A residual that is not finite is stored as unknown, because JSON has no such numbers.

    Raises:
        DDIMError: If it holds values that JSON cannot express.
    """
    plan = inversion.schedule.plan
    description = {
        "method": inversion.method,
        "eta": list(inversion.eta),
        "seed": inversion.seed,
        "noise_path": inversion.noise_path,
        "mixing": inversion.mixing,
        "residual": [value if math.isfinite(value) else None for value in inversion.residual.tolist()],
        "schedule": {
            "kind": inversion.schedule.noise.kind,
            "config": dict(inversion.schedule.config),
            "pairs": [list(pair) for pair in plan.pairs],
            "first": plan.first,
        },
    }
    try:
        text = json.dumps(description, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise DDIMError(f"its description must hold plain numbers and strings, got another value: {error}") from error
    return {"format": FORMAT, "version": VERSION, "inversion": text}


def parse_metadata(metadata: Mapping[str, str] | None) -> Description:
    """Parse and check the metadata of a file.

    Raises:
        DDIMError: If they are not those of a noise file, or hold a value that cannot be used.
    """
    metadata = metadata or {}
    if metadata.get("format") != FORMAT:
        raise DDIMError(
            f"its format must be {FORMAT!r}, got {show(metadata.get('format'), 20)}; noise files are written by "
            "save_noise or the node DDIM Save Noise"
        )
    if metadata.get("version") != VERSION:
        raise DDIMError(
            f"its format version must be {VERSION!r}, got {show(metadata.get('version'), 20)}; save it again with this "
            "version"
        )
    description = _parse_json(metadata.get("inversion", ""))
    schedule = _schedule(_required(description, "schedule", dict))
    mixing, noise_path = description.get("mixing"), description.get("noise_path")
    method = check_choice("method", description.get("method"), INVERSION_METHODS)
    if method == "edict" and mixing is None:
        raise DDIMError("its description must hold the mixing for method edict, got none")
    if method == "bdia" and len(schedule.plan) < 2:
        raise DDIMError("its schedule must have at least 2 steps for method bdia, got 1")
    seed = description.get("seed")
    return Description(
        method=method,
        schedule=schedule,
        eta=eta_of_each_step(_required(description, "eta", list), len(schedule.plan)),
        residual=tuple(_residual(value) for value in _required(description, "residual", list)),
        seed=None if seed is None else check_integer("seed", seed, -math.inf),
        noise_path=None if noise_path is None else check_choice("noise_path", noise_path, NOISE_PATHS),
        mixing=None if mixing is None else check_number("mixing", mixing, 1e-6, 1.0),
    )


def _parse_json(text: str) -> dict[str, Any]:
    containers = text.count("[") + text.count("{")
    if containers > MAX_JSON_CONTAINERS:
        raise DDIMError(
            f"its description must hold at most {MAX_JSON_CONTAINERS} lists and objects, as many as the longest plan "
            f"needs, got {containers}"
        )
    try:
        description = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DDIMError(f"its description must be valid JSON, got {show(text, 20)}") from error
    if not isinstance(description, dict):
        raise DDIMError(f"its description must be a JSON object, got {show(description, 20)}")
    return description


def _required(description: Mapping[str, Any], key: str, kind: type[T]) -> T:
    value = description.get(key)
    if not isinstance(value, kind):
        raise DDIMError(f"its description must hold {_JSON_TYPES[kind]} {key!r}, got {show(value, 40)}")
    return value


def _residual(value: Any) -> float:
    return math.nan if value is None else check_number("residual", value, 0.0)


def _schedule(description: Mapping[str, Any]) -> Schedule:
    config = _config(_required(description, "config", dict), description.get("kind", VARIANCE_PRESERVING))
    total = config.num_train_timesteps
    pairs = _required(description, "pairs", list)
    if not 1 <= len(pairs) <= total:
        raise DDIMError(f"its schedule must have 1 to {total} steps, one per training timestep, got {len(pairs)}")
    # Some of diffusers' lists of timesteps end with -1.
    lowest = END if parity_of(config.parity).steps_by_stride else 0
    plan = TimestepPlan(
        tuple(_pair(pair, lowest, total) for pair in pairs),
        check_integer("first step", description.get("first"), 0, total),
    )
    schedule = Schedule(config, plan)
    outside = [level for level in schedule.alpha_bars if not 0.0 <= level <= 1.0]
    if outside:
        raise DDIMError(f"its noise levels (alpha_bar) must be in [0, 1], got {outside[0]:g}")
    return schedule


def _config(given: Mapping[str, Any], kind: Any) -> Settings:
    """The settings in a file; one without a kind was written before there were others than variance preserving."""
    settings = _SETTINGS[check_choice("kind", kind, KINDS)]
    unknown = sorted(set(given) - set(settings.names()))
    if unknown:
        raise DDIMError(f"its schedule must hold only the settings of {settings.__name__}, got {show(unknown[0], 40)}")
    if settings is SigmaConfig and not {"kind", "sigmas"} <= set(given):
        raise DDIMError("its schedule must hold the kind and the sigmas of the model, got a schedule without them")
    config = settings(**given)
    if config.get("kind", kind) != kind:
        raise DDIMError(f"its kind must be that of its schedule, {config['kind']}, got {kind}")
    return config


def _pair(pair: Any, lowest: int, total: int) -> tuple[int, int]:
    if not isinstance(pair, list) or len(pair) != 2:
        raise DDIMError(f"each step of its schedule must be a pair of timesteps, got {show(pair, 40)}")
    t = check_integer("each timestep", pair[0], lowest, total - 1)
    return t, check_integer("each next timestep", pair[1], -total, t)

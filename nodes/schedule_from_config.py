"""A schedule from the configuration that came with a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..ddim import TIMESTEP_SPACINGS, ConfigReport, DDIMError, import_config
from .bridge import folder, model_facts, schedule_sigmas
from .planning import check_visited, describe, plan_run
from .sockets import DDIM_SCHEDULE, SIGMAS, choice, inputs, switch, text
from .ui_payloads import schedule_report

__all__ = ["DDIMScheduleFromConfig"]

PASTED = "(pasted text)"
FROM_CONFIG = "from config"
MAX_BYTES = 1_000_000  # a config with a thousand trained_betas is 25 kB
# Where models in the diffusers layout keep theirs, and a folder of one's own; of fixed depth, so that a large models
# folder costs nothing.
PLACES = ("diffusers/*/scheduler/scheduler_config.json", "diffusers/*/scheduler_config.json", "schedulers/*.json")


class DDIMScheduleFromConfig:
    """A diffusers ``scheduler_config.json`` as a DDIM schedule, with an account of every key."""

    CATEGORY = "DDIM/schedules"
    DESCRIPTION = (
        "Takes the noise levels, prediction type and spacing from a model's own scheduler_config.json (of any "
        "diffusers scheduler), pasted or from the models folder, and reports what was used, mapped, "
        "overridden and ignored."
    )
    SEARCH_ALIASES = ["scheduler_config.json", "diffusers", "import config", "zero snr", "ztsnr", "v-pred", "ddim"]
    RETURN_TYPES = (DDIM_SCHEDULE, SIGMAS, "STRING")
    RETURN_NAMES = ("schedule", "sigmas", "report")
    OUTPUT_TOOLTIPS = (
        "For DDIM Sample and the other DDIM nodes.",
        "The same steps for SamplerCustom and its like.",
        "What became of each key of the config.",
    )
    FUNCTION = "build"
    HAS_INTERMEDIATE_OUTPUT = True  # what it shows is shown again when a run finds it in the cache

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "config": text("", "The content of a scheduler_config.json.", multiline=True),
                "file": choice(
                    [PASTED, *_files()],
                    PASTED,
                    "A file in the models folder: diffusers/<model>/scheduler/scheduler_config.json or "
                    "schedulers/<name>.json. In use, the text above is not read.",
                ),
                **inputs("steps"),
                "timestep_spacing": choice(
                    [FROM_CONFIG, *TIMESTEP_SPACINGS], FROM_CONFIG, "Which timesteps are visited, if not as configured."
                ),
                **inputs("denoise"),
                "fix_known_defaults": switch(
                    True,
                    "Set right what surprises people: clip_sample, on by default and harmful to latents, is turned off "
                    "where the config does not ask for it; the run ends at a clean picture even where the config says "
                    "set_alpha_to_one=false, as SDXL's does. Off: exactly as written.",
                ),
                **inputs("start_step", "end_step"),
            },
            "optional": inputs("model"),
        }

    @classmethod
    def IS_CHANGED(cls, file: str = PASTED, **_: Any) -> Any:
        """A file that was edited must be read again."""
        path = None if file == PASTED else Path(folder("models"), file)
        return f"{path.stat().st_mtime_ns}:{path.stat().st_size}" if path is not None and path.is_file() else file

    def build(
        self,
        config: str,
        file: str,
        steps: int,
        timestep_spacing: str,
        denoise: float,
        fix_known_defaults: bool,
        start_step: int,
        end_step: int,
        model: Any = None,
    ) -> dict[str, Any]:
        given = _parsed(config if file == PASTED else _read(file), "config" if file == PASTED else file)
        report = import_config(given)
        overrides = _known_fixes(report) if fix_known_defaults else {}
        if timestep_spacing != FROM_CONFIG:
            overrides["timestep_spacing"] = timestep_spacing
        report = import_config(given, overrides)
        schedule = plan_run(report.config, steps, denoise, start_step, end_step, None)
        check_visited(schedule)
        facts = None if model is None else model_facts(model)
        table = None if facts is None or len(facts.sigmas) != len(schedule.noise) else facts.sigmas
        lines = describe(schedule, levels_from="the config") + "\n" + _account(report)
        shown = {"text": [lines], "ddim_schedule": [schedule_report(schedule)], "ddim_config": [report.as_dict()]}
        return {"ui": shown, "result": (schedule, schedule_sigmas(schedule, table), lines)}


def _files() -> list[str]:
    """The configs in the models folder, by their path in it."""
    base = Path(folder("models"))
    return sorted({path.relative_to(base).as_posix() for place in PLACES for path in base.glob(place)})


def _read(name: str) -> str:
    """A file that is on the list.

    Raises:
        DDIMError: if it is not, or is too large.
    """
    if name not in _files():
        raise DDIMError(f"file must be one of the configs in the models folder, got {name!r:.80}; reload the page")
    path = Path(folder("models"), name)
    if path.stat().st_size > MAX_BYTES:
        raise DDIMError(f"{name} has {path.stat().st_size} bytes; a scheduler's config has at most {MAX_BYTES}")
    return path.read_text(encoding="utf-8", errors="replace")


def _parsed(content: str, source: str) -> Mapping[str, Any]:
    """The JSON object in a text.

    Raises:
        DDIMError: for anything else.
    """
    if not content.strip():
        raise DDIMError("config is empty: paste the content of a scheduler_config.json, or choose a file")
    try:
        given = json.loads(content[: MAX_BYTES + 1])
    except (ValueError, RecursionError) as error:
        raise DDIMError(f"{source} is not JSON ({error}); paste the whole file, from {{ to }}") from error
    if not isinstance(given, dict):
        raise DDIMError(f"{source} must be a JSON object {{...}}, got {type(given).__name__}")
    return given


def _known_fixes(report: ConfigReport) -> dict[str, Any]:
    """Overrides for the two settings that surprise people."""
    fixes: dict[str, Any] = {}
    if report.config.clip_sample and "clip_sample" in report.defaulted:
        fixes["clip_sample"] = False
    if not report.config.set_alpha_to_one:
        fixes["set_alpha_to_one"] = True
    return fixes


def _account(report: ConfigReport) -> str:
    """What became of each key, a line per kind."""
    told = report.as_dict()
    settings = told["config"]
    lines = [
        ("used", [f"{name} = {value}" for name, value in told["used"].items() if name not in told["overridden"]]),
        ("mapped", [f"{key} to {item['setting']} = {item['value']}" for key, item in told["mapped"].items()]),
        ("overridden", [f"{name}: {value}, now {settings[name]}" for name, value in told["overridden"].items()]),
        ("by default", [f"{name} = {value}" for name, value in told["defaulted"].items()]),
        ("ignored", [f"{key} ({why})" for key, why in told["ignored"].items() if not key.startswith("_")]),
        ("note", told["notes"]),
    ]
    return "\n".join(f"{kind}: {'; '.join(entries)}" for kind, entries in lines if entries)

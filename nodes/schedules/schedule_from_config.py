"""DDIM Schedule from Config: a schedule from the configuration that came with a model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from ...ddim import (
    FLOW_SPACINGS,
    TIMESTEP_SPACINGS,
    ConfigReport,
    DDIMError,
    FlowConfig,
    Schedule,
    SchedulerConfig,
    import_config,
)
from ..backend import ModelFacts, check_kind, current, schedule_sigmas
from ..editor import schedule_report
from ..inputs import DDIM_SCHEDULE, SIGMAS, InputTypes, choice, inputs, switch, text
from ..values import FROM_MODEL, Model
from .planning import describe, plan_flow, plan_part, plan_steps, settle_output

__all__ = ["DDIMScheduleFromConfig"]

PASTED = "(pasted text)"
FROM_CONFIG = "from config"
MAX_BYTES = 1_000_000  # a config with a thousand trained_betas is 25 kB
# Where models in the diffusers layout have their configs, and a folder for single files. The depth is fixed, so that a
# large models folder costs nothing.
PATTERNS = ("diffusers/*/scheduler/scheduler_config.json", "diffusers/*/scheduler_config.json", "schedulers/*.json")


class DDIMScheduleFromConfig:
    """A diffusers ``scheduler_config.json`` as a DDIM schedule, with a report of how every key was interpreted."""

    CATEGORY = "DDIM/schedules"
    DESCRIPTION = (
        "Reads noise levels, prediction type and spacing from a model's own scheduler_config.json (of any diffusers "
        "scheduler, also of flow models), pasted or from the models folder, and reports what was used, mapped, "
        "overridden and ignored."
    )
    SEARCH_ALIASES = ["scheduler_config.json", "diffusers", "import config", "zero snr", "ztsnr", "v-pred", "ddim"]
    RETURN_TYPES = (DDIM_SCHEDULE, SIGMAS, "STRING")
    RETURN_NAMES = ("schedule", "sigmas", "report")
    OUTPUT_TOOLTIPS = (
        "For DDIM KSampler and the other DDIM nodes.",
        "The same steps for SamplerCustom and similar nodes.",
        "How each key of the config was interpreted.",
    )
    FUNCTION = "build"
    HAS_INTERMEDIATE_OUTPUT = True  # its report is shown again if a later run takes the node from the cache

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:
        return {
            "required": {},
            "optional": {
                "config": text("", "The content of a scheduler_config.json.", multiline=True),
                "file": choice(
                    [PASTED, *_config_files()],
                    PASTED,
                    "A file in the models folder: diffusers/<model>/scheduler/scheduler_config.json or "
                    "schedulers/<name>.json. If one is chosen, the text above is not read.",
                ),
                **inputs("steps"),
                "timestep_spacing": choice(
                    [FROM_CONFIG, *TIMESTEP_SPACINGS],
                    FROM_CONFIG,
                    "Which timesteps are visited, to override the config. A flow model has trailing and linspace.",
                ),
                **inputs("denoise"),
                "fix_known_defaults": switch(
                    True,
                    "Correct two common pitfalls: clip_sample, which is on by default and damages latents, is turned "
                    "off unless the config sets it; and the run ends at a clean image even if the config says "
                    "set_alpha_to_one=false, as SDXL's does. Off: use the config exactly as written.",
                ),
                **inputs("start_step", "end_step", "model"),
            },
        }

    @classmethod
    def IS_CHANGED(cls, file: str = PASTED, **_: Any) -> str:
        """Make the host read an edited file again."""
        path = None if file == PASTED else current().folder("models") / file
        return f"{path.stat().st_mtime_ns}:{path.stat().st_size}" if path is not None and path.is_file() else file

    def build(
        self,
        config: str = "",
        file: str = PASTED,
        steps: int = 20,
        timestep_spacing: str = FROM_CONFIG,
        denoise: float = 1.0,
        fix_known_defaults: bool = True,
        start_step: int = 0,
        end_step: int = 10000,
        model: Model | None = None,
        *,
        check: bool = True,  # off for the live plot, as in DDIM Schedule
    ) -> dict[str, Any]:
        given = _parse(config, "config") if file == PASTED else _parse(_read(file), file)
        spacing = None if timestep_spacing == FROM_CONFIG else timestep_spacing
        report = _import(given, spacing, fix_known_defaults=fix_known_defaults)
        schedule = plan_part(_plan(report, steps, denoise, spacing), start_step, end_step)
        facts = None if model is None else current().model_facts(model)
        schedule = settle_output(schedule, facts, from_model="prediction_type" in report.defaulted, check=check)
        lines = _describe(schedule, report) + "\n" + _explain(report)
        shown = {"text": [lines], "ddim_schedule": [schedule_report(schedule)], "ddim_config": [_account(report)]}
        return {"ui": shown, "result": (schedule, _sigmas(schedule, facts), lines)}


def _import(given: Mapping[str, Any], spacing: str | None, *, fix_known_defaults: bool) -> ConfigReport:
    """Import a configuration; of a flow model as it is, since the overrides are settings of other models."""
    report = import_config(given)
    if isinstance(report.config, FlowConfig):
        # The core's notes are about the arguments of its scheduler, which this node fills in itself.
        return replace(report, notes=tuple(_flow_notes(report, report.config, spacing)))
    overrides = {} if spacing is None else {"timestep_spacing": spacing}
    if fix_known_defaults:
        overrides |= _known_fixes(report.config, report.defaulted)
    return import_config(given, overrides) if overrides else report


def _account(report: ConfigReport) -> dict[str, Any]:
    """Return how each key was interpreted, in this node's words: a prediction type that is not named is the MODEL's."""
    account = report.as_dict()
    if "prediction_type" in account["defaulted"]:
        for part in ("config", "defaulted"):
            account[part]["prediction_type"] = FROM_MODEL
    return account


def _known_fixes(config: SchedulerConfig, defaulted: Mapping[str, Any]) -> dict[str, Any]:
    """Return overrides for the two settings that are common pitfalls."""
    fixes = {}
    if config.clip_sample and "clip_sample" in defaulted:
        fixes["clip_sample"] = False
    if not config.set_alpha_to_one:
        fixes["set_alpha_to_one"] = True
    return fixes


def _flow_notes(report: ConfigReport, config: FlowConfig, spacing: str | None) -> Iterator[str]:
    """Say what the node decides for a flow model."""
    if config.use_dynamic_shifting:
        yield (
            f"the shift depends on the size of the image: this schedule has mu = max_shift = {config.max_shift}, that "
            f"of an image of {config.max_image_seq_len} tokens. For other sizes, connect the MODEL to DDIM Schedule, "
            "after ModelSamplingFlux"
        )
    yield f"the sigmas are spaced as {_FLOW_SPACING_WORDS[_flow_spacing(report, spacing)]}"
    if spacing not in (None, *FLOW_SPACINGS):
        yield f"timestep_spacing {spacing} has no effect: a flow model has trailing and linspace"


_FLOW_SPACING_WORDS = {
    "trailing": "pipelines of Flux, Qwen-Image and LTX pass them, from 1 to 1 / steps before the shift",
    "linspace": "diffusers' flow scheduler does it, from 1 to 1 / num_train_timesteps before the shift; choose "
    "trailing for Flux schnell, whose pipeline passes its own",
    "unipc": "this solver does it, from 1 to about 1 / steps before the shift",
    "dpm": "this solver does it, from 1 - 1 / num_train_timesteps to about 1 / steps before the shift",
}


def _flow_spacing(report: ConfigReport, spacing: str | None) -> str:
    """Decide how the sigmas of a flow model are spaced: as chosen, or as the configuration's own pipelines do it."""
    if spacing in FLOW_SPACINGS:
        return spacing
    assert isinstance(report.config, FlowConfig)
    if report.source_class and "FlowMatch" not in report.source_class:
        return "unipc" if report.source_class.startswith("UniPC") else "dpm"
    return "trailing" if report.config.use_dynamic_shifting else "linspace"


def _plan(report: ConfigReport, steps: int, denoise: float, spacing: str | None) -> Schedule:
    if isinstance(report.config, FlowConfig):
        return plan_flow(report.config, steps, denoise, _flow_spacing(report, spacing))
    return plan_steps(report.config, steps, denoise)


def _describe(schedule: Schedule, report: ConfigReport) -> str:
    spacing = "spaced by the config" if isinstance(report.config, FlowConfig) else None
    return describe(schedule, levels_from="the config", spacing=spacing)


def _sigmas(schedule: Schedule, facts: ModelFacts | None) -> Tensor:
    """Return the SIGMAS of a schedule, as a connected MODEL counts them.

    Raises:
        DDIMError: If the MODEL is of another kind, or a sigma is infinite for it.
    """
    if facts is None:
        return schedule_sigmas(schedule)
    check_kind(facts.kind, schedule)
    return schedule_sigmas(schedule, facts.sigma_table(schedule))


def _config_files() -> list[str]:
    """List the configs in the models folder, by their path in it."""
    base = current().folder("models")
    return sorted({path.relative_to(base).as_posix() for pattern in PATTERNS for path in base.glob(pattern)})


def _read(name: str) -> str:
    """Read a file that is in the list.

    Raises:
        DDIMError: If it is not, or is too large.
    """
    if name not in _config_files():
        raise DDIMError(f"file must be one of the configs in the models folder, got {name!r:.80}; reload the page")
    path: Path = current().folder("models") / name
    if path.stat().st_size > MAX_BYTES:
        raise DDIMError(f"{name} has {path.stat().st_size} bytes; a scheduler's config has at most {MAX_BYTES}")
    return path.read_text(encoding="utf-8", errors="replace")


def _parse(content: str, source: str) -> Mapping[str, Any]:
    """Return the JSON object in a text.

    Raises:
        DDIMError: For anything else.
    """
    if not content.strip():
        raise DDIMError(f"{source} is empty: paste the content of a scheduler_config.json, or choose a file")
    try:
        given = json.loads(content[: MAX_BYTES + 1])
    except (ValueError, RecursionError) as error:
        raise DDIMError(f"{source} is not JSON ({error}); paste the whole file, from {{ to }}") from error
    if not isinstance(given, dict):
        raise DDIMError(f"{source} must be a JSON object {{...}}, got {type(given).__name__}")
    return given


def _explain(report: ConfigReport) -> str:
    """Say how each key was interpreted, one line per interpretation."""
    values = _account(report)
    config, overridden = values["config"], values["overridden"]
    lines = [
        ("used", [f"{name} = {value}" for name, value in values["used"].items() if name not in overridden]),
        ("mapped", [f"{key} to {item['setting']} = {item['value']}" for key, item in values["mapped"].items()]),
        ("overridden", [f"{name}: {value}, now {config[name]}" for name, value in overridden.items()]),
        ("by default", [f"{name} = {value}" for name, value in values["defaulted"].items()]),
        ("ignored", [f"{key} ({reason})" for key, reason in values["ignored"].items() if not key.startswith("_")]),
        ("note", values["notes"]),
    ]
    return "\n".join(f"{interpretation}: {'; '.join(entries)}" for interpretation, entries in lines if entries)

"""Reading another scheduler's configuration, with an account of what became of every key."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any

from ..errors import DDIMError, check_choice, check_number, show
from ..schedule.betas import betas_from_alpha_bar
from ..schedule.noise_levels import make_noise_schedule
from ..schedule.settings import SETTINGS, SchedulerConfig
from .config_notes import notes_on

__all__ = ["ConfigReport", "MappedKey", "import_config"]

MAX_KEYS = 512

_DEFAULTS = SchedulerConfig()


@dataclass(frozen=True)
class MappedKey:
    """A key of another scheduler that means one of our settings.

    Attributes:
        source_value: what the configuration said.
        setting: the setting that means the same.
        value: what it was set to.
    """

    source_value: Any
    setting: str
    value: Any


@dataclass(frozen=True)
class ConfigReport:
    """What :func:`import_config` made of a configuration.

    Attributes:
        config: the settings, checked.
        used: settings taken as they stood.
        mapped: keys of other schedulers that mean a setting, by their own name.
        overridden: settings that an override replaced, with the value that was replaced.
        ignored: keys that change nothing here, each with the reason.
        unknown: keys that no scheduler is known to have (they are in ``ignored`` too).
        defaulted: settings that the configuration did not give, with the value they got.
        notes: sentences about settings that people are often surprised by.
        source_class: the ``_class_name`` of the configuration, or "".
    """

    config: SchedulerConfig
    used: Mapping[str, Any]
    mapped: Mapping[str, MappedKey]
    overridden: Mapping[str, Any]
    ignored: Mapping[str, str]
    defaulted: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    source_class: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The report as plain values that JSON can hold; a list of betas is given by its length."""
        return {
            "config": {name: _brief(value) for name, value in self.config.items()},
            "used": {key: _brief(value) for key, value in self.used.items()},
            "mapped": {key: {k: _brief(v) for k, v in asdict(item).items()} for key, item in self.mapped.items()},
            "overridden": {key: _brief(value) for key, value in self.overridden.items()},
            "ignored": dict(self.ignored),
            "defaulted": {key: _brief(value) for key, value in self.defaulted.items()},
            "notes": list(self.notes),
            "unknown": list(self.unknown),
            "source_class": self.source_class,
        }


def import_config(config: Mapping[str, Any], overrides: Mapping[str, Any] | None = None) -> ConfigReport:
    """Take the settings of a scheduler's configuration: ours, diffusers' DDIM, or that of another class.

    Settings of the same name are taken as they are. Keys of other schedulers that mean the same as a setting are
    mapped to it, unless the setting itself is there. All other keys are ignored, with a reason. A setting that is not
    given gets our default, also where the other class has another one (the report lists it).

    Args:
        config: for instance the content of a ``scheduler_config.json``.
        overrides: settings that replace what the configuration says.

    Raises:
        DDIMError: for a value that is wrong, an override that is not a setting, or the configuration of a model that
            DDIM cannot sample (flow matching, EDM, consistency, discrete tokens).
    """
    given = _keys_of(config)
    source_class = _class_name(given)
    _refuse_foreign_models(source_class, given)
    reading = _Reading()
    for key, value in given.items():
        _read_key(key, value, given, reading)
    _shift_snr(source_class, given, reading)
    settings = {**reading.used, **{item.setting: item.value for item in reading.mapped.values()}}
    overridden = {name: settings.get(name, _DEFAULTS[name]) for name in _checked_overrides(overrides)}
    settings.update(overrides or {})
    checked = SchedulerConfig(**settings)
    defaulted = {name: checked[name] for name in SETTINGS if name not in settings}
    return ConfigReport(
        config=checked,
        used=MappingProxyType(reading.used),
        mapped=MappingProxyType(reading.mapped),
        overridden=MappingProxyType(overridden),
        ignored=MappingProxyType(reading.ignored),
        defaulted=MappingProxyType(defaulted),
        notes=notes_on(checked, source_class, defaulted, "snr_shift_scale" in reading.mapped),
        unknown=tuple(reading.unknown),
        source_class=source_class,
    )


@dataclass
class _Reading:
    """The lists of a report while they fill."""

    used: dict[str, Any] = field(default_factory=dict)
    mapped: dict[str, MappedKey] = field(default_factory=dict)
    ignored: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)


def _keys_of(config: Any) -> dict[str, Any]:
    """The configuration's own keys, without those that its class filled in by default (diffusers lists them)."""
    if not isinstance(config, Mapping):
        raise DDIMError(
            f"a scheduler's configuration must be a mapping of settings, got {type(config).__name__}; "
            "read a file or folder with from_pretrained"
        )
    if len(config) > MAX_KEYS:
        raise DDIMError(f"a scheduler's configuration has at most {MAX_KEYS} keys, got {len(config)}")
    wrong = [key for key in config if not isinstance(key, str)]
    if wrong:
        raise DDIMError(f"the keys of a scheduler's configuration must be strings, got {show(wrong[0])}")
    filled_in = config.get("_use_default_values") or ()
    if not isinstance(filled_in, (list, tuple)):
        raise DDIMError(f"_use_default_values must be a list of names, got {show(filled_in)}")
    skip = {name for name in filled_in if isinstance(name, str)} | {"_use_default_values"}
    return {key: value for key, value in config.items() if key not in skip}


def _class_name(config: Mapping[str, Any]) -> str:
    name = config.get("_class_name", "")
    return name if isinstance(name, str) else ""


# What a class name must contain, and why DDIM has nothing to say about it.
_FOREIGN_MODELS = {
    "FlowMatch": "a flow-matching model moves on a straight line and has no alpha_bar",
    "FlowMap": "a flow-map model moves on a straight line and has no alpha_bar",
    "EDM": "an EDM model is conditioned on sigma and has no training timesteps",
    "CMStochastic": "a consistency model is conditioned on sigma and has no alpha_bar",
    "VQDiffusion": "its data are discrete tokens",
    "DiscreteDDIM": "its data are discrete tokens",
    "ScoreSdeVe": "a variance-exploding model has no alpha_bar",
    "KarrasVe": "a variance-exploding model has no alpha_bar",
}


def _refuse_foreign_models(source_class: str, config: Mapping[str, Any]) -> None:
    reasons = [why for part, why in _FOREIGN_MODELS.items() if part in source_class]
    if config.get("prediction_type") == "flow_prediction" or config.get("use_flow_sigmas") is True:
        reasons.append(_FOREIGN_MODELS["FlowMatch"])
    if reasons:
        raise DDIMError(
            f"DDIM cannot sample the model of this {source_class or 'flow'} configuration: {reasons[0]}; "
            "use that model's own scheduler"
        )


# Names that the same prediction has elsewhere.
_PREDICTION_NAMES = {"v": "v_prediction", "velocity": "v_prediction", "v-prediction": "v_prediction", "eps": "epsilon",
                     "noise": "epsilon", "x0": "sample"}  # fmt: skip


def _from_final_sigma(value: Any) -> bool:
    """Whether the last step ends at sigma 0 (alpha_bar 1) or at the smallest sigma of training (alpha_bar[0])."""
    return check_choice("final_sigmas_type", value, ("zero", "sigma_min")) == "zero"


# Keys of other schedulers and tools that mean one of our settings: the setting, and its value.
_SAME_MEANING: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "final_sigmas_type": ("set_alpha_to_one", _from_final_sigma),  # DPMSolver, UniPC, Euler
    "set_alpha_to_zero": ("set_alpha_to_one", lambda value: value),  # the old name in DDIMInverseScheduler
    "zero_terminal_snr": ("rescale_betas_zero_snr", lambda value: value),  # training scripts
    "ztsnr": ("rescale_betas_zero_snr", lambda value: value),
    "_parity": ("parity", lambda value: value),  # our own files: private, so that diffusers passes over it
}

_OTHER_SOLVER = "belongs to another solver; DDIM is first order and has no such choice"
_OTHER_GRID = "chooses the steps of another scheduler; DDIM's are timestep_spacing and steps_offset"
_NOT_SCHEDULE = "is about training or loading, not about sampling"

_KNOWN_IGNORED: dict[str, str] = {
    **dict.fromkeys(
        ("skip_prk_steps", "solver_order", "solver_type", "algorithm_type", "lower_order_final", "euler_at_final",
         "predict_x0", "disable_corrector", "solver_p", "predictor_order", "corrector_order", "tau_func",
         "use_lu_lambdas", "lambda_min_clipped", "interpolation_type", "noise_sampler_seed"),
        _OTHER_SOLVER,
    ),
    **dict.fromkeys(
        ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_flow_sigmas", "flow_shift",
         "use_dynamic_shifting", "time_shift_type", "shift_terminal", "timestep_type", "sigma_min", "sigma_max", "rho",
         "original_inference_steps", "timestep_scaling", "set_sigmas"),
        _OTHER_GRID,
    ),
    "variance_type": "is the variance of DDPM; here it is the argument eta (fixed_small: 1, fixed_large: 'sigma_hat')",
    "eta": "is an argument of the step here, not a setting",
    "snr_shift_scale": "shifts nothing at 1",
    **dict.fromkeys(("_class_name", "_diffusers_version", "_commit_hash", "_name_or_path", "auto_map",
                     "quantization_config", "num_inference_steps"), _NOT_SCHEDULE),
}  # fmt: skip


def _read_key(key: str, value: Any, given: Mapping[str, Any], reading: _Reading) -> None:
    if key == "prediction_type" and isinstance(value, str) and value in _PREDICTION_NAMES:
        reading.mapped[key] = MappedKey(value, key, _PREDICTION_NAMES[value])
    elif key in SETTINGS:
        reading.used[key] = value
    elif key in _SAME_MEANING and _SAME_MEANING[key][0] in given:
        reading.ignored[key] = f"{_SAME_MEANING[key][0]} is given and says the same"
    elif key in _SAME_MEANING and value is not None:
        setting, convert = _SAME_MEANING[key]
        reading.mapped[key] = MappedKey(value, setting, convert(value))
    elif key in _KNOWN_IGNORED or key.startswith("_"):
        reading.ignored[key] = _KNOWN_IGNORED.get(key, "is private to the program that wrote it")
    else:
        reading.ignored[key] = "is not known"
        reading.unknown.append(key)


def _shift_snr(source_class: str, given: Mapping[str, Any], reading: _Reading) -> None:
    """CogVideoX divides the SNR of the noise schedule by a constant; here that is a list of betas.

    alpha_bar' = alpha_bar / (s + (1 - s) alpha_bar), before any rescaling to zero SNR.
    """
    cog_default = 3.0 if source_class.startswith("CogVideoX") else 1.0
    scale = check_number("snr_shift_scale", given.get("snr_shift_scale", cog_default), 1e-6)
    if scale == 1.0:
        return
    names = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas")
    plain = SchedulerConfig(**{name: given[name] for name in names if name in given})
    levels = make_noise_schedule(
        plain.num_train_timesteps, plain.beta_start, plain.beta_end, plain.beta_schedule, plain.trained_betas
    ).alpha_bar
    betas = betas_from_alpha_bar(levels / (scale + (1 - scale) * levels))
    reading.used.pop("trained_betas", None)
    reading.ignored.pop("snr_shift_scale", None)
    reading.mapped["snr_shift_scale"] = MappedKey(scale, "trained_betas", tuple(betas.tolist()))


def _checked_overrides(overrides: Mapping[str, Any] | None) -> tuple[str, ...]:
    for name in overrides or {}:
        check_choice("an override", name, SETTINGS)
    return tuple(overrides or {})


def _brief(value: Any) -> Any:
    """A value that JSON can hold."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return value[:200]
    if isinstance(value, (list, tuple)) or hasattr(value, "tolist"):
        return f"{len(value)} numbers"
    return show(value)

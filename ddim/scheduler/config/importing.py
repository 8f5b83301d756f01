"""Import of other schedulers' configurations, with a report on how each key was interpreted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any

from ...errors import DDIMError, check_choice, check_number, show
from ...schedule.betas import betas_from_alpha_bar
from ...schedule.settings import SETTINGS, SchedulerConfig, noise_schedule_of
from .keys import EQUIVALENT_KEYS, IGNORED_KEYS, PREDICTION_NAMES, UNSUPPORTED_MODELS
from .notes import notes_on

__all__ = ["ConfigReport", "MappedKey", "import_config"]

MAX_KEYS = 512  # configurations may come from untrusted files

_DEFAULTS = SchedulerConfig()


@dataclass(frozen=True)
class MappedKey:
    """A key of another scheduler that has the meaning of one of our settings.

    Attributes:
        source_value: the value in the configuration.
        setting: the setting with the same meaning.
        value: the value that this setting got.
    """

    source_value: Any
    setting: str
    value: Any


@dataclass(frozen=True)
class ConfigReport:
    """How :func:`import_config` interpreted a configuration.

    Attributes:
        config: the resulting settings, validated.
        used: settings taken over unchanged.
        mapped: keys of other schedulers that were mapped to a setting, by their own name.
        overridden: settings replaced by an override, with the value that was replaced.
        ignored: keys without effect here, each with the reason.
        defaulted: settings that the configuration did not contain, with the default they got.
        notes: warnings about common pitfalls in the configuration.
        unknown: keys that no known scheduler has; they are in ``ignored`` too.
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
        """Convert the report to JSON values; a list of betas is replaced by its length."""
        return {
            "config": {name: _json_value(value) for name, value in self.config.items()},
            "used": {key: _json_value(value) for key, value in self.used.items()},
            "mapped": {key: {k: _json_value(v) for k, v in asdict(item).items()} for key, item in self.mapped.items()},
            "overridden": {key: _json_value(value) for key, value in self.overridden.items()},
            "ignored": dict(self.ignored),
            "defaulted": {key: _json_value(value) for key, value in self.defaulted.items()},
            "notes": list(self.notes),
            "unknown": list(self.unknown),
            "source_class": self.source_class,
        }


def import_config(config: Mapping[str, Any], overrides: Mapping[str, Any] | None = None) -> ConfigReport:
    """Convert the configuration of any scheduler to settings of this package, and report on each key.

    Keys with the name of a setting are used unchanged. A key of another scheduler that has the meaning of a setting is
    mapped to it, unless the setting itself is given. All other keys are ignored, with a reason. A setting that is not
    given gets our default, even where the other class has a different one (the report lists these).

    Args:
        config: the configuration, for example the content of a ``scheduler_config.json``.
        overrides: settings that replace those of the configuration.

    Returns:
        The settings and the report.

    Raises:
        DDIMError: for an invalid value, an override that is not a setting, or the configuration of a model that DDIM
            cannot sample (flow matching, EDM, consistency, discrete tokens).
    """
    given = _explicit_settings(config)
    source_class = _class_name(given)
    _refuse_unsupported_models(source_class, given)
    lists = _ReportLists()
    for key, value in given.items():
        _classify_key(key, value, given, lists)
    _shift_snr(source_class, given, lists)
    settings = {**lists.used, **{item.setting: item.value for item in lists.mapped.values()}}
    overridden = {name: settings.get(name, _DEFAULTS[name]) for name in _checked_overrides(overrides)}
    settings.update(overrides or {})
    checked = SchedulerConfig(**settings)
    defaulted = {name: checked[name] for name in SETTINGS if name not in settings}
    return ConfigReport(
        config=checked,
        used=MappingProxyType(lists.used),
        mapped=MappingProxyType(lists.mapped),
        overridden=MappingProxyType(overridden),
        ignored=MappingProxyType(lists.ignored),
        defaulted=MappingProxyType(defaulted),
        notes=notes_on(checked, source_class, defaulted, "snr_shift_scale" in lists.mapped),
        unknown=tuple(lists.unknown),
        source_class=source_class,
    )


@dataclass
class _ReportLists:
    """The parts of a report that are filled key by key."""

    used: dict[str, Any] = field(default_factory=dict)
    mapped: dict[str, MappedKey] = field(default_factory=dict)
    ignored: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)


def _explicit_settings(config: Any) -> dict[str, Any]:
    """Return the keys that were set explicitly; diffusers lists the others in ``_use_default_values``."""
    if not isinstance(config, Mapping):
        raise DDIMError(
            f"a scheduler's configuration must be a mapping of settings, got {type(config).__name__}; "
            "to read a file or a folder, use from_pretrained"
        )
    if len(config) > MAX_KEYS:
        raise DDIMError(f"a scheduler's configuration has at most {MAX_KEYS} keys, got {len(config)}")
    for key in config:
        if not isinstance(key, str):
            raise DDIMError(f"the keys of a scheduler's configuration must be strings, got {show(key)}")
    filled_in = config.get("_use_default_values")
    filled_in = () if filled_in is None else filled_in
    if not isinstance(filled_in, (list, tuple)):
        raise DDIMError(f"_use_default_values must be a list of names, got {show(filled_in)}")
    skip = {name for name in filled_in if isinstance(name, str)} | {"_use_default_values"}
    return {key: value for key, value in config.items() if key not in skip}


def _class_name(config: Mapping[str, Any]) -> str:
    name = config.get("_class_name", "")
    return name if isinstance(name, str) else ""


def _refuse_unsupported_models(source_class: str, config: Mapping[str, Any]) -> None:
    reasons = [why for part, why in UNSUPPORTED_MODELS.items() if part in source_class]
    prediction_type = config.get("prediction_type")
    if (
        isinstance(prediction_type, str)
        and prediction_type == "flow_prediction"
        or config.get("use_flow_sigmas") is True
    ):
        reasons.append(UNSUPPORTED_MODELS["FlowMatch"])
    if reasons:
        raise DDIMError(
            f"DDIM cannot sample the model of this {source_class or 'flow'} configuration: {reasons[0]}; "
            "use the scheduler that the model was published with"
        )


def _classify_key(key: str, value: Any, given: Mapping[str, Any], lists: _ReportLists) -> None:
    """Add one key to the list of the report that it belongs to."""
    if key == "prediction_type" and isinstance(value, str) and value in PREDICTION_NAMES:
        lists.mapped[key] = MappedKey(value, key, PREDICTION_NAMES[value])
    elif key in SETTINGS:
        lists.used[key] = value
    elif key in EQUIVALENT_KEYS and EQUIVALENT_KEYS[key][0] in given:
        lists.ignored[key] = f"has the meaning of {EQUIVALENT_KEYS[key][0]}, which is given"
    elif key in EQUIVALENT_KEYS and value is not None:
        setting, convert = EQUIVALENT_KEYS[key]
        lists.mapped[key] = MappedKey(value, setting, convert(value))
    elif key in IGNORED_KEYS or key.startswith("_"):
        lists.ignored[key] = IGNORED_KEYS.get(key, "is a private key of the program that wrote it")
    else:
        lists.ignored[key] = "is unknown"
        lists.unknown.append(key)


def _shift_snr(source_class: str, given: Mapping[str, Any], lists: _ReportLists) -> None:
    """Convert CogVideoX's ``snr_shift_scale``, a division of the SNR by a constant s, to a list of betas.

    alpha_bar' = alpha_bar / (s + (1 - s) alpha_bar), before any rescaling to zero SNR.
    """
    default = 3.0 if source_class.startswith("CogVideoX") else 1.0
    scale = check_number("snr_shift_scale", given.get("snr_shift_scale", default), 1e-6)
    if scale == 1.0:
        return
    names = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas")
    unshifted = SchedulerConfig(**{name: given[name] for name in names if name in given})
    alpha_bar = noise_schedule_of(unshifted).alpha_bar
    betas = betas_from_alpha_bar(alpha_bar / (scale + (1 - scale) * alpha_bar))
    lists.used.pop("trained_betas", None)
    lists.ignored.pop("snr_shift_scale", None)
    lists.mapped["snr_shift_scale"] = MappedKey(scale, "trained_betas", tuple(betas.tolist()))


def _checked_overrides(overrides: Mapping[str, Any] | None) -> tuple[str, ...]:
    if not isinstance(overrides, Mapping | None):
        raise DDIMError(f"overrides must be a mapping of settings, got {show(overrides)}")
    for name in overrides or {}:
        check_choice("an override", name, SETTINGS)
    return tuple(overrides or {})


def _json_value(value: Any) -> Any:
    """Abbreviate a value to one that JSON can represent."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return value[:200]
    if isinstance(value, (list, tuple)) or hasattr(value, "tolist"):
        return f"{len(value)} numbers"
    return show(value)

"""Import of other schedulers' configurations, with a report on how each key was interpreted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any

from ...errors import DDIMError, check_choice, check_number, show
from ...schedule.betas import betas_from_alpha_bar
from ...schedule.flow_settings import FlowConfig
from ...schedule.settings import SchedulerConfig, noise_schedule_of
from .notes import flow_notes_on, notes_on
from .readers import FileSettings, Reader, reader_of

__all__ = ["ConfigReport", "MappedKey", "import_config", "read_config"]

MAX_KEYS = 512  # configurations may come from untrusted files


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
        config: the resulting settings, validated: a :class:`SchedulerConfig`, or of a flow model a :class:`FlowConfig`.
        reader: the name of the class that has these settings, ``"DDIMScheduler"`` or ``"DDIMFlowScheduler"``.
        used: settings taken over unchanged.
        mapped: keys of other schedulers that were mapped to a setting, by their own name.
        overridden: settings replaced by an override, with the value that was replaced.
        ignored: keys without effect here, each with the reason.
        defaulted: settings that the configuration did not contain, with the default they got.
        notes: warnings about common pitfalls in the configuration.
        unknown: keys that no known scheduler has; they are in ``ignored`` too.
        source_class: the ``_class_name`` of the configuration, or "".
    """

    config: FileSettings
    reader: str
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
            "reader": self.reader,
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
            cannot sample or whose noise levels it does not contain (EDM, consistency, discrete tokens).
    """
    return read_config(config, overrides)


def read_config(
    config: Mapping[str, Any], overrides: Mapping[str, Any] | None = None, preferred: str = "DDIMScheduler"
) -> ConfigReport:
    """Do the same as :func:`import_config`, for a caller with a preference.

    Args:
        config: the configuration.
        overrides: settings that replace those of the configuration.
        preferred: which class reads a configuration that may belong to a model of any kind.
    """
    given = _explicit_settings(config)
    source_class = _class_name(given)
    reader = reader_of(source_class, given, preferred)
    lists = _ReportLists()
    for key, value in given.items():
        _classify_key(key, value, given, reader, lists)
    if reader.make is SchedulerConfig:
        _shift_snr(source_class, given, lists)
    settings = {**lists.used, **{item.setting: item.value for item in lists.mapped.values()}}
    names = _checked_overrides(overrides, reader)
    overridden = {name: settings.get(name, reader.make()[name]) for name in names}
    settings.update(overrides or {})
    checked = reader.make(**settings)
    defaulted = {name: checked[name] for name in reader.settings if name not in settings}
    return ConfigReport(
        config=checked,
        reader=reader.name,
        used=MappingProxyType(lists.used),
        mapped=MappingProxyType(lists.mapped),
        overridden=MappingProxyType(overridden),
        ignored=MappingProxyType(lists.ignored),
        defaulted=MappingProxyType(defaulted),
        notes=_notes_on(checked, source_class, defaulted, lists),
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


def _classify_key(key: str, value: Any, given: Mapping[str, Any], reader: Reader, lists: _ReportLists) -> None:
    """Add one key to the list of the report that it belongs to."""
    if key == "prediction_type" and isinstance(value, str) and value in reader.predictions:
        lists.mapped[key] = MappedKey(value, key, reader.predictions[value])
    elif key in reader.settings:
        lists.used[key] = value
    elif key in reader.equivalent and reader.equivalent[key][0] in given:
        lists.ignored[key] = f"has the meaning of {reader.equivalent[key][0]}, which is given"
    elif key in reader.equivalent and value is not None:
        setting, convert = reader.equivalent[key]
        lists.mapped[key] = MappedKey(value, setting, convert(value))
    elif key in reader.ignored or key.startswith("_"):
        lists.ignored[key] = reader.ignored.get(key, "is a private key of the program that wrote it")
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


def _checked_overrides(overrides: Mapping[str, Any] | None, reader: Reader) -> tuple[str, ...]:
    if not isinstance(overrides, Mapping | None):
        raise DDIMError(f"overrides must be a mapping of settings, got {show(overrides)}")
    for name in overrides or {}:
        check_choice("an override", name, reader.settings)
    return tuple(overrides or {})


def _notes_on(
    config: FileSettings, source_class: str, defaulted: Mapping[str, Any], lists: _ReportLists
) -> tuple[str, ...]:
    if isinstance(config, FlowConfig):
        return flow_notes_on(config, source_class)
    return notes_on(config, source_class, defaulted, "snr_shift_scale" in lists.mapped)


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

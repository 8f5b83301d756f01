"""Which scheduler reads a configuration, and how it interprets the keys: one reader for each family of models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

from ...errors import DDIMError, show
from ...schedule.flow_settings import FLOW_SETTINGS, FlowConfig
from ...schedule.settings import SETTINGS, SchedulerConfig
from .keys import (
    EQUIVALENT_FLOW_KEYS,
    EQUIVALENT_KEYS,
    IGNORED_FLOW_KEYS,
    IGNORED_KEYS,
    PREDICTION_NAMES,
    UNSUPPORTED_MODELS,
    Convert,
)

__all__ = ["READERS", "FileSettings", "Reader", "reader_of"]

FileSettings: TypeAlias = SchedulerConfig | FlowConfig  # what a configuration file describes


class Reader(NamedTuple):
    """How the configurations of one family of models are interpreted.

    Attributes:
        name: of the scheduler class that has these settings.
        models: of which models, for messages.
        settings: the names of the settings.
        make: makes the settings from a mapping of names.
        equivalent: keys with the meaning of a setting: its name, and the conversion of the value.
        ignored: keys without effect, and the reason.
        predictions: other names of prediction types.
    """

    name: str
    models: str
    settings: tuple[str, ...]
    make: Callable[..., FileSettings]
    equivalent: Mapping[str, tuple[str, Convert]]
    ignored: Mapping[str, str]
    predictions: Mapping[str, str]


_VARIANCE_PRESERVING = Reader(
    "DDIMScheduler",
    "a variance preserving model",
    SETTINGS,
    SchedulerConfig,
    EQUIVALENT_KEYS,
    IGNORED_KEYS,
    PREDICTION_NAMES,
)
_FLOW = Reader(
    "DDIMFlowScheduler", "a flow model", FLOW_SETTINGS, FlowConfig, EQUIVALENT_FLOW_KEYS, IGNORED_FLOW_KEYS, {}
)

READERS: dict[str, Reader] = {reader.name: reader for reader in (_VARIANCE_PRESERVING, _FLOW)}

# Settings that only one family has; the others occur in the configurations of solvers for both.
_BETAS = frozenset({"beta_start", "beta_end", "beta_schedule", "trained_betas", "rescale_betas_zero_snr"})
_FLOW_CLASSES = ("FlowMatch", "LTXEulerAncestralRF", "MiniMaxH3")  # parts of the names of diffusers' classes
_FLOW_ONLY = frozenset({"shift", "base_shift", "max_shift", "base_image_seq_len", "max_image_seq_len", "invert_sigmas"})


def reader_of(source_class: str, config: Mapping[str, Any], preferred: str) -> Reader:
    """Return the reader of a configuration.

    Args:
        source_class: the class that the configuration belongs to, or "".
        config: the settings that it gives.
        preferred: the reader of a configuration that may belong to any model.

    Raises:
        DDIMError: for a model that DDIM cannot sample, or whose noise levels are not in a configuration.
    """
    for part, (reason, advice) in UNSUPPORTED_MODELS.items():
        if part in source_class:
            raise DDIMError(f"DDIM cannot sample the model of this {source_class} configuration: {reason}; {advice}")
    if {"kind", "sigmas"} <= config.keys():
        raise DDIMError(
            "these are the settings of a SigmaConfig, which no class of diffusers has; use "
            "DDIMScheduler.from_settings(SigmaConfig(...))"
        )
    if any(part in source_class for part in _FLOW_CLASSES) or config.get("use_flow_sigmas") is True:
        return _checked_flow(config)
    if _predicts_flow(config):
        return _FLOW
    if _BETAS & config.keys():
        return _VARIANCE_PRESERVING
    if _FLOW_ONLY & config.keys():
        return _FLOW
    return _VARIANCE_PRESERVING if source_class else READERS[preferred]


def _checked_flow(config: Mapping[str, Any]) -> Reader:
    highest = config.get("sigma_max")
    if isinstance(highest, int | float) and highest > 1:  # Cosmos: EDM's sigmas in the class of flow models
        raise DDIMError(
            f"the sigmas of a flow model are at most 1, and this configuration's sigma_max is {show(highest)}; "
            "make_schedule(steps, SigmaConfig(kind='variance_exploding', sigmas=...)) plans a run over other sigmas"
        )
    if "prediction_type" in config and not _predicts_flow(config):
        raise DDIMError(
            "prediction_type of a flow model must be 'flow_prediction' (output epsilon - x_0), got "
            f"{show(config['prediction_type'])}"
        )
    return _FLOW


def _predicts_flow(config: Mapping[str, Any]) -> bool:
    given = config.get("prediction_type")
    return isinstance(given, str) and given == "flow_prediction"  # an array is no string, and has no truth value

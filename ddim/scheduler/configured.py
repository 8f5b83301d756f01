"""The configuration side of a scheduler: frozen settings, other schedulers' configurations, files."""

from __future__ import annotations

import functools
import inspect
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

from ..errors import show
from ..schedule.settings import SETTINGS, SchedulerConfig
from .config_files import (
    CONFIG_NAME,
    ConfigDict,
    config_dict,
    kept_keys,
    read_config_file,
    warn_of_unknown_keys,
    write_config_file,
)
from .config_import import import_config

__all__ = ["ConfiguredScheduler", "remembering_what_was_given"]

Self = TypeVar("Self", bound="ConfiguredScheduler")
Init = TypeVar("Init", bound=Callable[..., None])


def remembering_what_was_given(init: Init) -> Init:
    """Let a constructor know which settings the caller gave, as opposed to defaults of the same value.

    diffusers' ``from_config`` takes over what was given and lets the other class choose its own defaults for the rest.
    """
    names = tuple(inspect.signature(init).parameters)[1:]

    @functools.wraps(init)
    def _remembering(self: ConfiguredScheduler, *args: Any, **kwargs: Any) -> None:
        self._given = frozenset((*names[: len(args)], *kwargs))
        init(self, *args, **kwargs)

    return _remembering  # type: ignore[return-value]


class ConfiguredScheduler:
    """A scheduler as far as its configuration goes."""

    config_name: ClassVar[str] = CONFIG_NAME
    has_compatibles: ClassVar[bool] = True
    _deprecated_kwargs: ClassVar[tuple[str, ...]] = ()

    _given: frozenset[str]

    def _set_up(self, config: SchedulerConfig, extras: Mapping[str, Any] | None = None) -> None:
        self._settings = config
        self._keep(extras or {})

    def _keep(self, extras: Mapping[str, Any]) -> None:
        """Show keys of another class in the configuration."""
        self._extras = dict(extras)
        self._config = config_dict(self._settings, type(self).__name__, self._given, self._extras)

    def _adopt(self, config: SchedulerConfig, extras: Mapping[str, Any]) -> None:
        """Take other settings in the middle of a scheduler's life."""
        self._set_up(config, extras)

    @property
    def settings(self) -> SchedulerConfig:
        """The settings as a frozen, hashable value: what a :class:`~ddim.Schedule` holds."""
        return self._settings

    @property
    def config(self) -> ConfigDict:
        """The settings as a frozen dict with attributes, as diffusers' schedulers and pipelines hand them about."""
        return self._config

    @property
    def _internal_dict(self) -> ConfigDict:
        return self._config

    @_internal_dict.setter
    def _internal_dict(self, config: Mapping[str, Any]) -> None:
        # Pipelines of diffusers replace outdated settings (clip_sample, steps_offset) by assigning this.
        report = import_config(config)
        self._given = frozenset(name for name in SETTINGS if name not in report.defaulted)
        self._adopt(report.config, {**self._extras, **kept_keys(report, config)})

    def register_to_config(self, **settings: Any) -> None:
        """Change settings, as diffusers' own schedulers let their pipelines do."""
        self._internal_dict = {**self._config, **settings}

    def __getattr__(self, name: str) -> Any:
        config = self.__dict__.get("_config", {})
        if name.startswith("__") or name not in config:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        warnings.warn(f"read scheduler.config.{name} instead of scheduler.{name}", FutureWarning, stacklevel=2)
        return config[name]

    @classmethod
    def from_settings(cls: type[Self], config: SchedulerConfig, extras: Mapping[str, Any] | None = None) -> Self:
        """A scheduler with settings that are already checked."""
        scheduler = cls.__new__(cls)
        scheduler._given = frozenset(SETTINGS)
        scheduler._set_up(config, extras)
        return scheduler

    @classmethod
    def from_config(cls: type[Self], config: Mapping[str, Any], **overrides: Any) -> Self:
        """A scheduler with the settings of another one, ours or diffusers', of this class or another.

        What becomes of each key is told by :func:`ddim.import_config`; keys that no scheduler is known to have are
        named in one warning.

        Args:
            config: a mapping of settings, such as ``pipe.scheduler.config``.
            **overrides: settings that replace what the configuration says.

        Raises:
            DDIMError: for a wrong value or an override that is not a setting.
        """
        report = import_config(config, overrides)
        warn_of_unknown_keys(report, cls.__name__)
        scheduler = cls(**{name: value for name, value in report.config.items() if name not in report.defaulted})
        scheduler._keep(kept_keys(report, config))
        return scheduler

    @classmethod
    def load_config(cls, folder: str | os.PathLike[str], subfolder: str | None = None) -> dict[str, Any]:
        """The content of a ``scheduler_config.json``; see :meth:`from_pretrained`."""
        return read_config_file(folder, subfolder)

    @classmethod
    def from_pretrained(
        cls: type[Self], folder: str | os.PathLike[str], subfolder: str | None = None, **overrides: Any
    ) -> Self:
        """A scheduler with the settings of a ``scheduler_config.json``.

        Args:
            folder: a local folder with the file, or a pipeline's folder, or the file itself.
            subfolder: where in the folder it is.
            **overrides: settings that replace what the file says.

        Raises:
            DDIMError: if there is no such file, or as :meth:`from_config` does.
        """
        return cls.from_config(read_config_file(folder, subfolder), **overrides)

    def save_config(self, save_directory: str | os.PathLike[str]) -> None:
        """Write ``scheduler_config.json``, byte for byte as diffusers does; whole or not at all.

        Args:
            save_directory: a folder; made if it is not there.
        """
        write_config_file(self._config, save_directory)

    def save_pretrained(self, save_directory: str | os.PathLike[str]) -> None:
        """The same as :meth:`save_config`."""
        self.save_config(save_directory)

    @property
    def compatibles(self) -> list[type]:
        """Classes that can be made from this scheduler's config and back: this one, and diffusers' where it is loaded.

        EDM's is left out, which diffusers counts in: its models have no training timesteps.
        """
        diffusers: Any = sys.modules.get("diffusers")
        if diffusers is None:
            return [type(self)]
        names = [member.name for member in diffusers.schedulers.scheduling_utils.KarrasDiffusionSchedulers]
        found = [getattr(diffusers, name) for name in names if hasattr(diffusers, name) and not name.startswith("EDM")]
        usable = [one for one in found if not isinstance(one, diffusers.utils.DummyObject)]
        return [type(self), *(one for one in usable if one is not type(self))]

    def __repr__(self) -> str:
        default = SchedulerConfig()
        changed = [name for name in SETTINGS if self._settings[name] != default[name]]
        return f"{type(self).__name__}({', '.join(f'{name}={show(self._settings[name])}' for name in changed)})"

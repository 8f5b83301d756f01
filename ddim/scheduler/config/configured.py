"""The configuration of a scheduler: frozen settings, conversion from other schedulers, files."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple, TypeVar

from ...errors import DDIMError, show
from ...schedule.settings import Settings, check_config
from .files import (
    CONFIG_NAME,
    ConfigDict,
    config_dict,
    keys_to_keep,
    read_config_file,
    warn_of_unknown_keys,
    write_config_file,
)
from .importing import read_config
from .readers import READERS, FileSettings

__all__ = ["ConfiguredScheduler", "ReadConfig", "record_given_settings"]

Self = TypeVar("Self", bound="ConfiguredScheduler")
Init = TypeVar("Init", bound=Callable[..., None])


class ReadConfig(NamedTuple):
    """What a scheduler takes from a configuration.

    Attributes:
        settings: the settings, validated.
        given: those that the configuration contains, for the constructor.
        extras: keys of another class, kept so that it can be restored.
    """

    settings: FileSettings
    given: dict[str, Any]
    extras: dict[str, Any]


def record_given_settings(init: Init) -> Init:
    """Decorate a constructor to record which settings the caller gave, as opposed to defaults.

    diffusers' ``from_config`` passes on the settings that were given, and lets the new class use its own defaults for
    the others.
    """
    names = tuple(inspect.signature(init).parameters)[1:]

    @functools.wraps(init)
    def _recording_init(self: ConfiguredScheduler, *args: Any, **kwargs: Any) -> None:
        self._given = frozenset((*names[: len(args)], *kwargs))
        init(self, *args, **kwargs)

    return _recording_init  # type: ignore[return-value]


class ConfiguredScheduler:
    """The part of a scheduler that deals with its configuration."""

    config_name: ClassVar[str] = CONFIG_NAME
    has_compatibles: ClassVar[bool] = True
    _deprecated_kwargs: ClassVar[tuple[str, ...]] = ()
    _reader: ClassVar[str] = "DDIMScheduler"  # of configurations; a key of READERS
    _class_in_diffusers: ClassVar[str | None] = None  # that reads our configurations, if its name is another one

    _given: frozenset[str]
    _settings: Settings

    def _set_up(self, config: Settings, extras: Mapping[str, Any] | None = None) -> None:
        self._settings = config
        self._keep_extras({} if extras is None else extras)

    def _keep_extras(self, extras: Mapping[str, Any]) -> None:
        """Keep keys of another class as part of the configuration."""
        if not isinstance(extras, Mapping):
            raise DDIMError(f"extras must be a mapping of settings or None, got {show(extras)}")
        self._extras = dict(extras)
        name = self._class_in_diffusers or self._class_name()
        self._config = config_dict(self._described_settings, name, self._given, self._extras)

    @classmethod
    def _class_name(cls) -> str:
        """The name in the source, also where ``__name__`` is that of a class of diffusers."""
        return cls.__qualname__.rpartition(".")[2]

    @property
    def _described_settings(self) -> Settings | FileSettings:
        """The settings that the configuration describes."""
        return self._settings

    def _adopt(self, config: FileSettings, extras: Mapping[str, Any]) -> None:
        """Replace the settings of an existing scheduler."""
        raise NotImplementedError

    @property
    def settings(self) -> Settings:
        """The settings as a frozen, hashable value, as in :class:`~ddim.Schedule`."""
        return self._settings

    @property
    def config(self) -> ConfigDict:
        """The settings as a frozen dict with attributes, the form that diffusers passes around."""
        return self._config

    @property
    def _internal_dict(self) -> ConfigDict:
        return self._config

    @_internal_dict.setter
    def _internal_dict(self, config: Mapping[str, Any]) -> None:
        # diffusers' pipelines assign this attribute to replace outdated settings (clip_sample, steps_offset), and leave
        # these in the list of those that nobody gave.
        defaulted = config.get("_use_default_values", ())
        unchanged = [name for name in defaulted if _same(config.get(name), self._config[name])]
        read = self._read_config({**config, "_use_default_values": unchanged}, {})
        self._given = frozenset(read.given)
        self._adopt(read.settings, {**self._extras, **read.extras})

    def register_to_config(self, **settings: Any) -> None:
        """Change settings after construction, as diffusers' pipelines do."""
        self._internal_dict = {**self._config, **settings}

    def __getattr__(self, name: str) -> Any:
        config = self.__dict__.get("_config", {})
        if name.startswith("__") or name not in config:
            raise self._missing(name)
        warnings.warn(f"read scheduler.config.{name} instead of scheduler.{name}", FutureWarning, stacklevel=2)
        return config[name]

    def _missing(self, name: str) -> AttributeError:
        """The error for an attribute that there is not."""
        return AttributeError(f"{self._class_name()!r} object has no attribute {name!r}")

    @classmethod
    def from_settings(cls: type[Self], config: Settings, extras: Mapping[str, Any] | None = None) -> Self:
        """Make a scheduler from settings that are already validated, of a model of any kind."""
        scheduler = cls.__new__(cls)
        scheduler._given = frozenset(check_config(config))
        scheduler._set_up(config, extras)
        return scheduler

    @classmethod
    def from_config(cls: type[Self], config: Mapping[str, Any], **overrides: Any) -> Self:
        """Make a scheduler with the settings of another one, from this package or diffusers, of any class.

        :func:`ddim.import_config` reports how each key is interpreted. Keys that no known scheduler has are listed in
        one warning.

        Args:
            config: a mapping of settings, such as ``pipe.scheduler.config``.
            **overrides: settings that replace what the configuration says.

        Raises:
            DDIMError: for an invalid value, an override that is not a setting, or the configuration of a model that
                another class of this package samples.
        """
        read = cls._read_config(config, overrides)
        scheduler = cls(**read.given)
        scheduler._keep_extras(read.extras)
        return scheduler

    @classmethod
    def _read_config(cls, config: Mapping[str, Any], overrides: Mapping[str, Any]) -> ReadConfig:
        """Interpret a configuration, and warn of keys that no known scheduler has."""
        report = read_config(config, overrides, cls._reader)
        if report.reader != cls._reader:
            source = f"{report.source_class} " if report.source_class else ""
            raise DDIMError(
                f"this {source}configuration is of {READERS[report.reader].models}, which {cls._class_name()} does not "
                f"sample; use {report.reader}.from_config"
            )
        warn_of_unknown_keys(report, cls._class_name())
        given = {name: value for name, value in report.config.items() if name not in report.defaulted}
        return ReadConfig(report.config, given, keys_to_keep(report, config))

    @classmethod
    def load_config(cls, folder: str | os.PathLike[str], subfolder: str | None = None) -> dict[str, Any]:
        """Read a ``scheduler_config.json``; see :meth:`from_pretrained`."""
        return read_config_file(folder, subfolder)

    @classmethod
    def from_pretrained(
        cls: type[Self], folder: str | os.PathLike[str], subfolder: str | None = None, **overrides: Any
    ) -> Self:
        """Make a scheduler with the settings of a ``scheduler_config.json``.

        Args:
            folder: a local folder that contains the file, a pipeline's folder, or the file itself.
            subfolder: the subfolder that contains the file.
            **overrides: settings that replace what the file says.

        Raises:
            DDIMError: if there is no such file, and where :meth:`from_config` raises it.
        """
        return cls.from_config(read_config_file(folder, subfolder), **overrides)

    def save_config(self, save_directory: str | os.PathLike[str]) -> None:
        """Write ``scheduler_config.json`` atomically, byte for byte as diffusers writes it.

        Args:
            save_directory: the folder to write to; created if it does not exist.

        Raises:
            DDIMError: if ``save_directory`` is a file, or a value cannot be written as JSON.
        """
        write_config_file(self._config, save_directory)

    def save_pretrained(self, save_directory: str | os.PathLike[str]) -> None:
        """Do the same as :meth:`save_config`."""
        self.save_config(save_directory)

    @property
    def compatibles(self) -> list[type]:
        """Classes that accept this scheduler's configuration: this one, and diffusers' if diffusers is imported.

        EDM schedulers, which diffusers lists, are left out: their models have no training timesteps.
        """
        diffusers: Any = sys.modules.get("diffusers")
        if diffusers is None:
            return [type(self)]
        names = self._compatible_names(diffusers)
        found = [getattr(diffusers, name) for name in names if hasattr(diffusers, name)]
        usable = [scheduler for scheduler in found if not isinstance(scheduler, diffusers.utils.DummyObject)]
        return [type(self), *(scheduler for scheduler in usable if scheduler is not type(self))]

    @staticmethod
    def _compatible_names(diffusers: Any) -> list[str]:
        names = [member.name for member in diffusers.schedulers.scheduling_utils.KarrasDiffusionSchedulers]
        return [name for name in names if not name.startswith("EDM")]

    def __repr__(self) -> str:
        settings = self._described_settings
        defaults = {field.name: field.default for field in dataclasses.fields(settings)}
        changed = [name for name in settings if settings[name] != defaults[name]]
        return f"{self._class_name()}({', '.join(f'{name}={show(settings[name])}' for name in changed)})"


def _same(value: object, other: object) -> bool:
    return type(value) is type(other) and bool(value == other)  # an array, compared with a number, has no truth value

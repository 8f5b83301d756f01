"""The configuration as diffusers hands it about: a frozen dict, and ``scheduler_config.json``."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from ..errors import DDIMError
from ..files import write_atomically
from ..schedule.settings import SETTINGS, SchedulerConfig
from .config_import import ConfigReport

__all__ = [
    "CONFIG_NAME",
    "ConfigDict",
    "config_dict",
    "kept_keys",
    "read_config_file",
    "warn_of_unknown_keys",
    "write_config_file",
]

CONFIG_NAME = "scheduler_config.json"
DIFFUSERS_VERSION = "0.42.1"  # the version whose files ours are equal to, byte for byte
MAX_FILE_BYTES = 32 * 2**20  # a million betas fit

_PARITY_KEY = "_parity"  # private: diffusers passes over keys that begin with an underscore
_log = logging.getLogger(__name__)


class ConfigDict(dict[str, Any]):
    """A configuration that reads as a dict and as attributes, and cannot be changed.

    It is a real ``dict`` because diffusers' ``from_config`` takes nothing else. ``parity`` is not among its items, as
    diffusers' schedulers would warn of it (``_parity`` is, where it is not the default), but it can be read like one.
    """

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the configuration has no {name!r}; it has {', '.join(self)}") from None

    def __missing__(self, key: str) -> Any:
        if key == "parity":
            return super().get(_PARITY_KEY, "exact")
        raise KeyError(key)

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key, or ``default``."""
        return self[key] if key in self or key == "parity" else default

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise DDIMError(
            "the configuration is frozen; make another scheduler: type(scheduler).from_config(scheduler.config, ...)"
        )

    __setattr__ = __setitem__ = __delitem__ = __delattr__ = __ior__ = _refuse
    update = setdefault = pop = popitem = clear = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self),)


def config_dict(
    config: SchedulerConfig, class_name: str, given: frozenset[str], extras: Mapping[str, Any]
) -> ConfigDict:
    """The configuration as a :class:`ConfigDict`.

    Args:
        config: the settings.
        class_name: of the scheduler.
        given: names of the settings that were given; the others are listed in ``_use_default_values``, so that another
            class made from this configuration uses its own defaults for them.
        extras: keys of another class, kept for the way back.
    """
    items: dict[str, Any] = {name: config[name] for name in SETTINGS if name != "parity"}
    items.update({key: value for key, value in extras.items() if key not in SETTINGS})
    if config.parity != "exact":
        items[_PARITY_KEY] = config.parity
    defaults = [name for name in SETTINGS if name not in given and name in items]
    if defaults:
        items["_use_default_values"] = defaults
    items["_class_name"] = class_name
    items["_diffusers_version"] = DIFFUSERS_VERSION
    return ConfigDict(items)


def kept_keys(report: ConfigReport, config: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of another class that mean nothing here but that class would want back: plain values only."""
    plain = (bool, int, float, str, list, tuple, dict, type(None))
    named = {"_class_name", "_diffusers_version", "_use_default_values", _PARITY_KEY}
    return {key: config[key] for key in report.ignored if key not in named and isinstance(config[key], plain)}


def warn_of_unknown_keys(report: ConfigReport, class_name: str) -> None:
    """One warning that lists every key that no scheduler is known to have."""
    if report.unknown:
        listed = ", ".join(repr(key) for key in report.unknown)
        _log.warning("%s does not know %s: ignored. Is the configuration spelt right?", class_name, listed)


def write_config_file(config: Mapping[str, Any], folder: str | os.PathLike[str]) -> None:
    """Write ``scheduler_config.json`` as diffusers does; whole or not at all.

    Raises:
        DDIMError: if the folder is a file, or a value cannot be written.
    """
    target = Path(folder)
    if target.is_file():
        raise DDIMError(f"save_config needs a folder, got the file {target}; give its parent")
    content = {key: value for key, value in config.items() if key != "_use_default_values"}
    try:
        text = json.dumps(content, indent=2, sort_keys=True) + "\n"
    except (TypeError, ValueError) as error:
        raise DDIMError(f"the configuration cannot be written as JSON: {error}") from error
    target.mkdir(parents=True, exist_ok=True)
    write_atomically(target / CONFIG_NAME, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def read_config_file(path: str | os.PathLike[str], subfolder: str | None = None) -> dict[str, Any]:
    """Read ``scheduler_config.json`` from a folder.

    Args:
        path: a folder that holds the file, itself or in ``subfolder`` (or, for a whole pipeline, in ``scheduler``);
            or the file.
        subfolder: where to look first.

    Raises:
        DDIMError: if there is no such file, or it is no JSON object, or too large.
    """
    file = _find_file(Path(path), subfolder)
    if file.stat().st_size > MAX_FILE_BYTES:
        raise DDIMError(f"{file} is larger than {MAX_FILE_BYTES} bytes: not a scheduler's configuration")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # ValueError: no JSON, no UTF-8, or a number without end
        raise DDIMError(f"{file} must be a JSON object of settings, but cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise DDIMError(f"{file} must be a JSON object of settings, got a {type(content).__name__}")
    return content


def _find_file(path: Path, subfolder: str | None) -> Path:
    if path.is_file():
        return path
    folders = [path / subfolder, path] if subfolder else [path, path / "scheduler"]
    for folder in folders:
        if (folder / CONFIG_NAME).is_file():
            return folder / CONFIG_NAME
    looked = " or ".join(str(folder) for folder in folders)
    raise DDIMError(
        f"there is no {CONFIG_NAME} in {looked}; from_pretrained reads local folders only, so download a model first "
        "or pass the dict to from_config"
    )

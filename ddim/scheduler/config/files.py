"""The configuration in diffusers' forms: a frozen dict, and the file ``scheduler_config.json``."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from ...arguments import check_path
from ...errors import DDIMError
from ...files import write_atomically
from ...schedule.settings import Settings
from .importing import ConfigReport

__all__ = [
    "CONFIG_NAME",
    "ConfigDict",
    "config_dict",
    "keys_to_keep",
    "read_config_file",
    "warn_of_unknown_keys",
    "write_config_file",
]

CONFIG_NAME = "scheduler_config.json"
DIFFUSERS_VERSION = "0.42.1"  # its files are reproduced byte for byte
MAX_FILE_BYTES = 32 * 2**20  # enough for a million betas

_PARITY_KEY = "_parity"  # diffusers ignores keys that start with an underscore
_log = logging.getLogger(__name__)


class ConfigDict(dict[str, Any]):
    """A read-only configuration, with its items also readable as attributes.

    It is a ``dict`` because diffusers' ``from_config`` accepts nothing else. ``parity`` can be read but is not among
    the items, because diffusers' schedulers would warn about it; ``_parity`` is, unless it has its default value.
    """

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(
                f"the configuration has no setting {name!r}; its settings are {', '.join(self)}"
            ) from None

    def __missing__(self, key: str) -> Any:
        if key == "parity":
            return super().get(_PARITY_KEY, "exact")
        raise KeyError(key)

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key, or ``default``."""
        return self[key] if key in self or key == "parity" else default

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise DDIMError(
            "the configuration is frozen; make a new scheduler with type(scheduler).from_config(scheduler.config, ...)"
        )

    __setattr__ = __setitem__ = __delitem__ = __delattr__ = __ior__ = _refuse
    update = setdefault = pop = popitem = clear = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self),)


def config_dict(config: Settings, class_name: str, given: frozenset[str], extras: Mapping[str, Any]) -> ConfigDict:
    """Convert a configuration to a :class:`ConfigDict`.

    Args:
        config: the settings.
        class_name: the name of the scheduler's class.
        given: names of the settings that the caller gave; the others are listed in ``_use_default_values``, so that
            another class made from this configuration uses its own defaults for them.
        extras: keys of another class, kept so that it can be restored from this configuration.
    """
    items: dict[str, Any] = {name: value for name, value in config.items() if name != "parity"}
    items.update({key: value for key, value in extras.items() if key not in config})
    if config.parity != "exact":
        items[_PARITY_KEY] = config.parity
    defaults = [name for name in config if name not in given and name in items]
    if defaults:
        items["_use_default_values"] = defaults
    items["_class_name"] = class_name
    items["_diffusers_version"] = DIFFUSERS_VERSION
    return ConfigDict(items)


def keys_to_keep(report: ConfigReport, config: Mapping[str, Any]) -> dict[str, Any]:
    """Select the ignored keys of another class that have plain values, so that it can be restored from them."""
    plain = (bool, int, float, str, list, tuple, dict, type(None))
    named = {"_class_name", "_diffusers_version", "_use_default_values", _PARITY_KEY}
    return {key: config[key] for key in report.ignored if key not in named and isinstance(config[key], plain)}


def warn_of_unknown_keys(report: ConfigReport, class_name: str) -> None:
    """Log one warning that lists every key that no known scheduler has."""
    if report.unknown:
        listed = ", ".join(repr(key) for key in report.unknown)
        _log.warning("%s ignores the unknown settings %s; check their spelling", class_name, listed)


def write_config_file(config: Mapping[str, Any], folder: str | os.PathLike[str]) -> None:
    """Write ``scheduler_config.json`` atomically, as diffusers formats it.

    Raises:
        DDIMError: if ``folder`` is a file, or a value cannot be written as JSON.
    """
    target = check_path("save_directory", folder)
    if target.is_file():
        raise DDIMError(f"save_config needs a folder, got the file {target}; pass its parent folder")
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
        path: the file, or a folder that contains it directly, in ``subfolder``, or (as in a pipeline) in ``scheduler``.
        subfolder: the subfolder to search first.

    Raises:
        DDIMError: if there is no such file, if it is not a JSON object, or if it is too large.
    """
    file = _find_file(check_path("folder", path), None if subfolder is None else check_path("subfolder", subfolder))
    if file.stat().st_size > MAX_FILE_BYTES:
        raise DDIMError(f"{file} is larger than {MAX_FILE_BYTES} bytes, so it is not a scheduler's configuration")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # ValueError: not JSON, not UTF-8, or a number with too many digits
        raise DDIMError(f"{file} must be a JSON object of settings, but it cannot be parsed: {error}") from error
    if not isinstance(content, dict):
        raise DDIMError(f"{file} must be a JSON object of settings, got a {type(content).__name__}")
    return content


def _find_file(path: Path, subfolder: Path | None) -> Path:
    if path.is_file():
        return path
    folders = [path / subfolder, path] if subfolder else [path, path / "scheduler"]
    for folder in folders:
        if (folder / CONFIG_NAME).is_file():
            return folder / CONFIG_NAME
    searched = " or ".join(str(folder) for folder in folders)
    raise DDIMError(
        f"there is no {CONFIG_NAME} in {searched}; from_pretrained reads local folders only, so download the model "
        "first, or pass its configuration as a dict to from_config"
    )

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
from ...schedule.sigma_settings import SigmaConfig
from .importing import ConfigReport
from .keys import RESTORED_KEYS
from .readers import FileSettings

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

# Settings that diffusers does not have, with their defaults. They are not items of a configuration, because diffusers'
# schedulers would warn about them; unless it has its default, a value is stored under its name with an underscore,
# which diffusers ignores.
_OUR_OWN: dict[str, Any] = {"parity": "exact", "eta": 0.0}

_log = logging.getLogger(__name__)


class ConfigDict(dict[str, Any]):
    """A read-only configuration, with its items also readable as attributes.

    It is a ``dict`` because diffusers' ``from_config`` accepts nothing else. Settings that diffusers does not have
    (``parity``, ``eta``) can be read but are not among the items, because diffusers' schedulers would warn about them.
    Unless they have their default, the items hold them with an underscore (``_parity``), which diffusers ignores.

    Args:
        items: what diffusers sees.
        own: the settings that can only be read.
    """

    def __init__(self, items: Mapping[str, Any], own: Mapping[str, Any]) -> None:
        super().__init__(items)
        object.__setattr__(self, "_own", dict(own))

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(
                f"the configuration has no setting {name!r}; its settings are {', '.join(self)}"
            ) from None

    def __missing__(self, key: str) -> Any:
        return self.__dict__["_own"][key]

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key, or ``default``."""
        return self[key] if key in self or key in self.__dict__["_own"] else default

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise DDIMError(
            "the configuration is frozen; make a new scheduler with type(scheduler).from_config(scheduler.config, ...)"
        )

    __setattr__ = __setitem__ = __delitem__ = __delattr__ = __ior__ = _refuse
    update = setdefault = pop = popitem = clear = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self), self.__dict__["_own"])


def config_dict(
    config: FileSettings | SigmaConfig, class_name: str, given: frozenset[str], extras: Mapping[str, Any]
) -> ConfigDict:
    """Convert a configuration to a :class:`ConfigDict`.

    Args:
        config: the settings.
        class_name: the name of the class in diffusers that reads them.
        given: names of the settings that the caller gave; the others are listed in ``_use_default_values``, so that
            another class made from this configuration uses its own defaults for them.
        extras: keys of another class, kept so that it can be restored from this configuration.
    """
    own = {name: config[name] for name in _OUR_OWN if name in config}
    items: dict[str, Any] = {name: value for name, value in config.items() if name not in own}
    items.update({key: value for key, value in extras.items() if key not in config})
    items.update({f"_{name}": value for name, value in own.items() if value != _OUR_OWN[name]})
    defaults = [name for name in items if name in config and name not in given]
    if defaults:
        items["_use_default_values"] = defaults
    items["_class_name"] = class_name
    items["_diffusers_version"] = DIFFUSERS_VERSION
    return ConfigDict(items, own)


def keys_to_keep(report: ConfigReport, config: Mapping[str, Any]) -> dict[str, Any]:
    """Select keys of another class, so that it can be restored from them: ignored ones with plain values, and some."""
    plain = (bool, int, float, str, list, tuple, dict, type(None))
    named = {"_class_name", "_diffusers_version", "_use_default_values", *(f"_{name}" for name in _OUR_OWN)}
    kept = {key: config[key] for key in report.ignored if key not in named and isinstance(config[key], plain)}
    restored = {key: report.config[item.setting] for key, item in report.mapped.items() if key in RESTORED_KEYS}
    return {**kept, **restored}


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

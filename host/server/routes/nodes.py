"""The node classes, and the packs' translations of their names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aiohttp import web

from host.server.json_http import json_response
from host.server.state import HOST
from host.server.threads import in_thread

__all__ = ["ROUTES"]

# Sections of a pack's locales/<language>/, each in a file of its own; main.json holds the top level.
_LOCALE_SECTIONS = ("nodeDefs", "commands", "settings")


@in_thread
def get_object_info(request: web.Request) -> web.Response:
    """Return every node."""
    return json_response(request.app[HOST].registry.all_object_info())


@in_thread
def get_object_info_of(request: web.Request) -> web.Response:
    """Return one node; `{}` for an unknown one."""
    registry, name = request.app[HOST].registry, request.match_info["name"]
    return json_response({name: registry.object_info(name)} if name in registry.nodes else {})


@in_thread
def get_i18n(request: web.Request) -> web.Response:
    """Return the packs' translations by language."""
    merged: dict[str, dict[str, Any]] = {}
    for pack in request.app[HOST].registry.pack_directories.values():
        for folder in sorted((pack / "locales").glob("*/")):
            language = merged.setdefault(folder.name, {})
            _merge(language, _read_json_file(folder / "main.json"))
            for section in _LOCALE_SECTIONS:
                if found := _read_json_file(folder / f"{section}.json"):
                    _merge(language.setdefault(section, {}), found)
    return json_response(merged)


def _read_json_file(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _merge(into: dict[str, Any], other: dict[str, Any]) -> None:
    for key, value in other.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


ROUTES = [
    web.get("/object_info", get_object_info),
    web.get("/object_info/{name}", get_object_info_of),
    web.get("/i18n", get_i18n),
]

"""The one user's settings and files: what the editor remembers between visits."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aiohttp import web

from host.payload import dumps

from .files import file_info, serve_file, write_file
from .paths import inside
from .state import HOST, Host
from .wire import problem, read_json, read_object, reply

__all__ = ["PRESETS", "ROUTES"]

_SETTINGS = "comfy.settings.json"
# The page asks for these at every start and logs an error where there are none.
_DEFAULTS: dict[str, Any] = {"comfy.templates.json": []}
# A first visit opens on the graph, not on a template browser, and asks nothing of any server outside.
PRESETS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.InstalledVersion": "1.58.1",
    "Comfy.Notification.ShowVersionUpdates": False,
}


async def get_users(request: web.Request) -> web.Response:
    """One user, who needs no name."""
    return reply({"storage": "server", "migrated": True})


async def get_settings(request: web.Request) -> web.Response:
    """Every setting, and the presets for those that were never set."""
    return reply(_settings(request.app[HOST]))


async def get_setting(request: web.Request) -> web.Response:
    """One setting, null where it was never set."""
    return reply(_settings(request.app[HOST]).get(request.match_info["id"]))


async def post_settings(request: web.Request) -> web.Response:
    """Changes the settings named in the body."""
    _change(request.app[HOST], await read_object(request))
    return web.Response()


async def post_setting(request: web.Request) -> web.Response:
    """Changes one setting."""
    _change(request.app[HOST], {request.match_info["id"]: await read_json(request)})
    return web.Response()


def _settings(host: Host) -> dict[str, Any]:
    try:
        stored = json.loads((host.user_folder / _SETTINGS).read_bytes())
    except (OSError, ValueError, RecursionError):  # none yet, or edited by hand into something unreadable
        stored = {}
    return {**PRESETS, **(stored if isinstance(stored, dict) else {})}


def _change(host: Host, changes: dict[str, Any]) -> None:
    write_file(host.user_folder / _SETTINGS, dumps({**_settings(host), **changes}).encode())


async def get_user_css(request: web.Request) -> web.StreamResponse:
    """The user's own style sheet, empty where there is none."""
    path = request.app[HOST].user_folder / "user.css"
    text = path.read_text("utf-8", "replace") if path.is_file() else ""
    return web.Response(text=text, content_type="text/css")


async def list_userdata(request: web.Request) -> web.Response:
    """The files of one folder; an empty list for a folder that does not exist yet."""
    query = request.query
    if not query.get("dir"):
        raise problem(400, "Directory not provided")
    folder = inside(request.app[HOST].user_folder, query["dir"])
    recurse, full, split = (query.get(name, "").lower() == "true" for name in ("recurse", "full_info", "split"))
    paths = await asyncio.to_thread(lambda: sorted(_files(folder, recurse)))
    if full:
        return reply([file_info(path, folder) for path in paths])
    names = [path.relative_to(folder).as_posix() for path in paths]
    return reply([[name, *name.split("/")] for name in names] if split else names)


async def list_userdata_v2(request: web.Request) -> web.Response:
    """Files and folders below ``path``, folders first."""
    root = request.app[HOST].user_folder
    folder = inside(root, request.query.get("path", ""))
    if not folder.is_dir():
        if folder == root.resolve():
            return reply([])
        raise problem(404, "there is no such folder")
    entries = await asyncio.to_thread(lambda: [_entry(path, root.resolve()) for path in folder.rglob("*")])
    return reply(sorted(entries, key=lambda entry: (entry["type"] != "directory", entry["name"].lower())))


def _files(folder: Path, recurse: bool) -> Iterator[Path]:
    """The plain files of a folder; links are left out, they could lead anywhere."""
    if folder.is_dir():
        for path in folder.rglob("*") if recurse else folder.iterdir():
            if path.is_file() and not path.is_symlink() and not path.name.startswith("."):
                yield path


def _entry(path: Path, root: Path) -> dict[str, Any]:
    about = {"name": path.name, "path": path.relative_to(root).as_posix()}
    if path.is_dir():
        return {**about, "type": "directory"}
    stat = path.lstat()
    return {**about, "type": "file", "size": stat.st_size, "modified": stat.st_mtime}


async def get_userdata(request: web.Request) -> web.StreamResponse:
    """One file, always as a download."""
    if request.match_info["file"] in _DEFAULTS and not _file(request).is_file():
        return reply(_DEFAULTS[request.match_info["file"]])
    return serve_file(_file(request), download=True)


async def post_userdata(request: web.Request) -> web.Response:
    """Writes one file with the request's body."""
    path = _file(request)
    _check_free(request, path)
    body = await request.read()
    try:
        await asyncio.to_thread(write_file, path, body)
    except OSError as error:
        raise problem(400, f"the file cannot be written: {error.strerror}") from error
    return _written(request, path)


async def delete_userdata(request: web.Request) -> web.Response:
    """Deletes one file."""
    path = _existing(request)
    path.unlink()
    return web.Response(status=204)


async def move_userdata(request: web.Request) -> web.Response:
    """Renames one file."""
    source, target = _existing(request), _file(request, "dest")
    _check_free(request, target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(source, target)
    except OSError as error:
        raise problem(400, f"the file cannot be moved: {error.strerror}") from error
    return _written(request, target)


def _file(request: web.Request, name: str = "file") -> Path:
    root = request.app[HOST].user_folder
    path = inside(root, request.match_info[name])
    if path == root.resolve() or path.is_dir():
        raise problem(400, "expected the name of a file, got a folder's")
    return path


def _existing(request: web.Request) -> Path:
    path = _file(request)
    if not path.is_file():
        raise problem(404, "there is no such file")
    return path


def _check_free(request: web.Request, path: Path) -> None:
    if request.query.get("overwrite") == "false" and path.exists():
        raise problem(409, "File already exists")


def _written(request: web.Request, path: Path) -> web.Response:
    root = request.app[HOST].user_folder.resolve()
    full = request.query.get("full_info", "").lower() == "true"
    return reply(file_info(path, root) if full else path.relative_to(root).as_posix())


ROUTES = [
    web.get("/users", get_users),
    web.get("/settings", get_settings),
    web.get("/settings/{id}", get_setting),
    web.post("/settings", post_settings),
    web.post("/settings/{id}", post_setting),
    web.get("/user.css", get_user_css),
    web.get("/userdata/user.css", get_user_css),
    web.get("/userdata", list_userdata),
    web.get("/v2/userdata", list_userdata_v2),
    web.get("/userdata/{file}", get_userdata),
    web.post("/userdata/{file}", post_userdata),
    web.delete("/userdata/{file}", delete_userdata),
    web.post("/userdata/{file}/move/{dest}", move_userdata),
]

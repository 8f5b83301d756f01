"""The only user's settings and files, which the editor keeps between visits."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aiohttp import web

from host.atomic_files import write_file
from host.folders import requested_path
from host.limits import MAX_SETTINGS_BYTES
from host.server.file_responses import file_info, serve_file
from host.server.json_http import http_error, json_response, read_json, read_object
from host.server.state import HOST, Host
from host.server.threads import in_thread
from host.strict_json import dumps, loads

__all__ = ["ROUTES"]

log = logging.getLogger(__name__)

_SETTINGS = "comfy.settings.json"
_changing_settings = threading.Lock()
# The page requests these files at every start, and logs an error if they do not exist.
_DEFAULT_FILES: dict[str, Any] = {"comfy.templates.json": []}
# On the first visit, the page opens on the graph instead of a template browser, and calls no other server.
_PRESETS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.InstalledVersion": "1.58.1",
    "Comfy.Notification.ShowVersionUpdates": False,
}


async def get_users(request: web.Request) -> web.Response:
    """Say that there is one user, who needs no name."""
    return json_response({"storage": "server", "migrated": True})


@in_thread
def get_settings(request: web.Request) -> web.Response:
    """Return every setting, with presets for those that were never set."""
    return json_response(_settings(request.app[HOST]))


@in_thread
def get_setting(request: web.Request) -> web.Response:
    """Return one setting, or null if it was never set."""
    return json_response(_settings(request.app[HOST]).get(request.match_info["id"]))


async def post_settings(request: web.Request) -> web.Response:
    """Change the settings named in the body."""
    await asyncio.to_thread(_change_settings, request.app[HOST], await read_object(request))
    return web.Response()


async def post_setting(request: web.Request) -> web.Response:
    """Change one setting."""
    changes = {request.match_info["id"]: await read_json(request)}
    await asyncio.to_thread(_change_settings, request.app[HOST], changes)
    return web.Response()


def _settings(host: Host) -> dict[str, Any]:
    return {**_PRESETS, **(_stored_settings(host) or {})}


def _stored_settings(host: Host) -> dict[str, Any] | None:
    """Return the settings that were changed; None for a file that cannot be read, e.g. edited by hand."""
    try:
        stored = loads((host.user_folder / _SETTINGS).read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError):
        return None
    return stored if isinstance(stored, dict) else None


def _change_settings(host: Host, changes: dict[str, Any]) -> None:
    path = host.user_folder / _SETTINGS
    with _changing_settings:  # two changes at once would lose one of them
        if _stored_settings(host) is None:
            kept = path.with_suffix(".json.bak")
            os.replace(path, kept)
            log.warning("%s cannot be read; it is kept as %s", path, kept.name)
        content = dumps({**_settings(host), **changes}).encode()
        if len(content) > MAX_SETTINGS_BYTES:  # all of them are read for each request, and each request may add some
            raise web.HTTPRequestEntityTooLarge(MAX_SETTINGS_BYTES, len(content))
        write_file(path, content)


@in_thread
def get_user_css(request: web.Request) -> web.StreamResponse:
    """Return the user's own style sheet; it is empty if there is none."""
    path = request.app[HOST].user_folder / "user.css"
    text = path.read_text("utf-8", "replace") if path.is_file() else ""
    return web.Response(text=text, content_type="text/css")


@in_thread
def list_userdata(request: web.Request) -> web.Response:
    """Return the files of one folder; an empty list if the folder does not exist yet."""
    query = request.query
    if not query.get("dir"):
        raise http_error(400, "Directory not provided")
    folder = requested_path(request.app[HOST].user_folder, query["dir"])
    recurse, full, split = (query.get(name, "").lower() == "true" for name in ("recurse", "full_info", "split"))
    paths = sorted(_files(folder, recurse))
    if full:
        return json_response([file_info(path, folder) for path in paths])
    names = [path.relative_to(folder).as_posix() for path in paths]
    return json_response([[name, *name.split("/")] for name in names] if split else names)


@in_thread
def list_userdata_v2(request: web.Request) -> web.Response:
    """Return files and folders below `path`, folders first."""
    root = request.app[HOST].user_folder
    folder = requested_path(root, request.query.get("path", ""))
    if not folder.is_dir():
        if folder == root.resolve():
            return json_response([])
        raise http_error(404, "there is no such folder")
    entries = [_entry(path, root.resolve()) for path in folder.rglob("*")]
    return json_response(sorted(entries, key=lambda entry: (entry["type"] != "directory", entry["name"].lower())))


def _files(folder: Path, recurse: bool) -> Iterator[Path]:
    """Yield the regular files of a folder, without links, which could lead anywhere."""
    if folder.is_dir():
        for path in folder.rglob("*") if recurse else folder.iterdir():
            if path.is_file() and not path.is_symlink() and not path.name.startswith("."):
                yield path


def _entry(path: Path, root: Path) -> dict[str, Any]:
    common = {"name": path.name, "path": path.relative_to(root).as_posix()}
    if path.is_dir():
        return {**common, "type": "directory"}
    stat = path.lstat()
    return {**common, "type": "file", "size": stat.st_size, "modified": stat.st_mtime}


@in_thread
def get_userdata(request: web.Request) -> web.StreamResponse:
    """Return one file, always as a download."""
    if request.match_info["file"] in _DEFAULT_FILES and not _requested_file(request).is_file():
        return json_response(_DEFAULT_FILES[request.match_info["file"]])
    return serve_file(_requested_file(request), download=True)


async def post_userdata(request: web.Request) -> web.Response:
    """Write one file with the request's body."""
    await asyncio.to_thread(_file_to_write, request)  # a refusal does not wait for the body
    return await asyncio.to_thread(_write, request, await request.read())


def _write(request: web.Request, body: bytes) -> web.Response:
    path = _file_to_write(request)
    try:
        write_file(path, body)
    except OSError as error:
        raise http_error(400, f"the file cannot be written: {error.strerror}") from error
    return _saved_response(request, path)


@in_thread
def delete_userdata(request: web.Request) -> web.Response:
    """Delete one file."""
    path = _existing_file(request)
    path.unlink()
    return web.Response(status=204)


@in_thread
def move_userdata(request: web.Request) -> web.Response:
    """Rename one file."""
    source, target = _existing_file(request), _requested_file(request, "dest")
    _refuse_overwriting(request, target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(source, target)
    except OSError as error:
        raise http_error(400, f"the file cannot be moved: {error.strerror}") from error
    return _saved_response(request, target)


def _requested_file(request: web.Request, name: str = "file") -> Path:
    root = request.app[HOST].user_folder
    path = requested_path(root, request.match_info[name])
    if path == root.resolve() or path.is_dir():
        raise http_error(400, "expected the name of a file, got a folder's")
    return path


def _file_to_write(request: web.Request) -> Path:
    path = _requested_file(request)
    _refuse_overwriting(request, path)
    return path


def _existing_file(request: web.Request) -> Path:
    path = _requested_file(request)
    if not path.is_file():
        raise http_error(404, "there is no such file")
    return path


def _refuse_overwriting(request: web.Request, path: Path) -> None:
    if request.query.get("overwrite") == "false" and path.exists():
        raise http_error(409, "File already exists")


def _saved_response(request: web.Request, path: Path) -> web.Response:
    root = request.app[HOST].user_folder.resolve()
    full = request.query.get("full_info", "").lower() == "true"
    return json_response(file_info(path, root) if full else path.relative_to(root).as_posix())


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

"""The editor's page, the scripts that packs add to it, and empty answers for its parts that this host does not have."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

from aiohttp import web
from aiohttp.typedefs import Handler

from host.folders import requested_path
from host.server.json_http import http_error, json_response
from host.server.state import HOST, Host
from host.server.threads import in_thread

__all__ = ["ROUTES"]

_OWN_SCRIPTS = {"host": Path(__file__).resolve().parent.parent / "web"}


async def get_index(request: web.Request) -> web.StreamResponse:
    """Return the editor's page."""
    frontend = request.app[HOST].frontend
    if frontend is None:
        return web.Response(text="The API is ready. For the visual editor install comfyui-frontend-package==1.58.1.")
    return web.FileResponse(frontend / "index.html")


@in_thread
def get_extensions(request: web.Request) -> web.Response:
    """Return the URLs of every script that the page loads at its start, except the editor's own ones."""
    return json_response(
        sorted(
            f"/extensions/{quote(name)}/{quote(path.relative_to(folder).as_posix())}"
            for name, folder in _script_folders(request.app[HOST]).items()
            for path in folder.rglob("*.js")
        )
    )


@in_thread
def get_extension_file(request: web.Request) -> web.StreamResponse:
    """Return a file of a pack's web folder (scripts, styles, help pages), or of the editor's own extensions."""
    host, name = request.app[HOST], request.match_info["pack"]
    folder = _script_folders(host).get(name)
    if folder is None and host.frontend is not None:
        folder = requested_path(host.frontend / "extensions", name)
    path = requested_path(folder, request.match_info["file"]) if folder is not None else None
    if path is None or not path.is_file():
        raise http_error(404, "there is no such file")
    return web.FileResponse(path)


def _script_folders(host: Host) -> dict[str, Path]:
    return {**host.registry.web_directories, **_OWN_SCRIPTS}


def _constant(value: Any) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        return json_response(value)

    return answer


ROUTES = [
    web.get("/", get_index),
    web.get("/extensions", get_extensions),
    web.get("/extensions/{pack}/{file:.+}", get_extension_file),
    web.get("/embeddings", _constant([])),
    web.get("/node_replacements", _constant({})),
    web.get("/templates/index.json", _constant([])),
    web.get("/templates/index_logo.json", _constant({})),
]

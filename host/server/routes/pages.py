"""The editor's page and the scripts that packs add to it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from aiohttp import web

from .paths import inside
from .state import HOST, Host
from .wire import problem, reply

__all__ = ["ROUTES"]

_OWN = {"host": Path(__file__).parent / "web"}  # the host's own scripts


async def get_index(request: web.Request) -> web.StreamResponse:
    """The editor's page."""
    frontend = request.app[HOST].frontend
    if frontend is None:
        return web.Response(text="The API is ready. For the visual editor install comfyui-frontend-package==1.58.1.")
    return web.FileResponse(frontend / "index.html")


async def get_extensions(request: web.Request) -> web.Response:
    """The addresses of every script that the page loads at its start; the editor's own ones it knows."""
    return reply(
        sorted(
            f"/extensions/{quote(name)}/{quote(path.relative_to(folder).as_posix())}"
            for name, folder in _folders(request.app[HOST]).items()
            for path in folder.rglob("*.js")
        )
    )


async def get_extension_file(request: web.Request) -> web.StreamResponse:
    """A file of a pack's web folder (scripts, styles, help pages), or of the editor's own extensions."""
    host, name = request.app[HOST], request.match_info["pack"]
    folder = _folders(host).get(name)
    if folder is None and host.frontend is not None:
        folder = inside(host.frontend / "extensions", name)
    path = inside(folder, request.match_info["file"]) if folder is not None else None
    if path is None or not path.is_file():
        raise problem(404, "there is no such file")
    return web.FileResponse(path)


def _folders(host: Host) -> dict[str, Path]:
    return {**host.registry.web_directories, **_OWN}


ROUTES = [
    web.get("/", get_index),
    web.get("/extensions", get_extensions),
    web.get("/extensions/{pack}/{file:.+}", get_extension_file),
]

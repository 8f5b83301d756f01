"""The packs' example workflows, and the one with which an empty editor opens."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from .files import serve_file
from .paths import inside
from .state import HOST, Host
from .wire import problem, reply

__all__ = ["ROUTES"]

_FOLDERS = ("example_workflows", "example", "examples", "workflow", "workflows")


async def get_templates(request: web.Request) -> web.Response:
    """The names of every pack's examples."""
    found = {name: _examples(pack) for name, pack in request.app[HOST].registry.pack_directories.items()}
    return reply({name: [path.stem for path in paths] for name, paths in found.items() if paths})


async def get_template(request: web.Request) -> web.StreamResponse:
    """An example's workflow or its thumbnail."""
    folder = _folder(request.app[HOST], request.match_info["pack"])
    if folder is None:
        raise problem(404, "this pack has no examples")
    return serve_file(inside(folder, request.match_info["file"]))


async def get_opening(request: web.Request) -> web.StreamResponse:
    """The workflow with which an empty editor opens."""
    opening = request.app[HOST].opening
    if opening is None:
        raise problem(404, "there is no example to open with")
    return serve_file(opening)


def _folder(host: Host, pack: str) -> Path | None:
    root = host.registry.pack_directories.get(pack)
    return next((root / name for name in _FOLDERS if (root / name).is_dir()), None) if root is not None else None


def _examples(pack: Path) -> list[Path]:
    return sorted(path for name in _FOLDERS for path in (pack / name).glob("*.json"))


ROUTES = [
    web.get("/workflow_templates", get_templates),
    web.get("/workflow_templates/{pack}/{file:.+}", get_template),
    web.get("/internal/opening_workflow", get_opening),
]

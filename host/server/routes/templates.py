"""The packs' example workflows, and the workflow with which an empty editor opens."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from host.folders import requested_path
from host.server.file_responses import serve_file
from host.server.json_http import http_error, json_response
from host.server.state import HOST, Host
from host.server.threads import in_thread
from host.workflows.examples import EXAMPLE_FOLDERS, example_files, runs_here

__all__ = ["ROUTES"]


@in_thread
def get_templates(request: web.Request) -> web.Response:
    """Return the names of every pack's examples that this host has the nodes for; the others could only open broken."""
    registry = request.app[HOST].registry
    found = {
        name: [path for path in example_files(pack) if runs_here(path, registry)]
        for name, pack in registry.pack_directories.items()
    }
    return json_response({name: [path.stem for path in paths] for name, paths in found.items() if paths})


@in_thread
def get_template(request: web.Request) -> web.StreamResponse:
    """Return an example's workflow or its thumbnail."""
    folder = _examples_folder(request.app[HOST], request.match_info["pack"])
    if folder is None:
        raise http_error(404, "this pack has no examples")
    return serve_file(requested_path(folder, request.match_info["file"]))


@in_thread
def get_opening(request: web.Request) -> web.StreamResponse:
    """Return the workflow with which an empty editor opens."""
    opening = request.app[HOST].opening
    if opening is None:
        raise http_error(404, "there is no example to open with")
    return serve_file(opening)


def _examples_folder(host: Host, pack: str) -> Path | None:
    root = host.registry.pack_directories.get(pack)
    if root is None:
        return None
    return next((root / name for name in EXAMPLE_FOLDERS if (root / name).is_dir()), None)


ROUTES = [
    web.get("/workflow_templates", get_templates),
    web.get("/workflow_templates/{pack}/{file:.+}", get_template),
    web.get("/internal/opening_workflow", get_opening),
]

"""The model files: the folders below `models`."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from host.folders import requested_path
from host.server.json_http import http_error, json_response
from host.server.state import HOST, Host
from host.server.threads import in_thread

__all__ = ["ROUTES"]


@in_thread
def get_models(request: web.Request) -> web.Response:
    """Return the types of model: the names of the folders."""
    return json_response([folder.name for folder in _model_folders(request.app[HOST])])


@in_thread
def get_model_folders(request: web.Request) -> web.Response:
    """Return the same for the page's model panel."""
    folders = _model_folders(request.app[HOST])
    return json_response([{"name": folder.name, "folders": [str(folder)]} for folder in folders])


@in_thread
def get_models_in(request: web.Request) -> web.Response:
    """Return the model files of one folder."""
    root = request.app[HOST].folders.models
    folder = requested_path(root, request.match_info["folder"])
    if not folder.is_dir() or folder == root.resolve():
        raise http_error(404, "there is no such model folder")
    return json_response([path.relative_to(folder).as_posix() for path in _files(folder)])


@in_thread
def get_panel_models_in(request: web.Request) -> web.Response:
    """Return the same for the page's model panel; an empty list for an unknown folder."""
    folder = requested_path(request.app[HOST].folders.models, request.match_info["folder"])
    files = _files(folder) if folder.is_dir() else []
    return json_response([{"name": path.relative_to(folder).as_posix(), "pathIndex": 0} for path in files])


@in_thread
def get_folder_paths(request: web.Request) -> web.Response:
    """Return where each type of model is looked for."""
    return json_response({folder.name: [str(folder)] for folder in _model_folders(request.app[HOST])})


def _model_folders(host: Host) -> list[Path]:
    root = host.folders.models
    return sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


ROUTES = [
    web.get("/models", get_models),
    web.get("/models/{folder}", get_models_in),
    web.get("/experiment/models", get_model_folders),
    web.get("/experiment/models/{folder}", get_panel_models_in),
    web.get("/internal/folder_paths", get_folder_paths),
]

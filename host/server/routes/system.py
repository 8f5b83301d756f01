"""What the page asks while it starts: nodes, extensions, translations, features, the machine."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from aiohttp import web

from .paths import inside
from .state import HOST, MAX_UPLOAD_BYTES, Host
from .wire import problem, read_object, reply

__all__ = ["FEATURES", "ROUTES"]

FEATURES = {
    "supports_preview_metadata": True,
    "max_upload_size": MAX_UPLOAD_BYTES,
    "node_replacements": False,
    "assets": False,
}
# Sections of a pack's locales/<language>/; `main` holds the top level.
_LOCALES = ("nodeDefs", "commands", "settings")
_PROTOCOL_VERSION = "0.33.0"  # the ComfyUI whose protocol this host speaks; clients compare it


async def get_object_info(request: web.Request) -> web.Response:
    """Every node."""
    return reply(await asyncio.to_thread(request.app[HOST].registry.all_object_info))


async def get_object_info_of(request: web.Request) -> web.Response:
    """One node; ``{}`` for an unknown one."""
    registry, name = request.app[HOST].registry, request.match_info["name"]
    return reply({name: registry.object_info(name)} if name in registry.nodes else {})


async def get_i18n(request: web.Request) -> web.Response:
    """The packs' translations by language."""
    merged: dict[str, dict[str, Any]] = {}
    for pack in request.app[HOST].registry.pack_directories.values():
        for folder in sorted((pack / "locales").glob("*/")):
            language = merged.setdefault(folder.name, {})
            _merge(language, _read_json_file(folder / "main.json"))
            for section in _LOCALES:
                if found := _read_json_file(folder / f"{section}.json"):
                    _merge(language.setdefault(section, {}), found)
    return reply(merged)


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


async def get_features(request: web.Request) -> web.Response:
    """What this host can do."""
    return reply(FEATURES)


async def get_system_stats(request: web.Request) -> web.Response:
    """The machine and the versions."""
    return reply(await asyncio.to_thread(_system_stats))


def _system_stats() -> dict[str, Any]:
    import torch

    total, free = _memory()
    system = {
        "os": sys.platform,
        "ram_total": total,
        "ram_free": free,
        "comfyui_version": _PROTOCOL_VERSION,
        "required_frontend_version": _version("comfyui-frontend-package"),
        "installed_templates_version": None,
        "required_templates_version": None,
        "python_version": sys.version,
        "pytorch_version": torch.__version__,
        "embedded_python": False,
        "argv": sys.argv,
    }
    if torch.cuda.is_available():
        return {
            "system": system,
            "devices": [_cuda_device(index) for index in range(torch.cuda.device_count())],
        }
    device = {
        "name": "cpu",
        "type": "cpu",
        "index": None,
        "vram_total": total,
        "vram_free": free,
        "torch_vram_total": total,
        "torch_vram_free": free,
    }
    return {"system": system, "devices": [device]}


def _cuda_device(index: int) -> dict[str, Any]:
    import torch

    free, total = torch.cuda.mem_get_info(index)
    reserved, active = torch.cuda.memory_reserved(index), torch.cuda.memory_allocated(index)
    return {
        "name": f"cuda:{index} {torch.cuda.get_device_name(index)}",
        "type": "cuda",
        "index": index,
        "vram_total": total,
        "vram_free": free + reserved - active,
        "torch_vram_total": reserved,
        "torch_vram_free": reserved - active,
    }


def _memory() -> tuple[int, int]:
    """Total and available bytes of memory; zeros where the system does not say."""
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        return page * os.sysconf("SC_PHYS_PAGES"), page * os.sysconf("SC_AVPHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0, 0


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


async def get_models(request: web.Request) -> web.Response:
    """The kinds of model: the folders below ``models``."""
    return reply([folder.name for folder in _model_folders(request.app[HOST])])


async def get_model_folders(request: web.Request) -> web.Response:
    """The same for the page's model panel."""
    folders = _model_folders(request.app[HOST])
    return reply([{"name": folder.name, "folders": [str(folder)]} for folder in folders])


async def get_models_of(request: web.Request) -> web.Response:
    """The model files of one kind."""
    root = request.app[HOST].folders.models
    folder = inside(root, request.match_info["folder"])
    if not folder.is_dir() or folder == root.resolve():
        raise problem(404, "there is no such model folder")
    return reply(sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()))


async def get_models_of_kind(request: web.Request) -> web.Response:
    """The same for the page's model panel; an empty list for an unknown kind."""
    folder = inside(request.app[HOST].folders.models, request.match_info["folder"])
    files = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []
    return reply([{"name": path.relative_to(folder).as_posix(), "pathIndex": 0} for path in files])


def _model_folders(host: Host) -> list[Path]:
    root = host.folders.models
    return sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []


async def get_folder_paths(request: web.Request) -> web.Response:
    """Where each kind of model is looked for."""
    return reply({folder.name: [str(folder)] for folder in _model_folders(request.app[HOST])})


async def get_logs(request: web.Request) -> web.Response:
    """The last log lines as one text."""
    return reply("".join(f"{line['t']} - {line['m']}" for line in list(request.app[HOST].logs.lines)))


async def get_raw_logs(request: web.Request) -> web.Response:
    """The last log lines one by one."""
    logs = request.app[HOST].logs
    return reply({"entries": list(logs.lines), "size": logs.size})


async def subscribe_logs(request: web.Request) -> web.Response:
    """Whether a client wants to hear of each new line."""
    body = await read_object(request)
    sid = body.get("clientId")
    if not isinstance(sid, str):
        raise problem(400, "clientId must be a string")
    hub = request.app[HOST].hub
    if body.get("enabled") and hub.connected(sid):
        hub.log_readers.add(sid)
    else:
        hub.log_readers.discard(sid)
    return web.Response()


def _constant(value: Any) -> Any:
    async def answer(request: web.Request) -> web.Response:
        return reply(value)

    return answer


ROUTES = [
    web.get("/object_info", get_object_info),
    web.get("/object_info/{name}", get_object_info_of),
    web.get("/i18n", get_i18n),
    web.get("/features", get_features),
    web.get("/system_stats", get_system_stats),
    web.get("/models", get_models),
    web.get("/models/{folder}", get_models_of),
    web.get("/experiment/models", get_model_folders),
    web.get("/experiment/models/{folder}", get_models_of_kind),
    web.get("/internal/folder_paths", get_folder_paths),
    web.get("/internal/logs", get_logs),
    web.get("/internal/logs/raw", get_raw_logs),
    web.patch("/internal/logs/subscribe", subscribe_logs),
    web.get("/embeddings", _constant([])),
    web.get("/global_subgraphs", _constant({})),
    web.get("/node_replacements", _constant({})),
    web.get("/templates/index.json", _constant([])),
    web.get("/templates/index_logo.json", _constant({})),
]

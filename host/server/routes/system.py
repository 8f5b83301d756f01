"""The host itself: its features, its machine, its log."""

from __future__ import annotations

import asyncio
import os
import sys
from importlib import metadata
from typing import Any

import torch
from aiohttp import web

from host.limits import MAX_UPLOAD_BYTES
from host.server.json_http import http_error, json_response, read_object
from host.server.state import HOST

__all__ = ["FEATURES", "ROUTES"]

FEATURES = {
    "supports_preview_metadata": True,
    "max_upload_size": MAX_UPLOAD_BYTES,
    "node_replacements": False,
    "assets": False,
}
_PROTOCOL_VERSION = "0.33.0"  # the ComfyUI version whose protocol this host implements; clients compare it


async def get_features(request: web.Request) -> web.Response:
    """Return the host's features."""
    return json_response(FEATURES)


async def get_system_stats(request: web.Request) -> web.Response:
    """Return the machine's devices and the versions of software."""
    return json_response(await asyncio.to_thread(_system_stats))


def _system_stats() -> dict[str, Any]:
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
        return {"system": system, "devices": [_cuda_device(index) for index in range(torch.cuda.device_count())]}
    return {"system": system, "devices": [_cpu_device(total, free)]}


def _cpu_device(total: int, free: int) -> dict[str, Any]:
    return {
        "name": "cpu",
        "type": "cpu",
        "index": None,
        "vram_total": total,
        "vram_free": free,
        "torch_vram_total": total,
        "torch_vram_free": free,
    }


def _cuda_device(index: int) -> dict[str, Any]:
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
    """Return the total and available bytes of memory, or zeros if the system does not report them."""
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


async def get_logs(request: web.Request) -> web.Response:
    """Return the last log lines as one text."""
    return json_response("".join(f"{line['t']} - {line['m']}" for line in list(request.app[HOST].logs.lines)))


async def get_raw_logs(request: web.Request) -> web.Response:
    """Return the last log lines one by one."""
    logs = request.app[HOST].logs
    return json_response({"entries": list(logs.lines), "size": logs.size})


async def subscribe_logs(request: web.Request) -> web.Response:
    """Start or stop sending each new log line to a client."""
    body = await read_object(request)
    client_id = body.get("clientId")
    if not isinstance(client_id, str):
        raise http_error(400, "clientId must be a string")
    websockets = request.app[HOST].websockets
    if body.get("enabled") and websockets.connected(client_id):
        websockets.log_readers.add(client_id)
    else:
        websockets.log_readers.discard(client_id)
    return web.Response()


ROUTES = [
    web.get("/features", get_features),
    web.get("/system_stats", get_system_stats),
    web.get("/internal/logs", get_logs),
    web.get("/internal/logs/raw", get_raw_logs),
    web.patch("/internal/logs/subscribe", subscribe_logs),
]

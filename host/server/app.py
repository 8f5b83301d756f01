"""The web application: every route with and without `/api`, then the packs' files, then the editor's."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import re
from collections.abc import Iterable
from pathlib import Path

from aiohttp import web

from host import context
from host.limits import MAX_BODY_BYTES
from host.server.json_http import LARGE_BODY_SLOT, one_large_body_at_a_time
from host.server.routes import ROUTES
from host.server.security import answer_errors, same_site_only
from host.server.state import HOST, Host
from host.server.time_limits import close_paused_bodies

__all__ = ["frontend_folder", "make_app"]

log = logging.getLogger(__name__)

# The editor's files have a hash in their names; everything else must be requested again after an update.
_CACHE_FOREVER = "public, max-age=31536000, immutable"


def make_app(host: Host, names: Iterable[str] = ()) -> web.Application:
    """Return the application for one host.

    Args:
        host: The host's parts.
        names: Host names, besides localhost and numeric addresses, under which browsers may call it.
    """
    middlewares = [close_paused_bodies, answer_errors, same_site_only(names), one_large_body_at_a_time]
    app = web.Application(middlewares=middlewares, client_max_size=MAX_BODY_BYTES)
    app[HOST] = host
    app[LARGE_BODY_SLOT] = asyncio.Semaphore(1)
    for route in _all_routes(host):
        path = _match_any_name(route.path)
        app.router.add_routes(
            [web.RouteDef(route.method, prefix + path, route.handler, route.kwargs) for prefix in ("", "/api")]
        )
    if host.frontend is not None:
        app.router.add_static("/", host.frontend)
    app.on_response_prepare.append(_set_cache_control)
    return app


def frontend_folder() -> Path | None:
    """Return the folder of the visual editor's files, or None if its package is not installed."""
    spec = importlib.util.find_spec("comfyui_frontend_package")
    if spec is None or not spec.submodule_search_locations:
        log.warning(
            "the visual editor is not installed (pip install comfyui-frontend-package==1.58.1); only the API is served"
        )
        return None
    return Path(spec.submodule_search_locations[0]) / "static"


def _all_routes(host: Host) -> list[web.RouteDef]:
    """Return the host's own routes first, so that a pack cannot replace one."""
    packs = [web.route(method, path, handler) for (method, path), handler in context.routes.handlers.items()]
    return [web.get("/ws", host.websockets.connect), *ROUTES, *packs]


def _match_any_name(path: str) -> str:
    """Make `{part}` match every name: aiohttp's own pattern excludes names with braces."""
    return re.sub(r"\{(\w+)\}", r"{\1:[^/]+}", path)


async def _set_cache_control(request: web.Request, response: web.StreamResponse) -> None:
    if request.path.startswith("/assets/") and response.status == 200:
        response.headers.setdefault("Cache-Control", _CACHE_FOREVER)
    else:
        response.headers.setdefault("Cache-Control", "no-cache")

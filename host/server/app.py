"""The web application: every route twice, with and without ``/api``, then the packs' files, then the editor's."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from aiohttp import web

from host import context

from . import file_routes, info_routes, queue_routes, template_routes, upload_routes, user_routes
from .info_routes import OWN_EXTENSION
from .security import answer_errors, same_site_only
from .state import HOST, Host
from .wire import MAX_BODY_BYTES

__all__ = ["make_app"]

_MODULES = (queue_routes, file_routes, upload_routes, user_routes, info_routes, template_routes)
# The editor's files carry a hash in their name; everything else must be asked for again after an update.
_FOREVER = "public, max-age=31536000, immutable"


def make_app(host: Host, names: Iterable[str] = ()) -> web.Application:
    """The application for one host.

    Args:
        host: its parts.
        names: host names, beside localhost and numeric addresses, under which it may be called.
    """
    app = web.Application(middlewares=[answer_errors, same_site_only(names)], client_max_size=MAX_BODY_BYTES)
    app[HOST] = host
    for route in _routes(host):
        app.router.add_routes([route, web.RouteDef(route.method, f"/api{route.path}", route.handler, route.kwargs)])
    for name, folder in {
        **host.registry.web_directories,
        OWN_EXTENSION: Path(__file__).parent / "web",
    }.items():
        app.router.add_static(f"/extensions/{name}", folder)
    app.router.add_get("/", _index)
    if host.frontend is not None:
        app.router.add_static("/", host.frontend)
    app.on_response_prepare.append(_cache)
    return app


def _routes(host: Host) -> list[web.RouteDef]:
    """The host's own routes first: a pack cannot replace one."""
    own = [web.get("/ws", host.hub.connect), *(route for module in _MODULES for route in module.ROUTES)]
    packs = [web.route(method, path, handler) for (method, path), handler in context.routes.handlers.items()]
    return own + packs


async def _index(request: web.Request) -> web.StreamResponse:
    """The editor's page."""
    frontend = request.app[HOST].frontend
    if frontend is None:
        return web.Response(text="The API is ready. For the visual editor install comfyui-frontend-package==1.58.1.")
    return web.FileResponse(frontend / "index.html", headers={"Cache-Control": "no-cache"})


async def _cache(request: web.Request, response: web.StreamResponse) -> None:
    if request.path.startswith("/assets/") and response.status == 200:
        response.headers.setdefault("Cache-Control", _FOREVER)
    else:
        response.headers.setdefault("Cache-Control", "no-cache")

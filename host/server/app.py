"""The web application: every route twice, with and without ``/api``, then the packs' files, then the editor's."""

from __future__ import annotations

import re
from collections.abc import Iterable

from aiohttp import web

from host import context

from . import file_routes, info_routes, page_routes, queue_routes, template_routes, upload_routes, user_routes
from .security import answer_errors, same_site_only
from .state import HOST, Host
from .wire import MAX_BODY_BYTES

__all__ = ["make_app"]

_MODULES = (queue_routes, file_routes, upload_routes, user_routes, info_routes, template_routes, page_routes)
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
        path = _any_name(route.path)
        app.router.add_routes(
            [web.RouteDef(route.method, prefix + path, route.handler, route.kwargs) for prefix in ("", "/api")]
        )
    if host.frontend is not None:
        app.router.add_static("/", host.frontend)
    app.on_response_prepare.append(_cache)
    return app


def _routes(host: Host) -> list[web.RouteDef]:
    """The host's own routes first: a pack cannot replace one."""
    own = [web.get("/ws", host.hub.connect), *(route for module in _MODULES for route in module.ROUTES)]
    packs = [web.route(method, path, handler) for (method, path), handler in context.routes.handlers.items()]
    return own + packs


def _any_name(path: str) -> str:
    """Lets ``{part}`` match every name: aiohttp's own rule leaves out names with braces in them."""
    return re.sub(r"\{(\w+)\}", r"{\1:[^/]+}", path)


async def _cache(request: web.Request, response: web.StreamResponse) -> None:
    if request.path.startswith("/assets/") and response.status == 200:
        response.headers.setdefault("Cache-Control", _FOREVER)
    else:
        response.headers.setdefault("Cache-Control", "no-cache")

"""The HTTP routes, one module per part of ComfyUI's API."""

from aiohttp import web

from host.server.routes import (
    blueprints,
    jobs,
    models,
    nodes,
    pages,
    prompts,
    system,
    templates,
    uploads,
    user_files,
    view,
)

__all__ = ["ROUTES"]

_MODULES = (prompts, jobs, view, uploads, user_files, nodes, models, system, templates, blueprints, pages)

ROUTES: list[web.RouteDef] = [route for module in _MODULES for route in module.ROUTES]

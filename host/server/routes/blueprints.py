"""The packs' blueprints: subgraphs that the editor offers as nodes, by ComfyUI's addresses and ids."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

from aiohttp import web

from host.folders import FolderError, real_path_inside
from host.limits import MAX_WORKFLOW_BYTES
from host.server.json_http import http_error, json_response
from host.server.state import HOST, Host
from host.server.threads import in_thread

__all__ = ["ROUTES"]

_FOLDER = "subgraphs"
_SOURCE = "custom_node"


class _Blueprint(NamedTuple):
    path: Path
    pack: str

    def entry(self) -> dict[str, object]:
        """Return what the editor's list says of it."""
        return {"source": _SOURCE, "name": self.path.stem, "info": {"node_pack": f"custom_nodes.{self.pack}"}}


def _blueprints(host: Host) -> dict[str, _Blueprint]:
    """Return the blueprints of all packs by id; a link that leads out of its folder is none of them."""
    found = {}
    for pack, root in host.registry.pack_directories.items():
        for path in sorted((root / _FOLDER).glob("*.json")):
            try:
                real_path_inside((root / _FOLDER).resolve(), path)
            except FolderError:
                continue
            key = f"{_SOURCE}{pack}/{_FOLDER}/{path.name}"
            found[hashlib.sha256(key.encode()).hexdigest()] = _Blueprint(path, pack)
    return found


@in_thread
def get_blueprints(request: web.Request) -> web.Response:
    """Return the names of the blueprints by id."""
    return json_response({key: blueprint.entry() for key, blueprint in _blueprints(request.app[HOST]).items()})


@in_thread
def get_blueprint(request: web.Request) -> web.Response:
    """Return one blueprint; `data` is the text of its file."""
    blueprint = _blueprints(request.app[HOST]).get(request.match_info["id"])
    if blueprint is None:
        raise http_error(404, "there is no such blueprint")
    if blueprint.path.stat().st_size > MAX_WORKFLOW_BYTES:
        raise http_error(413, f"a blueprint has at most {MAX_WORKFLOW_BYTES >> 20} MiB")
    return json_response({**blueprint.entry(), "data": blueprint.path.read_text(encoding="utf-8", errors="replace")})


ROUTES = [web.get("/global_subgraphs", get_blueprints), web.get("/global_subgraphs/{id}", get_blueprint)]

"""What every request handler may use, assembled once at the start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from host.folders import Folders
from host.packs import Registry
from host.server.jobs.crew import Crew
from host.server.jobs.store import JobStore
from host.server.jobs.worker import Worker
from host.server.log_buffer import LogBuffer
from host.server.websockets import WebSockets

__all__ = ["HOST", "Host"]


@dataclass(frozen=True)
class Host:
    """The parts of a running host.

    Attributes:
        registry: The node classes and the packs that they come from.
        folders: The folders of pictures and user files.
        store: The accepted prompts and their results.
        worker: Runs them: in this process, or with workers elsewhere.
        websockets: The connected clients.
        logs: The last log lines.
        frontend: The folder of the visual editor's files; None if the package is not installed.
        opening: The workflow with which an empty editor opens, or None.
    """

    registry: Registry
    folders: Folders
    store: JobStore
    worker: Worker | Crew
    websockets: WebSockets
    logs: LogBuffer
    frontend: Path | None
    opening: Path | None

    @property
    def user_folder(self) -> Path:
        """The folder of the only user's settings and workflows."""
        return self.folders.user / "default"


HOST = web.AppKey("host", Host)

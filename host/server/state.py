"""What every request handler may use, put together once at the start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from host.folders import Folders
from host.registry import Registry

from .hub import Hub
from .logs import LogBuffer
from .store import JobStore
from .worker import Worker

__all__ = ["HOST", "MAX_UPLOAD_BYTES", "Host"]

MAX_UPLOAD_BYTES = 100 * 1024 * 1024


@dataclass(frozen=True)
class Host:
    """The parts of a running host.

    Attributes:
        registry: the node classes and the packs they come from.
        folders: where pictures and user files live.
        store: accepted prompts and their results.
        worker: runs them.
        hub: the connected clients.
        logs: the last log lines.
        frontend: folder of the visual editor's files; None where the package is not installed.
        opening: the workflow file with which an empty editor opens, or None.
    """

    registry: Registry
    folders: Folders
    store: JobStore
    worker: Worker
    hub: Hub
    logs: LogBuffer
    frontend: Path | None
    opening: Path | None

    @property
    def user_folder(self) -> Path:
        """Where the one user's settings and workflows are kept."""
        return self.folders.user / "default"


HOST = web.AppKey("host", Host)

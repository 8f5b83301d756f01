"""What a running node may ask of this host: progress, previews, cancellation, folders and routes.

Nodes reach the host through this module alone. The executor opens a `NodeRun` around every call of a node;
the functions here answer for the node that is running in the current thread or task, and do nothing outside
of one, so that a node's code can be called directly, e.g. in a test.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from host.folders import Folders, default_folders

__all__ = [
    "ExecutionBlocker",
    "Interrupted",
    "NodeRun",
    "Routes",
    "check_cancelled",
    "current",
    "folders",
    "open_node",
    "progress",
    "routes",
    "use_folders",
]

ROOT = Path(__file__).resolve().parent.parent


class Interrupted(Exception):
    """The run was cancelled. Raised inside the node that is running; a node should let it pass."""


class Flag(Protocol):
    """What tells a run to stop: anything like `threading.Event`."""

    def is_set(self) -> bool:
        """Say whether the run is to stop."""


@dataclass(frozen=True)
class ExecutionBlocker:
    """A value that a node returns in place of an output: whatever depends on it is not run.

    With a message, the person is told; with None, the nodes behind it are skipped silently.
    """

    message: str | None = None


@dataclass(frozen=True)
class NodeRun:
    """One call of one node: who runs, how it reports, and what tells it to stop.

    Attributes:
        prompt_id: The run.
        node_id: The node, as the prompt names it.
        report: `report(value, total, preview)`, called with each step of progress.
        cancel: Set when the run is to stop.
        list_index: Which call of a mapped node this is.
    """

    prompt_id: str
    node_id: str
    report: Callable[[float, float, Any], None]
    cancel: Flag
    list_index: int | None = None


_running: contextvars.ContextVar[NodeRun | None] = contextvars.ContextVar("running_node", default=None)


@contextmanager
def open_node(run: NodeRun) -> Iterator[None]:
    """Make `run` the answer of `current()` for this thread or task, until the block ends."""
    token = _running.set(run)
    try:
        yield
    finally:
        _running.reset(token)


def current() -> NodeRun | None:
    """Return the node that is running here, or None outside of a run."""
    return _running.get()


def check_cancelled() -> None:
    """Raise `Interrupted` when the person has cancelled the run. A loop that takes time calls this often."""
    run = _running.get()
    if run is not None and run.cancel.is_set():
        raise Interrupted


def progress(value: float, total: float, preview: Any = None) -> None:
    """Report that `value` of `total` steps are done, with an optional picture of how far it has come.

    Args:
        value: Steps done, 0 to total.
        total: Steps in all.
        preview: None, a PIL image, or ComfyUI's tuple `(format, image, max_size)` with format "JPEG" or
            "PNG".

    Raises:
        Interrupted: The person has cancelled the run.
    """
    check_cancelled()
    run = _running.get()
    if run is not None:
        run.report(value, total, preview)


_folders = default_folders(ROOT)


def folders() -> Folders:
    """Return the folders of this host: input, output, temp, models, user, and `save_image_path`."""
    return _folders


def use_folders(chosen: Folders) -> Folders:
    """Let this process read and write below `chosen` from now on. Returns the folders used before."""
    global _folders
    before, _folders = _folders, chosen
    return before


@dataclass(frozen=True)
class Routes:
    """HTTP routes that a pack offers; the server serves each with and without the `/api` prefix.

    A handler is aiohttp's: `async def handler(request) -> aiohttp.web.StreamResponse`.
    """

    handlers: dict[tuple[str, str], Callable[..., Any]] = field(default_factory=dict)

    def register(self, method: str, path: str, handler: Callable[..., Any]) -> None:
        """Offer `handler` under `method` and `path` ("/..."). Must happen while the pack is loaded.

        Registering the same method and path again replaces the handler: a pack may be loaded anew in one
        process.
        """
        if not path.startswith("/"):
            raise ValueError(f"a route's path must start with '/', got {path!r}")
        self.handlers[method.upper(), path] = handler


routes = Routes()

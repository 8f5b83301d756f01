"""What a running node may ask of the host: progress, previews, cancellation, folders and routes.

Nodes reach the host through this module alone. The executor opens a `NodeCall` around every call of a node. The
functions here act on the call that is running in the current thread or task, and do nothing outside of one, so that a
node's code can also be called directly, e.g. in a test.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from host.folders import ROOT, Folders, default_folders

__all__ = [
    "CancelFlag",
    "ExecutionBlocker",
    "Interrupted",
    "NodeCall",
    "Routes",
    "check_cancelled",
    "current",
    "enter_node_call",
    "folders",
    "progress",
    "routes",
    "use_folders",
]


class Interrupted(Exception):
    """The run was cancelled. Raised inside the running node, which should let it propagate."""


class CancelFlag(Protocol):
    """What tells a run to stop: anything like `threading.Event`."""

    def is_set(self) -> bool:
        """Return whether the run should stop."""


@dataclass(frozen=True)
class ExecutionBlocker:
    """A value that a node returns in place of an output: nodes that depend on it are not run.

    With a message, the message is shown to the user; with None, the dependent nodes are skipped silently.
    """

    message: str | None = None


@dataclass(frozen=True)
class NodeCall:
    """One call of one node: how it reports progress, and what tells it to stop.

    Attributes:
        prompt_id: The prompt that is running.
        node_id: The node's id in the prompt.
        report: `report(value, total, preview)`, called with each step of progress.
        cancel: Set when the run should stop.
        list_index: The index of this call, for a node that is called once for each element of a list.
    """

    prompt_id: str
    node_id: str
    report: Callable[[float, float, Any], None]
    cancel: CancelFlag
    list_index: int | None = None


_current_call: contextvars.ContextVar[NodeCall | None] = contextvars.ContextVar("current_node_call", default=None)


@contextmanager
def enter_node_call(call: NodeCall) -> Iterator[None]:
    """Make `call` the current one for this thread or task, until the block ends."""
    token = _current_call.set(call)
    try:
        yield
    finally:
        _current_call.reset(token)


def current() -> NodeCall | None:
    """Return the current call of a node, or None outside of a run."""
    return _current_call.get()


def check_cancelled() -> None:
    """Raise `Interrupted` if the run was cancelled. A long loop should call this often."""
    call = _current_call.get()
    if call is not None and call.cancel.is_set():
        raise Interrupted


def progress(value: float, total: float, preview: Any = None) -> None:
    """Report that `value` of `total` steps are done, with an optional live preview.

    Args:
        value: Steps done, 0 to total.
        total: Number of steps.
        preview: None, a PIL image, or ComfyUI's tuple `(format, image, max_size)` with format "JPEG" or "PNG".

    Raises:
        Interrupted: The run was cancelled.
    """
    check_cancelled()
    call = _current_call.get()
    if call is not None:
        call.report(value, total, preview)


_folders = default_folders(ROOT)


def folders() -> Folders:
    """Return the host's folders: input, output, temp, models, user, and `save_image_path`."""
    return _folders


def use_folders(chosen: Folders) -> Folders:
    """Make this process read and write below `chosen` from now on. Returns the folders used before."""
    global _folders
    before, _folders = _folders, chosen
    return before


@dataclass(frozen=True)
class Routes:
    """HTTP routes that packs register; the server serves each with and without the `/api` prefix.

    A handler is aiohttp's: `async def handler(request) -> aiohttp.web.StreamResponse`.
    """

    handlers: dict[tuple[str, str], Callable[..., Any]] = field(default_factory=dict)

    def register(self, method: str, path: str, handler: Callable[..., Any]) -> None:
        """Register `handler` for `method` and `path` ("/..."), while the pack is being loaded.

        Registering the same method and path again replaces the handler, so that a pack can be loaded twice in one
        process.
        """
        if not path.startswith("/"):
            raise ValueError(f"a route's path must start with '/', got {path!r}")
        self.handlers[method.upper(), path] = handler


routes = Routes()

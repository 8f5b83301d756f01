"""The events of one job on their way to its client: made only if it listens, and never faster than it can be sent.

Events are encoded in the thread that reports them, so that the event loop only queues finished frames.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from host.server.jobs.preview_frames import encode_image, plain_frame, tagged_frame
from host.server.websockets import Frame, WebSockets
from host.strict_json import dumps

__all__ = ["ClientEvents"]

log = logging.getLogger(__name__)

# `progress_state` holds every node that has started, because the page replaces its state with each one. In a large
# graph one is sent a few times a second; in a small one every change is sent.
_NODES_PER_SECOND = 10_000
_NODES_AT_ONCE = 3000
_FLUSH_SECONDS = 0.3  # a held back state is sent after this time if no other event sends it

_MAX_HANDED_OVER = 1000  # frames that the event loop has not queued yet
_HANDOVER_SECONDS = 1.0


class ClientEvents:
    """Sends the events of one job.

    Args:
        websockets: The connected clients.
        post: Calls a function on the event loop's thread, in order.
        client_id: The client; None if nobody listens.
    """

    def __init__(self, websockets: WebSockets, post: Callable[..., Any], client_id: str | None) -> None:
        self._websockets, self._post, self._client_id = websockets, post, client_id
        self._lock = threading.RLock()  # a node may report progress from threads of its own
        self._slots = threading.BoundedSemaphore(_MAX_HANDED_OVER)
        self._held: dict[str, Any] | None = None  # the newest `progress_state`, not sent yet
        self._budget, self._counted_at = float(_NODES_AT_ONCE), time.monotonic()
        self._timer: threading.Timer | None = None

    def send(self, event: str, data: dict[str, Any]) -> None:
        """Send an event, unless the client is not connected."""
        if self._client_id is None or not self._websockets.connected(self._client_id):
            return
        with self._lock:
            if event == "progress_state":
                self._held = data
                self._send_held_if_due()
            elif event == "preview":
                self._send_preview(self._client_id, data)
            else:
                self._hand_over(dumps({"type": event, "data": data}))

    def flush(self) -> None:
        """Send the state that was held back, if there is one."""
        with self._lock:
            held, self._held = self._held, None
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if held is not None:
                self._budget -= len(held["nodes"])
                self._hand_over(dumps({"type": "progress_state", "data": held}))

    def _send_held_if_due(self) -> None:
        now = time.monotonic()
        self._budget = min(_NODES_AT_ONCE, self._budget + (now - self._counted_at) * _NODES_PER_SECOND)
        self._counted_at = now
        if self._held is not None and len(self._held["nodes"]) <= self._budget:
            self.flush()
        elif self._timer is None:
            self._timer = threading.Timer(_FLUSH_SECONDS, self.flush)
            self._timer.daemon = True
            self._timer.start()

    def _hand_over(self, frame: Frame) -> None:
        """Queue a frame on the event loop; if the loop is behind, wait a moment for it."""
        self._slots.acquire(timeout=_HANDOVER_SECONDS)
        self._post(self._publish, frame)

    def _publish(self, frame: Frame) -> None:
        try:
            self._slots.release()
        except ValueError:  # the frame was handed over without waiting any longer
            pass
        if self._client_id is not None:
            self._websockets.publish_frame(frame, self._client_id)

    def _send_preview(self, client_id: str, data: dict[str, Any]) -> None:
        image_format = data["format"]
        node = {name: value for name, value in data.items() if name not in ("image", "format", "max_size")}
        try:
            file = encode_image(data["image"], image_format, data["max_size"])
        except (OSError, ValueError, KeyError):  # a run does not fail because of a preview
            log.warning("node %s gave a preview that is not a picture", data.get("node_id"), exc_info=True)
            return
        is_tagged = self._websockets.supports(client_id, "supports_preview_metadata")
        self._hand_over(tagged_frame(image_format, file, node) if is_tagged else plain_frame(image_format, file))

"""One job on a server: it is queued, its events are passed on, and the server's history tells how it ended.

The WebSocket only makes it quick. What counts is the history: a socket may drop, its last event comes before the result
is stored, and some errors do not end a run. So every sign of an end leads to a look at the history, and while nothing
is heard, history and queue are looked at from time to time: a server that knows the job no more has lost it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import queue
import time
import uuid
from collections.abc import Callable
from typing import Any

import aiohttp

from host.engines.contract import EngineError, EngineLost, Job
from host.engines.remote.client import Answer, Client, Unreachable
from host.engines.remote.frames import DROPPABLE, ENDINGS, Frame, read_binary_frame, read_text_frame, with_prompt_id
from host.engines.remote.history import HistoryEntry, read_history_entry, refusal_sentence

__all__ = ["JobRun", "Refused"]

log = logging.getLogger(__name__)

_FEATURES = {"type": "feature_flags", "data": {"supports_preview_metadata": True}}
_SOCKET_SECONDS = 3.0  # a job is queued without a socket if none is open by then
_RECONNECT_SECONDS = 1.0
_FIRST_LOOK_SECONDS = 0.002  # after a sign of the end; then the pauses double
_POLL_SECONDS = 5.0  # between looks while the socket is open
_POLL_SECONDS_WITHOUT_SOCKET = 0.5
_SETTLING_SECONDS = 2.0  # from an end to the history, which is written a moment later
_LOST_SECONDS = 15.0  # without any answer
_CANCEL_SECONDS = 5.0
_MISSES = 3  # looks that find the job in neither history nor queue: between two of them it may move
_MAX_WAITING_EVENTS = 256  # not yet taken by the caller; then progress and previews are dropped
_MAX_WAITING_OTHERS = 10_000  # then the socket is not read on
_INTERRUPTED = HistoryEntry("interrupted", {}, {}, [], None, None)


class Refused(Exception):
    """The server did not accept the prompt. The message is one sentence."""


class JobRun:
    """Runs a job. `execute` is called once, on the client's event loop.

    Args:
        client: The server.
        job: The job.
        events: Receives (event, data) with the job's own id.
        is_alive: Tells whether the server's process lives; always true for one that is not ours.
    """

    def __init__(
        self,
        client: Client,
        job: Job,
        events: queue.SimpleQueue[tuple[str, dict[str, Any]] | None],
        is_alive: Callable[[], bool],
    ) -> None:
        self._client, self._job, self._events, self._is_alive = client, job, events, is_alive
        # An id of its own for each attempt: a server may still know the job from one that was given up.
        self.prompt_id = str(uuid.uuid4())
        self._client_id = uuid.uuid4().hex
        self._frames: asyncio.Queue[Frame | None] = asyncio.Queue()  # None: the socket broke
        self._socket_settled = asyncio.Event()
        self._socket_is_open = False
        self._ended_at: float | None = None
        self._down_since: float | None = None
        self._misses = 0
        self._is_posted = self._is_cancelled = False
        self._shown: set[str] = set()  # nodes whose `executed` was passed on
        self._held: dict[str, dict[str, Any]] = {}  # endings, passed on when the history confirms one

    async def execute(self) -> HistoryEntry:
        """Run the job, and return how it ended.

        Raises:
            Refused: The server did not accept it.
            EngineLost: The server died, or forgot the job.
            EngineError: It answers nonsense.
        """
        listener = asyncio.create_task(self._listen())
        try:
            try:
                await asyncio.wait_for(self._socket_settled.wait(), _SOCKET_SECONDS)
            except asyncio.TimeoutError:
                log.debug("%s opens no WebSocket; its history is polled", self._client.address)
            if self._is_cancelled:
                return _INTERRUPTED
            await self._post()
            entry = await self._until_ended()
            self._pass_on_the_rest(entry)
            return entry
        finally:
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)

    async def cancel(self) -> None:
        """Stop the job: it leaves the queue, or is interrupted if it runs. `execute` returns then."""
        self._is_cancelled = True
        if self._is_posted:
            self._frames.put_nowait(None)

    # -- requests

    async def _post(self) -> None:
        extra_data = {key: value for key, value in self._job.extra_data.items() if key != "client_id"}
        body: dict[str, Any] = {
            "prompt": self._job.prompt,
            "prompt_id": self.prompt_id,
            "client_id": self._client_id,
            "extra_data": extra_data,
        }
        if self._job.targets is not None:
            body["partial_execution_targets"] = list(self._job.targets)
        try:
            answer = await self._client.post("/prompt", body)
        except Unreachable as error:
            raise EngineLost(f"{self._client.address} did not accept the job: {error}") from error
        accepted = answer.body if isinstance(answer.body, dict) else {}
        if answer.status != 200 or not isinstance(accepted.get("prompt_id"), str):
            if answer.status >= 500 and not accepted:
                raise EngineLost(f"{self._client.address} answers {answer.status} to a prompt")
            raise Refused(refusal_sentence(accepted or f"it answers {answer.status}"))
        self.prompt_id = accepted["prompt_id"]  # a server that knows no ids of clients has chosen one
        self._is_posted = True
        if accepted.get("node_errors"):  # it would run the other outputs only
            await self.send_cancel()
            raise Refused(refusal_sentence(accepted))

    async def send_cancel(self) -> None:
        """Ask the server to drop the job, for a moment; what it answers does not matter."""

        async def ask() -> None:
            await self._client.post("/queue", {"delete": [self.prompt_id]})
            await self._client.post("/interrupt", {"prompt_id": self.prompt_id})

        try:
            await asyncio.wait_for(ask(), _CANCEL_SECONDS)
        except (Unreachable, EngineError, asyncio.TimeoutError):
            pass

    # -- the end

    async def _until_ended(self) -> HistoryEntry:
        pause = self._longest_pause()
        while True:
            try:
                frame = await asyncio.wait_for(self._frames.get(), pause)
            except asyncio.TimeoutError:
                if self._is_cancelled:
                    await self.send_cancel()
                entry = await self._look()
                if entry is not None:
                    return entry
                pause = min(2 * pause, self._longest_pause())
                continue
            if frame is None or await self._pass_on(frame):
                pause = _FIRST_LOOK_SECONDS

    def _longest_pause(self) -> float:
        quick = not self._socket_is_open or self._down_since is not None or self._is_cancelled
        return _POLL_SECONDS_WITHOUT_SOCKET if quick else _POLL_SECONDS

    async def _look(self) -> HistoryEntry | None:
        """Return the history's entry, or None while the job waits or runs."""
        try:
            found = await self._answered(f"/history/{self.prompt_id}")
            entry = found.body.get(self.prompt_id) if isinstance(found.body, dict) else None
            if entry is not None:
                return read_history_entry(entry)
            if self._ended_at is not None and time.monotonic() - self._ended_at < _SETTLING_SECONDS:
                return None
            is_queued = _is_queued((await self._answered("/queue")).body, self.prompt_id)
        except Unreachable as error:
            self._check_lost(error)
            return None
        self._down_since = None
        self._misses = 0 if is_queued else self._misses + 1
        if self._misses < _MISSES:
            return None
        if self._is_cancelled:
            return _INTERRUPTED
        raise EngineLost(f"{self._client.address} does not know the job any more; it was probably started again")

    async def _answered(self, path: str) -> Answer:
        answer = await self._client.get(path)
        if answer.status >= 500:
            raise Unreachable(f"it answers {answer.status}")
        return answer

    def _check_lost(self, error: Unreachable) -> None:
        """Raise EngineLost if the server has not answered for long, or its process ended."""
        now = time.monotonic()
        self._down_since = now if self._down_since is None else self._down_since
        if not self._is_alive() or now - self._down_since > _LOST_SECONDS:
            raise EngineLost(f"{self._client.address} does not answer any more: {error}")

    # -- events

    async def _listen(self) -> None:
        """Keep a socket open, and queue what it says."""
        while True:
            try:
                async with self._client.websocket(self._client_id) as socket:
                    await socket.send_str(json.dumps(_FEATURES))
                    self._socket_is_open = True
                    async for message in socket:
                        self._receive(message)
            except Unreachable as error:
                log.debug("the WebSocket of %s: %s", self._client.address, error)
            self._socket_is_open = False
            self._socket_settled.set()
            self._frames.put_nowait(None)
            await asyncio.sleep(_RECONNECT_SECONDS)

    def _receive(self, message: aiohttp.WSMessage) -> None:
        frame = None
        if message.type is aiohttp.WSMsgType.TEXT:
            frame = read_text_frame(message.data)
            if '"feature_flags"' in message.data[:100]:  # from now on previews come with their node
                self._socket_settled.set()
        elif message.type is aiohttp.WSMsgType.BINARY and self._events.qsize() < _MAX_WAITING_EVENTS:
            frame = read_binary_frame(message.data)
        if frame is not None:
            self._frames.put_nowait(frame)

    async def _pass_on(self, frame: Frame) -> bool:
        """Pass an event on to the caller. Returns whether it may be the end."""
        event, data = frame
        if frame.prompt_id not in (self.prompt_id, None):
            return False
        if event in DROPPABLE and self._events.qsize() > _MAX_WAITING_EVENTS:
            return False
        while self._events.qsize() > _MAX_WAITING_OTHERS:
            await asyncio.sleep(0.01)
        data = with_prompt_id(frame, self._job.id)
        is_blocked = event == "execution_error" and data["exception_type"] == "ExecutionBlocked"  # the run goes on
        if (event in ENDINGS and not is_blocked) or (event == "executing" and data["node"] is None):
            self._held[event] = data
            self._ended_at = time.monotonic()
            return True
        if event == "executed":
            self._shown.add(data["node"])
        self._events.put((event, data))
        return False

    def _pass_on_the_rest(self, entry: HistoryEntry) -> None:
        """Pass on what a broken socket did not bring: results of nodes, and the last event."""
        for node_id, output in entry.outputs.items():
            if node_id not in self._shown:
                display = entry.meta.get(node_id, {}).get("display_node", node_id)
                data = {"node": node_id, "display_node": display, "output": output, "prompt_id": self._job.id}
                self._events.put(("executed", data))
        event, data = entry.ending
        self._events.put((event, self._held.get(event) or {**data, "prompt_id": self._job.id}))


def _is_queued(body: Any, prompt_id: str) -> bool:
    """Return whether the answer to GET /queue names a prompt. Raises Unreachable if it is no such answer."""
    if not isinstance(body, dict) or not all(isinstance(body.get(key), list) for key in _QUEUES):
        raise Unreachable("its queue cannot be read")
    return any(isinstance(item, list) and prompt_id in item[1:2] for key in _QUEUES for item in body[key])


_QUEUES = ("queue_running", "queue_pending")

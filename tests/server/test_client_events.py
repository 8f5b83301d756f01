"""The events of large graphs: few, complete at the end, and none where nobody listens."""

from __future__ import annotations

import json
import time

import pytest

from host.server.jobs import client_events
from host.server.jobs.client_events import ClientEvents


class Clients:
    """The connected clients, and the frames sent to them."""

    def __init__(self, *ids: str) -> None:
        self.ids, self.frames = ids, []

    def connected(self, client_id: str) -> bool:
        return client_id in self.ids

    def supports(self, client_id: str, feature: str) -> bool:
        return False

    def publish_frame(self, frame, client_id):
        self.frames.append(json.loads(frame))


def state(count: int) -> dict:
    return {"prompt_id": "p", "nodes": {str(i): {"value": 1, "max": 1, "state": "finished"} for i in range(count)}}


def at_once(call, *arguments) -> None:
    call(*arguments)


def test_a_large_graph_sends_a_few_states_and_the_last_one(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(client_events.time, "monotonic", lambda: now[0])
    clients = Clients("page")
    events = ClientEvents(clients, at_once, "page")
    for count in range(1, 2901):
        now[0] += 0.001
        events.send("progress_state", state(count))
    events.flush()
    sent = [len(frame["data"]["nodes"]) for frame in clients.frames]
    assert sent[-1] == 2900 and sent == sorted(sent)
    assert len(sent) < 400 and sum(sent) < 40_000  # all of them are 4.2 million nodes


def test_a_small_graph_sends_every_state():
    clients = Clients("page")
    events = ClientEvents(clients, at_once, "page")
    for count in range(1, 11):
        events.send("progress_state", state(count))
    assert [len(frame["data"]["nodes"]) for frame in clients.frames] == list(range(1, 11))


def test_a_state_that_was_held_back_is_sent_without_another_event(monkeypatch):
    monkeypatch.setattr(client_events, "_FLUSH_SECONDS", 0.01)
    clients = Clients("page")
    events = ClientEvents(clients, at_once, "page")
    for count in (2900, 2901, 2902):
        events.send("progress_state", state(count))
    end = time.monotonic() + 20
    while len(clients.frames[-1]["data"]["nodes"]) < 2902:
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("client_id", [None, "somebody who left"])
def test_nothing_is_encoded_where_nobody_listens(monkeypatch, client_id):
    monkeypatch.setattr(client_events, "dumps", lambda value: pytest.fail("encoded"))
    events = ClientEvents(Clients("another"), at_once, client_id)
    events.send("progress_state", state(5))
    events.send("executing", {"node": "1"})
    events.flush()


def test_a_loop_that_is_behind_slows_the_run_down(monkeypatch):
    monkeypatch.setattr(client_events, "_MAX_HANDED_OVER", 2)
    monkeypatch.setattr(client_events, "_HANDOVER_SECONDS", 0.05)
    waiting = []
    events = ClientEvents(Clients("page"), lambda *call: waiting.append(call), "page")
    start = time.monotonic()
    for _ in range(4):
        events.send("executing", {"node": "1"})
    assert time.monotonic() - start >= 0.1
    for call, *arguments in waiting:
        call(*arguments)

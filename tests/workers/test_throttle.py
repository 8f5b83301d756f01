"""Which events may be dropped on their way."""

from __future__ import annotations

import time

from host.workers.throttle import Throttle


def state(**nodes):
    return {
        "prompt_id": "p",
        "nodes": {node: {"value": value, "state": state} for node, (value, state) in nodes.items()},
    }


def test_progress_and_previews_are_thinned_out_and_nothing_else():
    got = []
    throttle = Throttle(lambda event, data: got.append((event, data)))
    throttle("progress_state", state(a=(0, "running")))
    start = time.monotonic()
    for step in range(200):
        for event in ("progress", "preview", "executed"):
            throttle(event, {"step": step})
        throttle("progress_state", state(a=(step, "running")))
        time.sleep(0.001)
    seconds = time.monotonic() - start
    throttle("progress_state", state(a=(200, "finished")))
    names = [event for event, _ in got]
    assert names.count("executed") == 200
    for event in ("progress", "preview"):
        assert 2 <= names.count(event) <= seconds * 10 + 1
    assert names.count("progress_state") <= seconds * 10 + 3
    assert got[0][1] == state(a=(0, "running")) and got[-1][1] == state(a=(200, "finished"))
    steps = [data["step"] for event, data in got if event == "progress"]
    assert steps[0] == 0 and steps == sorted(steps)


def test_that_a_node_starts_or_finishes_is_always_told():
    got = []
    throttle = Throttle(lambda event, data: got.append(data))
    turns = [state(a=(0, "running")), state(a=(1, "finished")), state(a=(1, "finished"), b=(0, "running"))]
    for turn in turns:
        throttle("progress_state", turn)
    assert got == turns

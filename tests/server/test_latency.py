"""Other requests are answered while an allowed one keeps the host busy: 99 of 100 within 250 ms on a quiet machine.

`answer_times.py` asks for /features all the time. What counts is the part of each answer's time in which the host's own
threads can have kept it waiting: never more than the time itself, and never more than the processor time that the host
used meanwhile. So other programs on the machine cannot fail these tests, and a stall of the event loop can.
"""

from __future__ import annotations

import io
import json
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

import pytest
from PIL import Image

from host.limits import MAX_BODY_BYTES, MAX_JSON_VALUES, MAX_PICTURE_PIXELS
from tests.server import answer_times
from tests.server.support import HostProcess, graph

ALLOWED_SECONDS = 0.25


@pytest.fixture(scope="module")
def host(toy_pack, tmp_path_factory) -> Iterator[HostProcess]:
    started = HostProcess(tmp_path_factory.mktemp("latency"), [toy_pack])
    started.finished(started.submit(graph()))  # the first run imports more than the others
    yield started
    started.stop()


@dataclass
class Answers:
    """For each request for /features: the seconds until the answer, and the host's processor seconds meanwhile."""

    pairs: list[tuple[float, float]] = field(default_factory=list)

    def waited(self) -> float:
        """The 99th percentile of the time."""
        return percentile([seconds for seconds, _ in self.pairs])

    def kept_waiting(self) -> float:
        """The 99th percentile of the time in which the host kept the client waiting."""
        return percentile([min(pair) for pair in self.pairs])


def percentile(times: list[float]) -> float:
    """The 99th percentile for a client that comes at any moment: one long answer counts as often as it had lasted."""
    period = answer_times.PERIOD
    moments = sorted(seconds - step * period for seconds in times for step in range(int(seconds / period) + 1))
    return moments[int(0.99 * (len(moments) - 1))]


@contextmanager
def sampled(host: HostProcess) -> Iterator[Answers]:
    """Ask for /features again and again during the block."""
    port = urllib.parse.urlsplit(host.address).port
    command = [sys.executable, answer_times.__file__, str(port), str(host.process.pid)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    answers = Answers()
    try:
        yield answers
    finally:
        answers.pairs += json.loads(process.communicate(timeout=200)[0])


def assert_responsive(answers: Answers) -> None:
    assert answers.pairs
    assert answers.kept_waiting() < ALLOWED_SECONDS, (answers.kept_waiting(), answers.waited())


def test_a_busy_loop_is_noticed(host):
    """What these tests measure: work of 0.4 s on the event loop, and a lock of 0.4 s held by another thread."""
    for where in ("loop", "thread"):
        with sampled(host) as answers:
            assert host.get(f"/toy/busy?seconds=0.4&where={where}").status == 200
        assert answers.kept_waiting() > ALLOWED_SECONDS


def chain(length: int) -> dict:
    """A prompt of trivial nodes in a row."""
    first = {"class_type": "ToyPicture", "inputs": {"width": 8, "height": 8, "level": 0.5}}
    steps = {
        str(i): {"class_type": "ToySteps", "inputs": {"image": [str(i - 1), 0], "steps": 1, "seconds": 0, "mark": ""}}
        for i in range(1, length - 1)
    }
    last = {"class_type": "PreviewImage", "inputs": {"images": [str(length - 2), 0]}}
    return {"0": first, **steps, str(length - 1): last}


@pytest.mark.parametrize("client", ["listens", "absent"])
def test_a_prompt_of_2900_nodes(host, client):
    host.post("/free", {"free_memory": True})
    socket = host.socket() if client == "listens" else None
    before = host.rss()
    with sampled(host) as answers:
        prompt_id = host.submit(chain(2900), socket.sid if socket else "absent")
        if socket is not None:
            socket.run_of(prompt_id)
        assert host.finished(prompt_id)["status"]["completed"] is True
    assert host.rss() < before + (200 << 20)
    assert_responsive(answers)
    if socket is not None:
        states = [data["nodes"] for kind, data in socket.events if kind == "progress_state"]
        assert len(states[-1]) == 2900 and len(states) < 1000
        assert all(node["state"] == "finished" for node in states[-1].values())
        socket.close()


def test_the_largest_picture_is_uploaded_shown_and_loaded(host):
    """Decoding, scaling and encoding happen in C, which may hold the interpreter's lock or not."""
    size = (8192, MAX_PICTURE_PIXELS // 8192)
    picture = io.BytesIO()
    Image.linear_gradient("L").resize(size).convert("RGB").save(picture, "JPEG", quality=80)
    loading = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "large.jpg"}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    with sampled(host) as answers:
        assert host.upload("/upload/image", "large.jpg", picture.getvalue()).status == 200
        for query in ("preview=webp;90", "preview=jpeg", "channel=a"):
            assert host.get(f"/view?filename=large.jpg&type=input&{query}").status == 200
        assert host.finished(host.submit(loading))["status"]["completed"] is True
    assert_responsive(answers)


def prompt_with(note: str) -> bytes:
    """An allowed body of POST /prompt; `note` is JSON text."""
    graph = json.dumps(chain(3))
    return f'{{"prompt": {graph}, "extra_data": {{"note": {note}}}}}'.encode()


def fill(item: str, size: int) -> str:
    return "[" + ",".join([item] * (size // (len(item) + 1))) + "]"


FULL = MAX_BODY_BYTES - 10_000
BODIES = {
    "one text": (lambda: prompt_with('"' + "x" * FULL + '"'), 200),
    "numbers": (lambda: prompt_with(fill("0.123456", 9 * (MAX_JSON_VALUES - 100))), 200),
    "long integers": (lambda: prompt_with(fill("9" * 4299, FULL // 2)), 200),
    "objects": (lambda: prompt_with(fill('{"a":{"b":"c"}}', 16 * (MAX_JSON_VALUES // 3 - 100))), 200),
    "too many": (lambda: prompt_with(fill("{}", FULL)), 400),
}


@pytest.mark.parametrize("name", ["one text", "long integers", "numbers", "too many"])
def test_a_large_body(host, name):
    make, status = BODIES[name]
    body = make()
    assert len(body) <= MAX_BODY_BYTES
    before, peak = host.rss(), host.peak()
    with sampled(host) as answers:
        assert host.post("/prompt", body).status == status
        host.wait(lambda: host.get("/prompt").json["exec_info"]["queue_remaining"] == 0)
    assert_responsive(answers)
    assert max(host.peak(), peak) < before + (1 << 30)


def test_eight_large_bodies_at_once(host):
    before, names = (
        host.rss(),
        ["one text", "too many", "one text", "objects", "one text", "too many", "one text", "numbers"],
    )
    bodies = [BODIES[name][0]() for name in names]
    host.submit(graph(0.76, steps=20_000, seconds=0.05))  # the others wait for it
    with sampled(host) as answers, ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda body: host.post("/prompt", body).status, bodies))
    host.post("/queue", {"clear": True}), host.post("/interrupt")
    assert statuses == [BODIES[name][1] for name in names]
    assert_responsive(answers)
    assert host.peak() < before + (3 << 30)


def test_a_queue_of_large_prompts(host):
    """Four prompts of 28 MiB, and then two clients ask for the queue at once."""
    before, body = host.rss(), prompt_with('"' + "x" * (28 << 20) + '"')
    host.submit(graph(0.77, steps=20_000, seconds=0.05))
    for _ in range(4):
        assert host.post("/prompt", body).status == 200
    with sampled(host) as answers, ThreadPoolExecutor(2) as pool:
        sizes = list(pool.map(lambda _: len(host.get("/queue").body), range(2)))
    assert min(sizes) > 4 * (28 << 20)
    host.post("/queue", {"clear": True}), host.post("/interrupt")
    assert host.peak() < before + (3 << 29)
    assert_responsive(answers)


SETTING = fill('{"a":[0.123456,7]}', 19 * (MAX_JSON_VALUES // 4 - 100)).encode()
IDS = json.dumps({"job_ids": ["00000000-0000-0000-0000-000000000000"] * (MAX_JSON_VALUES - 10) + ["x"]}).encode()
REQUESTS: dict[str, Callable[[HostProcess], int]] = {
    "settings to store": lambda host: host.post("/settings/large", SETTING).status,
    "settings to read": lambda host: host.get("/settings").status,
    "ids to cancel": lambda host: host.post("/jobs/cancel", IDS).status,
    "a user's file": lambda host: host.post("/userdata/large.json", b" " * FULL).status,
}


@pytest.mark.parametrize("name", REQUESTS)
def test_other_large_requests(host, name):
    with sampled(host) as answers:
        assert REQUESTS[name](host) == (400 if name == "ids to cancel" else 200)
    assert_responsive(answers)


def test_a_locked_store(host):
    """Another program holds the job store for longer than the host waits for it. This takes no processor time."""
    requests = [
        ("/prompt", {"prompt": chain(3)}),
        ("/free", {"free_memory": True}),  # wakes the worker, which asks for the next job
        ("/interrupt", {}),
        ("/history", {"clear": True}),
        ("/queue", {"clear": True}),
    ]
    path, refused, answered = host.data / "user/jobs.sqlite3", threading.Event(), []

    def post(request):
        answer = host.post(*request)
        answered.append(answer)
        if answer.status == 503:
            refused.set()

    with closing(sqlite3.connect(path, isolation_level=None)) as other, sampled(host) as answers:
        other.execute("BEGIN IMMEDIATE")
        with ThreadPoolExecutor(len(requests)) as pool:
            for request in requests:
                pool.submit(post, request)
                time.sleep(0.05)
            assert refused.wait(60)
            other.execute("ROLLBACK")
    assert {answer.status for answer in answered} == {200, 503} and len(answered) == len(requests)
    assert all("try again" in answer.json["error"] for answer in answered if answer.status == 503)
    assert "Traceback" not in host.errors.read_text()
    assert answers.waited() < 4 * ALLOWED_SECONDS, "a store call waited on the event loop: it waits for 5 s"

"""A short run of every target, with the same inputs each time; `make fuzz` is the long one, with other inputs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz import requests
from tests.fuzz.runner import Tally, run
from tests.fuzz.targets import TARGETS
from tests.fuzz.workbench import Target, Workbench

SEED = 1
EXAMPLES_OF_A_ROUTE = 25


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory):
    bench = Workbench(tmp_path_factory.mktemp("fuzz") / "bench")
    yield bench
    bench.close()


def fuzz(target: Target, bench: Workbench) -> Tally:
    tally = Tally()
    run(target, bench, target.examples, SEED, tally)
    return tally


@pytest.mark.parametrize("target", [t for t in TARGETS if t.name != "work-goes-on"], ids=lambda target: target.name)
def test_every_answer_is_one_that_was_promised(bench, target):
    tally = fuzz(target, bench)
    assert tally.inputs >= target.examples // 2 and len(tally.answers) >= 2, tally  # or else it is not reached


@pytest.mark.parametrize("method, path", requests.ROUTES, ids=str)
def test_no_request_is_an_error_of_the_host(bench, method, path):
    fuzz(Target("route", requests.requests_to(method, path), requests.send, examples=EXAMPLES_OF_A_ROUTE), bench)


def test_the_host_still_works(bench):
    (target,) = (target for target in TARGETS if target.name == "work-goes-on")
    assert fuzz(target, bench).answers == {"completed": 1}

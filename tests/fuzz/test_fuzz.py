"""A short run of every target, with the same inputs each time; `make fuzz` is the long one, with other inputs."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

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


def _misbehave(bench: Workbench, kind: int) -> str:
    """A target with every fault."""
    if kind == 1:
        raise KeyError("not promised")
    if kind == 2:
        raise ValueError("x" * 5000)
    if kind == 3:
        (bench.folder / "outside" / "secret.txt").write_text("changed")
    if kind == 4:
        (bench.folders.temp / ".x.tmp").touch()
    return "right"


@pytest.mark.parametrize(
    ("kind", "found"), [(1, KeyError), (2, AssertionError), (3, AssertionError), (4, AssertionError)]
)
def test_a_fault_is_found(tmp_path, kind, found):
    """The fuzzers can fail."""
    bench = Workbench(tmp_path / "bench")
    target = Target("faulty", st.just(kind), _misbehave, (ValueError,), examples=1)
    with pytest.raises(found):
        fuzz(target, bench)
    bench.close()


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

"""Which job is next."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from host.sweep.running.pending import Pending


@given(
    done=st.lists(st.booleans(), max_size=40),
    choices=st.lists(st.integers(0, 3), max_size=400),
    workers=st.integers(1, 3),
)
def test_every_job_is_done_once_whatever_is_lost(done, choices, workers):
    pending = Pending(bytearray(done))
    running: dict[int, str] = {}
    finished = []
    steps = iter(choices)
    while pending.left:
        worker = f"worker {next(steps, 0) % workers}"
        index = pending.take(worker, is_alone=workers == 1)
        if index is not None:
            assert not done[index] and index not in running and index not in finished
            running[index] = worker
        for other, owner in list(running.items()):
            if next(steps, 1) == 3:
                pending.put_back(other, owner)
                del running[other]
            elif next(steps, 1):
                pending.finish(other)
                finished.append(other)
                del running[other]
        if index is None and not running and pending.left:
            other = pending.take(worker, is_alone=True)  # what this worker has lost, now that nobody else is there
            assert other is not None
            running[other] = worker
    assert sorted(finished) == [index for index, is_done in enumerate(done) if not is_done]
    assert pending.take("worker 0", is_alone=True) is None


def test_the_lowest_job_comes_first():
    pending = Pending(bytearray([0, 1, 0, 0]))
    assert [pending.take("a", is_alone=False) for _ in range(2)] == [0, 2]
    pending.put_back(0, "a")
    assert pending.take("a", is_alone=False) == 3  # it has lost job 0: somebody else should try
    pending.put_back(3, "a")
    assert pending.take("b", is_alone=False) == 0
    assert pending.take("a", is_alone=False) is None and pending.take("a", is_alone=True) == 3

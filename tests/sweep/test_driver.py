"""The driver with engines of this process: who gets which job, and what becomes of it."""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest

from host.engines.contract import EngineError, EngineLost, JobResult
from host.sweep.running import JOURNAL_NAME, Canary, Journal, JournalError, Sweep
from tests.sweep.support import DEADLINE, Ears, ToyEngine, ToyJobs, ToyPool, contents, result_of, wait_until


@pytest.fixture
def journal(folder):
    made = Journal.create(folder / JOURNAL_NAME, "{}")
    yield made
    made.close()


def recorded(journal):
    return {record.index: record for record in journal.results()}


def failing(text="on purpose"):
    return JobResult("error", {}, (), "", text, 0.1)


def lose(times):
    """A behaviour that raises EngineLost the first times."""
    count = Counter()

    def behave(index):
        count[index] += 1
        if count[index] <= times.get(index, 0):
            raise EngineLost("it fell over")

    return behave


def test_one_worker_runs_the_jobs_in_order(journal, folder):
    engine, ears = ToyEngine("one"), Ears()
    pool = ToyPool([engine])
    outcome = Sweep(ToyJobs(20), pool, journal, folder, ears).run()
    assert outcome.complete and outcome.succeeded == 20 and not outcome.interrupted and outcome.stopped is None
    assert engine.ran == list(range(20)) and pool.closed >= 1
    assert len(contents(folder)) == 20
    assert ears.all("ended") == [("one", index, "success") for index in range(20)]
    assert engine.inputs == []


def test_inputs_are_put_once_for_each_worker_and_again_after_a_loss(journal, folder):
    engine, other = ToyEngine("one", lose({3: 1})), ToyEngine("other", lambda index: time.sleep(0.01))
    given = {"a/b.png": b"data"}
    Sweep(ToyJobs(10), ToyPool([engine, other]), journal, folder, Ears(), inputs=given).run()
    lost = 3 in engine.ran
    assert engine.inputs == [given] * (1 + lost) and other.inputs == [given]


def test_a_lost_job_goes_to_another_worker_if_there_is_one(journal, folder):
    began = threading.Event()
    ears = Ears()

    def bad(index):
        if index == 0:
            began.set()
            wait_until(lambda: ("good",) in ears.all("joined"))
            raise EngineLost("its memory is broken")

    pool = ToyPool([ToyEngine("bad", bad)], late={ToyEngine("good"): began})
    outcome = Sweep(ToyJobs(5), pool, journal, folder, ears).run()
    assert outcome.succeeded == 5 and recorded(journal)[0].worker == "good"
    assert ears.all("notice") == [("job 0 is run again: its memory is broken",)]


@pytest.mark.parametrize("workers", [1, 3])
def test_a_job_is_tried_three_times_in_all(workers, journal, folder):
    engines = [ToyEngine(f"engine {number}", lose({2: 9})) for number in range(workers)]
    ears = Ears()
    outcome = Sweep(ToyJobs(6), ToyPool(engines), journal, folder, ears).run()
    assert (outcome.succeeded, outcome.failed) == (5, 1)
    assert sum(engine.ran.count(2) for engine in engines) == 3
    assert recorded(journal)[2].error == "3 attempts failed: it fell over"
    assert [status for _, index, status in ears.all("ended") if index == 2] == ["lost"] * 3


def test_attempts_are_counted_across_runs(journal, folder):
    for index in (2, 2):
        journal.add_attempt(index)
    engine = ToyEngine("one", lose({2: 9}))
    assert Sweep(ToyJobs(4), ToyPool([engine]), journal, folder, Ears()).run().failed == 1
    assert engine.ran.count(2) == 1


def test_a_node_that_raises_is_recorded_with_what_was_finished(journal, folder):
    def behave(index):
        if index == 1:
            done = result_of(b"first picture")
            return JobResult("error", {}, done.files, done.digest, "node 5 raised", 0.5)

    outcome = Sweep(ToyJobs(3), ToyPool([ToyEngine("one", behave)]), journal, folder, Ears()).run()
    assert (outcome.succeeded, outcome.failed) == (2, 1)
    record = recorded(journal)[1]
    assert (record.status, record.error) == ("error", "node 5 raised")
    assert (folder / record.files[0].name).read_bytes() == b"first picture"


def test_a_worker_that_joins_late_takes_part(journal, folder):
    third = threading.Event()
    late_ran = threading.Event()

    def early(index):
        if index == 3:
            third.set()
            assert late_ran.wait(DEADLINE)

    late = ToyEngine("late", lambda index: late_ran.set())
    ears = Ears()
    pool = ToyPool([ToyEngine("early", early)], {late: third})
    outcome = Sweep(ToyJobs(12), pool, journal, folder, ears).run()
    assert outcome.succeeded == 12 and late.ran
    assert ears.all("joined") == [("early",), ("late",)]


def test_a_slow_worker_delays_its_own_job_only_and_nobody_repeats_it(journal, folder):
    others_done = threading.Event()
    slow = ToyEngine("slow", lambda index: others_done.wait(DEADLINE) and None)
    counted = []

    def hear(what):
        if what[0] == "ended":
            counted.append(what)
            if len(counted) == 29:
                others_done.set()

    fast = ToyEngine("fast", lambda index: wait_until(lambda: slow.ran))
    outcome = Sweep(ToyJobs(30), ToyPool([slow, fast]), journal, folder, Ears(hear)).run()
    assert outcome.succeeded == 30 and len(slow.ran) == 1 and len(fast.ran) == 29
    assert sorted(slow.ran + fast.ran) == list(range(30))


def test_an_idle_worker_waits_for_a_job_that_another_may_lose(journal, folder):
    idle = threading.Event()

    def hear(what):
        if what[:2] == ("ended", "good"):  # either of the two jobs: which worker comes first is left to chance
            idle.set()

    def bad(index):
        assert idle.wait(DEADLINE)
        time.sleep(0.2)
        raise EngineLost("gone at the end")

    class Bad(ToyEngine):
        def put_inputs(self, files):
            if self.ran:
                raise EngineError("it will not come back")

    good = ToyEngine("good", lambda index: wait_until(lambda: worse.ran))
    worse = Bad("bad", bad)
    ears = Ears(hear)
    outcome = Sweep(ToyJobs(2), ToyPool([worse, good]), journal, folder, ears, inputs={"x": b""}).run()
    assert outcome.succeeded == 2 and sorted(good.ran) == [0, 1] and worse.ran == [good.ran[1]]
    assert ears.all("gone") == [("bad", "it will not come back")]


def test_a_result_is_recorded_once(journal, folder):
    assert journal.record(next(iter(_records(journal, folder))))
    assert not journal.record(_first(worker="other"))
    assert journal.result(0).worker == "first"


def _first(worker="first"):
    from host.sweep.contract import Record

    return Record(0, "success", worker=worker)


def _records(journal, folder):
    yield _first()


def test_a_request_to_stop_interrupts_and_keeps_what_is_finished(journal, folder):
    engine = ToyEngine("one")
    engine._behaviour = lambda index: engine.stop.wait(DEADLINE) and None if index == 2 else None
    ears = Ears()
    sweep = Sweep(ToyJobs(5), ToyPool([engine]), journal, folder, ears)
    stopper = threading.Thread(target=lambda: (wait_until(lambda: 2 in engine.ran), sweep.request_stop()))
    stopper.start()
    outcome = sweep.run()
    stopper.join()
    assert outcome.interrupted and outcome.succeeded == 2 and outcome.stopped is None
    assert sorted(recorded(journal)) == [0, 1]
    assert ears.all("ended")[-1] == ("one", 2, "interrupted")
    again = ToyEngine("two")
    assert Sweep(ToyJobs(5), ToyPool([again]), journal, folder, Ears()).run().succeeded == 5
    assert again.ran == [2, 3, 4]


def test_a_job_that_someone_else_stopped_is_run_again(journal, folder):
    count = Counter()

    def behave(index):
        count[index] += 1
        if count[1] == 1 and index == 1:
            return JobResult("interrupted", {}, (), "", "stopped", 0.0)

    outcome = Sweep(ToyJobs(3), ToyPool([ToyEngine("one", behave)]), journal, folder, Ears()).run()
    assert outcome.succeeded == 3 and count[1] == 2


def test_the_sweep_ends_when_no_worker_is_left(journal, folder):
    def behave(index):
        if index == 2:
            raise EngineError("its disk is gone")

    ears = Ears()
    outcome = Sweep(ToyJobs(5), ToyPool([ToyEngine("one", behave)]), journal, folder, ears).run()
    assert outcome.succeeded == 2 and "no worker is left" in outcome.stopped
    assert ears.all("gone") == [("one", "its disk is gone")]


def test_a_pool_that_cannot_start_ends_the_sweep_with_its_sentence(journal, folder):
    class Broken(ToyPool):
        def start(self, on_join):
            raise EngineError("no GPU has a driver")

    outcome = Sweep(ToyJobs(5), Broken([]), journal, folder, Ears()).run()
    assert outcome.stopped == "no GPU has a driver" and not outcome.complete


def test_a_file_that_cannot_be_written_stops_the_sweep(journal, folder):
    (folder / "00002_seed=2.png").mkdir()
    outcome = Sweep(ToyJobs(5), ToyPool([ToyEngine("one")]), journal, folder, Ears()).run()
    assert "00002_seed=2.png cannot be written" in outcome.stopped and "--resume" in outcome.stopped
    assert sorted(recorded(journal)) == [0, 1]


def test_a_fault_of_the_program_ends_the_sweep_and_is_raised(journal, folder):
    def behave(index):
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError):
        Sweep(ToyJobs(5), ToyPool([ToyEngine("one", behave)]), journal, folder, Ears()).run()
    assert recorded(journal) == {}


def test_a_journal_of_another_sweep_is_refused(journal, folder):
    Sweep(ToyJobs(5), ToyPool([ToyEngine("one")]), journal, folder, Ears()).run()
    with pytest.raises(JournalError, match="has a result of job 3, but the sweep has 3 jobs"):
        Sweep(ToyJobs(3), ToyPool([ToyEngine("one")]), journal, folder, Ears())


def test_a_finished_sweep_needs_no_worker_and_closes_those_that_there_are(journal, folder):
    Sweep(ToyJobs(3), ToyPool([ToyEngine("one")]), journal, folder, Ears()).run()
    engine, ears = ToyEngine("two"), Ears()
    pool = ToyPool([engine])
    assert Sweep(ToyJobs(3), pool, journal, folder, ears).run().succeeded == 3
    assert engine.ran == [] and ears.heard == [] and pool.closed == 1


def test_leftovers_of_a_killed_driver_are_deleted_and_other_files_stay(journal, folder):
    (folder / f".{'0' * 32}.tmp").write_bytes(b"half a picture")
    (folder / ".mine").write_bytes(b"keep")
    Sweep(ToyJobs(1), ToyPool([ToyEngine("one")]), journal, folder, Ears()).run()
    assert sorted(contents(folder)) == [".mine", "00000_seed=0.png"]


# -- the canary


def run_with_canary(journal, folder, engines, *, exact, count=8, late=None):
    ears = Ears()
    sweep = Sweep(ToyJobs(count), ToyPool(engines, late), journal, folder, ears, canary=Canary(exact))
    return sweep.run(), ears


def hold(index):
    if index:
        time.sleep(0.02)


@pytest.mark.parametrize("exact", [False, True])
def test_each_worker_runs_job_0_when_it_joins(exact, journal, folder):
    engines = [ToyEngine(f"engine {number}", hold) for number in range(3)]
    outcome, ears = run_with_canary(journal, folder, engines, exact=exact)
    assert outcome.succeeded == 8 and ears.all("notice") == [] and ears.all("gone") == []
    assert all(engine.ran[0] == 0 and engine.ran.count(0) == 1 for engine in engines)
    assert sorted(index for engine in engines for index in engine.ran if index) == list(range(1, 8))
    statuses = [status for _, index, status in ears.all("ended") if index == 0]
    assert sorted(statuses) == ["canary", "canary", "success"]


@pytest.mark.parametrize("exact", [False, True])
def test_a_worker_that_makes_other_pictures_is_named_and_refused_under_exact(exact, journal, folder):
    began = threading.Event()

    def first(index):
        if index == 1:
            began.set()
            wait_until(lambda: other.ran and (exact or len(other.ran) > 1))
            time.sleep(0.05)

    other = ToyEngine("other", hold, taste=b"+")
    outcome, ears = run_with_canary(journal, folder, [ToyEngine("first", first)], exact=exact, late={other: began})
    assert outcome.succeeded == 8
    (text,) = [entry[-1] for entry in ears.all("gone" if exact else "notice")]
    assert "other makes other pictures than first" in text and "'toy+' instead of 'toy'" in text
    assert (other.ran == [0]) is exact
    assert recorded(journal)[0].worker == "first"
    assert ears.all("notice" if exact else "gone") == []


def test_a_worker_is_compared_with_an_earlier_run(journal, folder):
    run_with_canary(journal, folder, [ToyEngine("first")], exact=True, count=8)
    journal.forget(5)
    other = ToyEngine("other", taste=b"+")
    outcome, ears = run_with_canary(journal, folder, [other], exact=True)
    assert other.ran == [0] and "no worker is left" in outcome.stopped
    assert "than first of an earlier run" in ears.all("gone")[0][1]


def test_a_canary_that_fails_is_recorded_and_the_sweep_goes_on(journal, folder):
    engines = [ToyEngine(name, lambda index: failing() if index == 0 else None) for name in "ab"]
    outcome, ears = run_with_canary(journal, folder, engines, exact=True)
    assert (outcome.succeeded, outcome.failed) == (7, 1)
    assert recorded(journal)[0].error == "on purpose"


def test_a_canary_that_kills_every_worker_is_given_up(journal, folder):
    engine = ToyEngine("one", lose({0: 9}))
    outcome, ears = run_with_canary(journal, folder, [engine], exact=True)
    assert (outcome.succeeded, outcome.failed) == (7, 1) and engine.ran.count(0) == 3


def test_a_worker_that_comes_back_is_compared_again(journal, folder):
    engine = ToyEngine("one", lose({4: 1}))
    outcome, ears = run_with_canary(journal, folder, [engine], exact=True)
    assert outcome.succeeded == 8 and engine.ran.count(0) == 2

"""Worker processes: what they answer, how they die, and that nothing of them stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from host.engines.contract import EngineError, EngineLost
from host.engines.spec import EngineSpec
from host.workers.local import LocalPool
from host.workers.process_engine import ProcessEngine
from tests.sweep.support import DEADLINE, ROOT, ToyJobs, wait_until


@pytest.fixture
def make(sweep_pack):
    made = []

    def start(**more) -> ProcessEngine:
        made.append(ProcessEngine(EngineSpec(**{"packs": (str(sweep_pack),), **more}), f"worker {len(made) + 1}"))
        return made[-1]

    yield start
    for engine in made:
        engine.close()


def run(engine, action="", emit=lambda event, data: None):
    return engine.run(ToyJobs(1, {"0": action}).job(0), emit)


def pid_of(engine):
    return engine._process._process.pid


def folder_of(engine):
    return Path(engine._process.folder)


def is_alive(pid):
    try:
        return "Z" != Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def test_a_worker_does_what_an_engine_does(make, sweep_pack, tmp_path):
    engine = make()
    events = []
    result = run(engine, emit=lambda event, data: events.append((event, data)))
    assert result.status == "success" and len(result.files) == 1
    assert [event for event, _ in events][0] == "execution_start" and events[-1][0] == "execution_success"
    assert "SweepAct" in engine.object_info() and engine.environment()["threads"] == 1
    folder = folder_of(engine)
    assert folder.is_dir()
    script = (
        "import sys, json; from pathlib import Path; from host.engines.start import start;"
        "from host.engines.spec import EngineSpec; from tests.sweep.support import ToyJobs;"
        "result = start(EngineSpec(packs=(sys.argv[1],)), Path(sys.argv[2]), 'here').run("
        "ToyJobs(1).job(0), lambda event, data: None);"
        "sys.stdout.write(result.files[0].data.hex() + ' ' + result.digest)"
    )
    command = [sys.executable, "-c", script, str(sweep_pack), str(tmp_path)]
    here = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE)
    assert here.stdout == f"{result.files[0].data.hex()} {result.digest}", here.stderr
    engine.close()
    engine.close()
    assert not folder.exists()
    with pytest.raises(EngineError, match="worker 1 was closed"):
        run(engine)


def test_inputs_arrive(make):
    engine = make()
    engine.put_inputs({"a/b.txt": b"x" * 51})
    result = engine.run(ToyJobs(1, read="a/b.txt").job(0), lambda event, data: None)
    assert result.status == "success"
    with pytest.raises(EngineError, match="cannot be put"):
        engine.put_inputs({"../b.txt": b""})


def test_threads_are_set_before_libraries_are_loaded(make):
    engine = make(threads=2)
    engine.start()
    variables = Path(f"/proc/{pid_of(engine)}/environ").read_bytes().split(b"\0")
    assert b"OMP_NUM_THREADS=2" in variables and engine.environment()["threads"] == 2


@pytest.mark.parametrize(
    ("action", "told"), [("kill", "worker 1 was ended by SIGKILL"), ("exit 7", "worker 1 ended with exit code 7")]
)
def test_a_worker_that_dies_is_told_and_starts_again(make, action, told):
    engine = make()
    with pytest.raises(EngineLost, match=told):
        run(engine, action)
    assert run(engine).status == "success"


def test_a_worker_that_dies_between_jobs_is_told_and_starts_again(make):
    engine = make()
    run(engine)
    folder, pid = folder_of(engine), pid_of(engine)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid))
    with pytest.raises(EngineLost, match="SIGKILL"):
        run(engine)
    assert not folder.exists()
    assert run(engine).status == "success"


def test_what_a_dead_worker_started_ends_too(make, tmp_path):
    """Or a ComfyUI would keep its GPU."""
    engine = make()
    with pytest.raises(EngineLost, match="SIGKILL"):
        run(engine, "child-and-kill")
    child = int((tmp_path / "child").read_text())
    wait_until(lambda: not is_alive(child))


def test_a_job_can_be_interrupted_and_the_next_one_runs(make, tmp_path):
    engine = make()
    engine.start()
    results = []
    thread = threading.Thread(target=lambda: results.append(run(engine, "wait for-ever")))
    thread.start()
    while thread.is_alive():  # a request that comes before the job has begun is lost
        engine.interrupt()
        thread.join(0.2)
    assert results[0].status == "interrupted"
    engine.interrupt()
    assert run(engine).status == "success"


def test_progress_comes_about_ten_times_a_second(make):
    engine, heard = make(), []
    start = time.monotonic()
    run(engine, "steps 1000", lambda event, data: heard.append(event))
    assert 1 <= heard.count("progress") <= (time.monotonic() - start) * 10 + 2
    assert heard.count("executed") == 1


def test_an_engine_that_refuses_is_told_at_once(make):
    with pytest.raises(EngineError, match="is not a node pack"):
        make(packs=("/no/such/pack",)).start()
    with pytest.raises(EngineError, match="an engine is one of"):
        make(kind="abacus").start()


def test_a_process_that_cannot_start_gives_its_last_words(make, tmp_path, sweep_pack):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "__init__.py").write_text("import os; print('no GPU here', flush=True); os._exit(5)")
    with pytest.raises(EngineError, match=r"(?s)worker 1 cannot be started: .*exit code 5.*3 times.*no GPU here"):
        make(packs=(str(broken),)).start()


def test_a_worker_that_prints_a_lot_is_not_held_up(make):
    assert run(make(), "print 300000").status == "success"


def test_a_pool_starts_side_by_side_and_leaves_nothing(sweep_pack):
    pool = LocalPool([EngineSpec(packs=(str(sweep_pack),))], 3)
    joined = []
    pool.start(joined.append)
    assert sorted(engine.name for engine in joined) == ["worker 1", "worker 2", "worker 3"]
    pids, folders = [pid_of(engine) for engine in joined], [folder_of(engine) for engine in joined]
    pool.close()
    assert not any(map(is_alive, pids)) and not any(folder.exists() for folder in folders)


def test_a_pool_can_be_closed_while_jobs_run(sweep_pack):
    pool = LocalPool([EngineSpec(packs=(str(sweep_pack),))], 2)
    endings = []

    def work(engine):
        with pytest.raises((EngineLost, EngineError)) as caught:
            while True:
                run(engine, "wait for-ever")
        endings.append(caught.value)

    threads = []

    def on_join(engine):
        threads.append(threading.Thread(target=work, args=(engine,)))
        threads[-1].start()

    pool.start(on_join)
    pool.close()
    for thread in threads:
        thread.join(DEADLINE)
    assert len(endings) == 2


def test_a_pool_that_cannot_start_says_why():
    joined = []
    with pytest.raises(EngineError, match="is not a node pack"):
        LocalPool([EngineSpec(packs=("/no/such/pack",))], 2).start(joined.append)
    assert joined == []


def test_a_pool_goes_on_without_a_worker_that_cannot_start(sweep_pack, caplog):
    pool = LocalPool([EngineSpec(packs=("/no/such/pack",)), EngineSpec(packs=(str(sweep_pack),))])
    joined = []
    pool.start(joined.append)
    assert [engine.name for engine in joined] == ["worker 2"]
    assert "is not a node pack" in caplog.text
    pool.close()


DRIVER = """
import sys, time
from host.engines.spec import EngineSpec
from host.workers.process_engine import ProcessEngine
from tests.sweep.support import ToyJobs
engine = ProcessEngine(EngineSpec(packs=(sys.argv[1],)), "worker")
engine.start()
print(engine._process._process.pid, engine._process.folder, flush=True)
engine.run(ToyJobs(1, {"0": sys.argv[2]}).job(0), lambda event, data: None)
"""


@pytest.mark.parametrize("action", ["wait for-ever", "sleep 1000", ""])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_ends_when_its_driver_is_gone(number, action, sweep_pack, tmp_path):
    """Also in a node that never looks up."""
    command = [sys.executable, "-c", DRIVER, str(sweep_pack), action or "wait for-ever"]
    driver = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    pid, folder = driver.stdout.readline().split()
    if action:
        wait_until(lambda: (tmp_path / "log.txt").exists())
    driver.send_signal(number)
    driver.communicate()
    wait_until(lambda: not is_alive(int(pid)))
    wait_until(lambda: not Path(folder).exists())


def test_ctrl_c_in_the_terminal_does_not_reach_a_worker(make):
    engine = make()
    engine.start()
    pid = pid_of(engine)
    assert os.getsid(pid) == pid and os.getpgid(pid) == pid
    os.kill(pid, signal.SIGINT)
    assert run(engine).status == "success" and pid_of(engine) == pid


def test_relative_names_of_nodes_mean_the_same_as_in_one_process(make, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    engine = make()
    engine.start()
    assert os.readlink(f"/proc/{pid_of(engine)}/cwd") == str(tmp_path)

"""Sweeps with real worker processes, and drivers that die: nothing is lost, nothing is done twice."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.sweep.support import DEADLINE, DriverProcess, ToyJobs, contents, results_in, wait_until

JOBS = 60


def logged(folder: Path, count: int, **more) -> ToyJobs:
    return ToyJobs(count, notes=str(folder.parent), **more)


@pytest.fixture(scope="module")
def reference(sweep_pack: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of 60 jobs by one worker."""
    folder = tmp_path_factory.mktemp("reference")
    jobs = ToyJobs(JOBS, notes=str(tmp_path_factory.mktemp("notes")))
    assert DriverProcess(folder, sweep_pack, jobs).end()["succeeded"] == JOBS
    files = contents(folder)
    assert len(files) == JOBS and len(set(files.values())) == JOBS
    return files


@pytest.fixture(scope="module")
def undisturbed(sweep_pack: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, bytes]]:
    """The files of eight jobs of which none is killed, though one says so; its words are in its picture."""

    @cache
    def files(where: str) -> dict[str, bytes]:
        folder, notes = tmp_path_factory.mktemp("undisturbed"), tmp_path_factory.mktemp("notes")
        (notes / "killed").touch()  # once is over
        jobs = ToyJobs(8, notes=str(notes), **{where: {"3": "kill-once killed"}})
        assert DriverProcess(folder, sweep_pack, jobs, 1).end()["succeeded"] == 8
        return contents(folder)

    return files


@pytest.mark.parametrize("workers", [2, 3])
def test_the_files_do_not_depend_on_the_number_of_workers(workers, folder, sweep_pack, reference):
    jobs = logged(folder, JOBS)
    outcome = DriverProcess(folder, sweep_pack, jobs, workers).end()
    assert (outcome["succeeded"], outcome["failed"], outcome["interrupted"]) == (JOBS, 0, False)
    assert outcome["stopped"] is None and outcome["notices"] == []
    assert contents(folder) == reference
    assert sorted(jobs.marks()) == list(range(JOBS))
    assert len({record.worker for record in results_in(folder)}) > 1


@pytest.mark.parametrize("where", ["actions", "after_saving"])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_job_whose_worker_is_killed_is_run_again(where, workers, folder, sweep_pack, undisturbed):
    """In a node before a file is saved, and after it was saved and renamed but before anybody heard of it."""
    jobs = logged(folder, 8, **{where: {"3": "kill-once killed"}})
    outcome = DriverProcess(folder, sweep_pack, jobs, workers).end()
    assert (outcome["succeeded"], outcome["failed"]) == (8, 0)
    assert "job 3 is run again" in outcome["notices"][0] and "SIGKILL" in outcome["notices"][0]
    assert sorted(jobs.marks()) == [0, 1, 2, 3, 3, 4, 5, 6, 7]
    assert contents(folder) == undisturbed(where)


def test_a_job_that_kills_every_worker_is_given_up_and_the_others_go_on(folder, sweep_pack):
    jobs = logged(folder, 6, actions={"2": "kill"})
    outcome = DriverProcess(folder, sweep_pack, jobs, 2).end()
    assert (outcome["succeeded"], outcome["failed"]) == (5, 1)
    assert jobs.marks().count(2) == 3 and len(jobs.marks()) == 8
    record = results_in(folder)[2]
    assert record.status == "error" and "3 attempts failed" in record.error and "SIGKILL" in record.error


def test_a_job_whose_node_raises_is_recorded_and_the_others_go_on(folder, sweep_pack):
    jobs = logged(folder, 6, actions={"0": "raise on purpose", "4": "raise again"})
    outcome = DriverProcess(folder, sweep_pack, jobs, 2).end()
    assert (outcome["succeeded"], outcome["failed"], outcome["stopped"]) == (4, 2, None)
    assert len(contents(folder)) == 4
    assert "node 2 (SweepAct) raised ValueError: on purpose" in results_in(folder)[0].error
    assert DriverProcess(folder, sweep_pack, jobs, 1).end()["failed"] == 2
    assert len(jobs.marks()) == 6  # a job that failed has a result: it is not run again
    mended = logged(folder, 6)
    assert DriverProcess(folder, sweep_pack, mended, 1, retry_failed=True).end()["failed"] == 0
    assert sorted(jobs.marks()) == [0, 0, 1, 2, 3, 4, 4, 5]


@pytest.mark.timeout(900)
def test_a_killed_driver_loses_nothing_and_leaves_nothing_running(folder, sweep_pack, reference):
    """Killed at many moments: the next driver runs what has no result, each job once."""
    jobs = logged(folder, JOBS)
    folders_before = set(Path("/tmp").glob("ddim-worker-*"))
    done = kills = 0
    while done < JOBS:
        driver = DriverProcess(folder, sweep_pack, jobs, 2)
        limit = min(JOBS, len(contents(folder)) + 20)
        wait_until(lambda limit=limit: len(list(folder.glob("*.png"))) >= limit, "so many files")
        driver.kill()
        kills += 1
        before, done = done, len(results_in(folder))
        assert done > before
    assert kills >= 2
    final = DriverProcess(folder, sweep_pack, jobs, 2).end()
    assert (final["succeeded"], final["failed"]) == (JOBS, 0)
    assert contents(folder) == reference  # no temporary file is left either
    # Only what was running when a driver died began again: two jobs a kill.
    assert len(jobs.marks()) <= JOBS + 2 * kills
    wait_until(lambda: set(Path("/tmp").glob("ddim-worker-*")) <= folders_before, "the workers' folders are deleted")


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_driver_that_dies_beside_the_renaming_of_a_file_loses_nothing(moment, folder, sweep_pack):
    jobs = logged(folder, 6)
    died = DriverProcess(folder, sweep_pack, jobs, die=moment)
    assert died.process.wait(DEADLINE) == -9
    died.kill()
    assert [record.index for record in results_in(folder)] == [0, 1, 2]
    left = set(contents(folder)) - {f"0000{index}_seed={index}.png" for index in range(3)}
    assert len(left) == 1 and next(iter(left)).endswith(".tmp" if moment == "before" else "00003_seed=3.png")
    assert DriverProcess(folder, sweep_pack, jobs).end()["succeeded"] == 6
    assert jobs.marks() == [3, 4, 5]  # the first three had an engine that does not note
    assert sorted(contents(folder)) == [f"0000{index}_seed={index}.png" for index in range(6)]
    assert contents(folder)["00003_seed=3.png"].startswith(b"\x89PNG")


def test_what_was_recorded_is_not_run_again_after_a_kill(folder, sweep_pack):
    jobs = logged(folder, 6, actions={"4": "wait gate"})
    driver = DriverProcess(folder, sweep_pack, jobs, 1)
    wait_until(lambda: 4 in jobs.marks())
    driver.kill()
    (folder.parent / "gate").touch()
    assert [record.index for record in results_in(folder)] == [0, 1, 2, 3]
    assert DriverProcess(folder, sweep_pack, jobs, 1).end()["succeeded"] == 6
    assert jobs.marks() == [0, 1, 2, 3, 4, 4, 5]


def test_a_job_whose_file_is_gone_is_run_again(folder, sweep_pack):
    jobs = logged(folder, 5)
    DriverProcess(folder, sweep_pack, jobs, 1).end()
    files = contents(folder)
    (folder / "00003_seed=3.png").unlink()
    (folder / "00001_seed=1.png").write_bytes(b"cut")
    assert DriverProcess(folder, sweep_pack, jobs, 1).end()["succeeded"] == 5
    assert contents(folder) == files
    assert jobs.marks() == [0, 1, 2, 3, 4, 1, 3]


def test_ctrl_c_stops_started_jobs_and_keeps_finished_ones(folder, sweep_pack):
    jobs = logged(folder, 6, actions={"2": "wait for-ever", "3": "wait for-ever"})
    driver = DriverProcess(folder, sweep_pack, jobs, 2)
    wait_until(lambda: {2, 3} <= set(jobs.marks()))
    driver.interrupt()
    outcome = driver.end()
    assert outcome["interrupted"] and (outcome["succeeded"], outcome["failed"]) == (2, 0)
    assert [record.index for record in results_in(folder)] == [0, 1]
    assert outcome["notices"] == [] and outcome["stopped"] is None
    free = logged(folder, 6)
    assert DriverProcess(folder, sweep_pack, free, 2).end()["succeeded"] == 6
    assert sorted(jobs.marks()) == [0, 1, 2, 2, 3, 3, 4, 5]


def test_a_second_driver_is_refused(folder, sweep_pack):
    jobs = logged(folder, 2, actions={"1": "wait gate"})
    driver = DriverProcess(folder, sweep_pack, jobs, 1)
    wait_until(lambda: 1 in jobs.marks())
    assert "another process works on the sweep" in DriverProcess(folder, sweep_pack, jobs, 1).end()["error"]
    (folder.parent / "gate").touch()
    assert driver.end()["succeeded"] == 2
    assert jobs.marks() == [0, 1]


def small_disk(path: Path, copy: Path) -> list[str]:
    """A command that runs another one with a disk of 400 KB at `path`, whose files end up in `copy`."""
    script = f'mount -t tmpfs -o size=400k none "{path}" && "$@"; code=$?; cp -a "{path}/." "{copy}"; exit $code'
    return ["unshare", "-rm", "sh", "-c", script, "sh"]


def can_mount(path: Path) -> bool:
    if shutil.which("unshare") is None:
        return False
    command = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", str(path)]
    return subprocess.run(command, capture_output=True).returncode == 0


def test_a_full_disk_stops_the_sweep_and_nothing_is_recorded_that_is_not_there(folder, sweep_pack, tmp_path):
    if not can_mount(folder):
        pytest.skip("needs `unshare -rm` and tmpfs")
    copy = tmp_path / "copy"
    copy.mkdir()
    jobs = logged(folder, 20, size=100)  # 30 KB each: eight or nine fit beside the journal
    outcome = DriverProcess(folder, sweep_pack, jobs, 2, before=small_disk(folder, copy)).end()
    assert 2 < outcome["succeeded"] < 14 and outcome["failed"] == 0
    assert "No space left on device" in outcome["stopped"] or "full" in outcome["stopped"]
    assert "--resume" in outcome["stopped"]
    records = results_in(copy)
    assert len(records) == outcome["succeeded"]
    for record in records:
        assert [(copy / file.name).stat().st_size for file in record.files] == [file.size for file in record.files]
    assert DriverProcess(copy, sweep_pack, jobs, 2).end()["succeeded"] == 20
    assert len(contents(copy)) == 20


def test_two_workers_take_half_the_time(folder, sweep_pack):
    """Jobs that wait, so that other work on the machine takes nothing from them; `bench.sweep` has jobs that work."""
    seconds = []
    for workers in (1, 2):
        place = folder / str(workers)
        place.mkdir()
        outcome = DriverProcess(place, sweep_pack, logged(folder, 6, actions={"*": "sleep 1.0"}), workers).end()
        assert outcome["succeeded"] == 6
        seconds.append(outcome["seconds"])
    assert 1.5 <= seconds[0] / seconds[1] <= 2.1, seconds

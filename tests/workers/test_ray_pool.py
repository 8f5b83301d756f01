"""Workers on a real Ray cluster of several nodes on this machine, which asks for a token."""

from __future__ import annotations

import secrets
import subprocess
import sys

import pytest

from host.engines.spec import EngineSpec
from host.sweep.running import JOURNAL_NAME, Journal, Sweep
from host.workers.local import LocalPool
from tests.sweep.support import Ears, ToyJobs, contents, wait_until
from tests.workers.ray_support import ROOT, RayDriver, make_packs, ray_cluster

pytestmark = pytest.mark.cluster
JOBS = 60


@pytest.fixture(scope="module")
def packs(tmp_path_factory):
    """Two packs; neither lies where the nodes of a cluster look by themselves."""
    return make_packs(tmp_path_factory.mktemp("packs"))


@pytest.fixture(scope="module")
def notes_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("notes")


@pytest.fixture(autouse=True)
def notes(notes_folder):
    """Where the toy nodes note what they do, empty: the nodes of a cluster are told once."""
    for path in notes_folder.iterdir():
        path.unlink()
    return notes_folder


@pytest.fixture(scope="module")
def cluster(notes_folder):
    """A head with room for one worker."""
    with ray_cluster(1, notes_folder) as started:
        yield started


@pytest.fixture
def folder(tmp_path):
    """The folder of a sweep."""
    made = tmp_path / "sweep"
    made.mkdir()
    return made


@pytest.fixture(scope="module")
def local_files(packs, notes_folder, tmp_path_factory):
    """What two worker processes make of the jobs."""
    folder = tmp_path_factory.mktemp("local")
    journal = Journal.create(folder / JOURNAL_NAME, "{}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWEEP_NOTES", str(notes_folder))
        outcome = Sweep(ToyJobs(JOBS), LocalPool([EngineSpec(packs=tuple(packs))], 2), journal, folder, Ears()).run()
    journal.close()
    assert outcome.succeeded == JOBS
    return contents(folder)


def start(cluster, packs, folder, jobs, **order):
    return RayDriver(cluster, {"packs": packs, "folder": str(folder), "jobs": vars(jobs), **order})


@pytest.fixture(scope="class")
def second_node(cluster):
    """A node with room for two workers."""
    index, node = cluster.add(2)
    yield node
    cluster.kill(index)


class TestThreeWorkers:
    @pytest.mark.parametrize("workers", [1, 2, None])
    def test_any_number_of_workers_makes_the_files_that_local_workers_make(
        self, cluster, second_node, packs, notes, folder, local_files, workers
    ):
        found = start(cluster, packs, folder, ToyJobs(JOBS), workers=workers, exact=True).end()
        assert found["succeeded"] == JOBS and found["notice"] == found["gone"] == []
        assert contents(folder) == local_files
        names = [name for (name,) in found["joined"]]
        assert len(names) == len(set(names)) <= (workers or 3)
        assert {name.rsplit(" ", 1)[0] for name in names} <= {
            f"ray {node[:4]} cpu" for node in (cluster.head, second_node)
        }


def test_a_worker_that_dies_in_a_job_is_started_again_and_the_job_too(cluster, packs, notes, folder):
    jobs = ToyJobs(5, {"2": "kill-once died", "3": "raise on purpose"}, notes=str(notes))
    found = start(cluster, packs, folder, jobs, workers=1).end()
    assert (found["succeeded"], found["failed"], found["gone"]) == (4, 1, []), found
    assert jobs.marks() == [0, 1, 2, 2, 3, 4] or sorted(jobs.marks()) == [0, 1, 2, 2, 3, 4]
    assert any("died" in text for (text,) in found["notice"])


def test_jobs_of_a_node_that_is_lost_run_elsewhere_and_a_late_node_takes_part(cluster, packs, notes, folder):
    """At first there is room for one worker; then for two more; then those are gone."""
    jobs = ToyJobs(8, {"*": "wait go"}, notes=str(notes))
    driver = start(cluster, packs, folder, jobs)
    wait_until(lambda: len(jobs.marks()) == 1)
    index, node = cluster.add(2)
    wait_until(lambda: len(jobs.marks()) == 3)
    cluster.kill(index)
    (notes / "go").touch()
    found = driver.end()
    assert found["succeeded"] == 8 and found["stopped"] is None, found
    late = {f"ray {node[:4]} cpu {number}" for number in (0, 1)}
    assert late < {name for (name,) in found["joined"]}
    assert {name for name, _ in found["gone"]} <= late
    assert sorted(set(jobs.marks())) == list(range(8)) and len(jobs.marks()) == 10  # two of them ran twice


@pytest.mark.parametrize("exact", [False, True])
def test_a_worker_that_makes_other_pictures_is_named_and_refused_if_asked(cluster, packs, notes, folder, exact):
    jobs = ToyJobs(10, {"1": "wait go", "2": "wait go"}, notes=str(notes))
    index, node = cluster.add(1, RAY_TILE_TASTE="7")
    try:
        driver = start(cluster, packs, folder, jobs, tiles=True, exact=exact)
        wait_until(lambda: jobs.marks().count(0) == 2)
        (notes / "go").touch()
        found = driver.end()
    finally:
        cluster.kill(index)
    assert found["succeeded"] == 10
    names = sorted(f"ray {each[:4]} cpu 0" for each in (cluster.head, node))
    texts = [text for _, text in found["gone"]] if exact else [text for (text,) in found["notice"]]
    assert len(texts) == 1 and all(name in texts[0] for name in names)
    assert ("is refused" if exact else "takes part") in texts[0]
    assert len(set(contents(folder).values())) == 10 or not exact


def test_events_come_through_a_job_can_be_stopped_and_calls_are_cheap(cluster, packs, notes):
    steps, count = 2000, 200
    found = RayDriver(cluster, {"packs": packs, "workers": 1, "steps": steps, "count": count}).end()
    assert (found["status"], found["stopped"]) == ("success", "interrupted")
    assert found["worker"] == f"ray {cluster.head[:4]} cpu 0" and found["environment"]["threads"] == 1
    events = found["events"]
    assert events[0] == "execution_start" and events[-1] == "execution_success"
    assert [name for name in events if name.startswith("exec")].count("executed") == 1
    assert 0 < len(found["progress"]) < steps / 2 and found["progress"] == sorted(found["progress"])
    assert found["previews"] and all(max(size) <= 256 for size in found["previews"])
    print(f"a job that does nothing: {1000 * found['wall']:.2f} ms, driver {1000 * found['processor']:.2f} ms")
    assert found["processor"] < 0.005


def test_a_token_that_is_not_the_clusters_is_explained(cluster, packs):
    order = {"packs": packs, "count": 1, "steps": 1}
    for variables in ({"RAY_AUTH_TOKEN": secrets.token_hex(32)}, {"RAY_AUTH_MODE": "disabled"}):
        error = RayDriver(cluster, order, **variables).end()["error"]
        assert "asks for a token" in error and "ray get-auth-token" in error and "RAY_AUTH_MODE=token" in error
    error = RayDriver(cluster, order, RAY_AUTH_TOKEN_PATH="").end()["error"]
    assert "ray get-auth-token" in error


def test_addresses_without_a_cluster_are_explained(cluster, packs):
    for address, part in {
        "127.0.0.1:9": "no Ray cluster answers at 127.0.0.1:9",
        "ray://127.0.0.1:9": "no Ray cluster answers at ray://127.0.0.1:9",
        "localhost": "expects auto, HOST:PORT or ray://HOST:PORT",
    }.items():
        error = RayDriver(cluster, {"packs": packs, "count": 1, "steps": 1, "address": address}).end()["error"]
        assert part in error


def test_without_ray_the_address_is_explained():
    code = (
        "import sys; sys.modules['ray'] = None\n"
        "from host.workers.ray_pool import RayPool; from host.engines.spec import EngineSpec\n"
        "RayPool([EngineSpec()], 'auto').start(print)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert "EngineError: --address needs Ray" in done.stderr and "pip install" in done.stderr


def test_when_the_head_is_lost_finished_jobs_are_kept_and_the_rest_runs_later(packs, notes, notes_folder, folder):
    jobs = ToyJobs(6, {"3": "wait go", "4": "wait go"}, notes=str(notes))
    with ray_cluster(1, notes_folder) as first:
        driver = start(first, packs, folder, jobs, lost_seconds=4.0)
        wait_until(lambda: 3 in jobs.marks())
        first.kill_head()
        found = driver.end()
    assert not found["failed"] and found["succeeded"] == 3
    assert "--resume" in found["stopped"]
    assert any("the head of the Ray cluster" in reason and "--resume" in reason for _, reason in found["gone"])
    (notes / "go").touch()
    with ray_cluster(1, notes_folder) as second:
        found = start(second, packs, folder, jobs).end()
    assert found["succeeded"] == 6
    assert sorted(jobs.marks()) == [0, 1, 2, 3, 3, 4, 5]

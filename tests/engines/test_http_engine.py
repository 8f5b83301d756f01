"""A server that already runs as an engine: this project's own, in a process of its own."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web
from PIL import Image

from host.engines.contract import EngineError, EngineLost, Job
from host.engines.embedded import EmbeddedEngine
from host.engines.http import HttpEngine
from host.engines.picture_metadata import made_with, read_texts
from host.engines.spec import EngineSpec
from tests.engines.servers import Background, Heard, contents, loading_graph, relay, served, silent
from tests.server.support import HostProcess, failing_graph, graph, make_pack

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def toy_pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pack(tmp_path_factory.mktemp("packs"))


@pytest.fixture(scope="module")
def server(toy_pack: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    host = HostProcess(tmp_path_factory.mktemp("data"), [toy_pack])
    yield host
    host.stop()


@pytest.fixture
def engine(server: HostProcess, tmp_path: Path) -> Iterator[HttpEngine]:
    engine = connect(server.address, tmp_path)
    yield engine
    engine.close()


def connect(address: str, folder: Path) -> HttpEngine:
    return HttpEngine(EngineSpec("http", address), folder, "somewhere")


def picture(level: int, size: tuple[int, int] = (24, 16)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (level, 90, 30)).save(buffer, "PNG")
    return buffer.getvalue()


# -- the same results


def test_files_are_the_same_as_those_of_the_embedded_engine(engine: HttpEngine, toy_pack: Path, tmp_path: Path) -> None:
    here = EmbeddedEngine(EngineSpec(packs=(str(toy_pack),)), tmp_path / "here", "here")
    extra = {"extra_pnginfo": {"workflow": {"nodes": [], "title": "käse"}}}
    for level in (0.25, 0.5, 0.5):  # the last one is cached there
        job = Job("any id at all", graph(level), extra)
        ours, theirs = here.run(job, silent), engine.run(job, silent)
        assert (theirs.status, theirs.error, theirs.digest) == ("success", None, ours.digest)
        assert contents(theirs) == contents(ours) and len(contents(ours)) == 1
        assert [file.digest for file in theirs.files] == [file.digest for file in ours.files]
        assert theirs.outputs == ours.outputs
    here.close()


def test_pictures_say_what_made_them(engine: HttpEngine) -> None:
    (file,) = engine.run(Job("a", graph()), silent).files
    facts = made_with(read_texts(file.data))
    assert facts is not None and facts["environment"] == engine.environment()
    assert facts["environment"]["devices"] and facts["environment"]["version"]
    assert facts["digest"] == file.digest


def test_the_environment_names_no_machine(engine: HttpEngine, server: HostProcess) -> None:
    told = str(engine.environment())
    assert server.address not in told and str(server.data) not in told and "/" not in told


def test_the_description_of_the_nodes_is_the_servers(engine: HttpEngine, server: HostProcess) -> None:
    assert engine.object_info() == server.get("/object_info").json


# -- events


def test_every_event_of_the_job_comes_in_order_and_under_its_own_id(engine: HttpEngine) -> None:
    heard = Heard()
    result = engine.run(Job("my job", graph(0.125, steps=4)), heard)
    names = [event for event, _ in heard.events]
    assert names[0] == "execution_start" and names[-1] == "execution_success"
    assert {"execution_cached", "progress_state", "executing", "progress", "preview", "executed"} < set(names)
    assert {data["prompt_id"] for _, data in heard.events} == {"my job"}
    states = [state for data in heard.of("progress_state") for state in data["nodes"].values()]
    assert states and {state["prompt_id"] for state in states} == {"my job"}
    assert [data["value"] for data in heard.of("progress")] == [1, 2, 3, 4]
    assert heard.of("executed")[-1]["output"].keys() == result.outputs["3"].keys()
    assert None not in [data["node"] for data in heard.of("executing")]


def test_previews_are_pictures_of_their_nodes(engine: HttpEngine) -> None:
    heard = Heard()
    engine.run(Job("a", graph(0.375, steps=2, mark="previews")), heard)
    previews = heard.of("preview")
    assert [preview["image"].size for preview in previews] == [(16, 16)] * 2
    assert {(preview["node_id"], preview["format"]) for preview in previews} == {("2", "JPEG")}


def test_a_caller_that_is_slow_loses_progress_only(engine: HttpEngine) -> None:
    def wait(event: str, data: dict) -> None:
        time.sleep(0.002)

    heard = Heard(wait)
    engine.run(Job("a", graph(0.625, steps=2000, mark="slow")), heard)
    assert 0 < len(heard.of("preview")) < 2000
    assert len(heard.of("executed")) == 1 and heard.events[-1][0] == "execution_success"
    assert len(heard.of("executing")) == 3


@pytest.mark.parametrize("frames", [None, 0, 3, 12])
def test_a_socket_that_breaks_costs_events_only(server: HostProcess, tmp_path: Path, frames: int | None) -> None:
    with served(relay(server.address, frames)) as address:
        engine = connect(address, tmp_path)
        heard = Heard()
        result = engine.run(Job("a", graph(0.75, steps=3, seconds=0.1, mark=f"cut {frames}")), heard)
        engine.close()
    assert result.status == "success" and len(result.files) == 1
    assert [data["node"] for data in heard.of("executed")] == ["3"]
    assert heard.events[-1][0] == "execution_success"
    assert [event for event, _ in heard.events].count("execution_success") == 1


# -- stopping


def test_a_running_job_is_interrupted_between_steps(engine: HttpEngine, server: HostProcess) -> None:
    def stop(event: str, data: dict) -> None:
        if event == "progress" and data["value"] == 3:
            engine.interrupt()

    heard = Heard(stop)
    result = Background(engine, Job("a", graph(steps=10_000, seconds=0.05)), heard).wait()
    assert result.status == "interrupted" and result.files == ()
    assert heard.events[-1][0] == "execution_interrupted"
    assert "stopped at node 2" in str(result.error)
    assert engine.run(Job("b", graph()), silent).status == "success"


def test_a_waiting_job_leaves_the_queue_and_the_other_clients_go_on(engine: HttpEngine, server: HostProcess) -> None:
    other = server.submit(graph(steps=10_000, seconds=0.02, mark="other"))
    server.wait(lambda: server.get("/queue").json["queue_running"])
    waiting = Background(engine, Job("a", graph(0.5, mark="waiting")))
    server.wait(lambda: server.get("/queue").json["queue_pending"])
    engine.interrupt()
    assert waiting.wait().status == "interrupted"
    queue = server.get("/queue").json
    assert queue["queue_pending"] == [] and [item[1] for item in queue["queue_running"]] == [other]
    server.post("/interrupt", {"prompt_id": other})
    server.finished(other)


def test_interrupting_nothing_does_nothing(engine: HttpEngine) -> None:
    engine.interrupt()
    assert engine.run(Job("a", graph()), silent).status == "success"


def test_closing_takes_the_job_from_the_server(server: HostProcess, tmp_path: Path) -> None:
    engine = connect(server.address, tmp_path)
    running = threading.Event()
    job = Background(engine, Job("a", graph(steps=10_000, seconds=0.05)), lambda event, data: running.set())
    assert running.wait(100)
    engine.close()
    engine.close()
    with pytest.raises(EngineLost, match="closed"):
        job.wait()
    server.wait(lambda: not server.get("/queue").json["queue_running"])


# -- other clients


def test_other_clients_on_the_same_server_do_not_mix(engine: HttpEngine, server: HostProcess, tmp_path: Path) -> None:
    second = connect(server.address, tmp_path)
    heard, heard_by_second = Heard(), Heard()
    jobs = [
        Background(engine, Job("first", graph(0.25, steps=20, seconds=0.02, mark="1")), heard),
        Background(second, Job("second", graph(1.0, steps=20, seconds=0.02, mark="2")), heard_by_second),
    ]
    others = [server.submit(graph(0.5, mark=str(index))) for index in range(3)]
    results = [job.wait() for job in jobs]
    for other in others:
        server.finished(other)
    second.close()
    colours = [Image.open(io.BytesIO(result.files[0].data)).getpixel((0, 0))[0] for result in results]
    assert colours == [63, 255]
    for told, name in ((heard, "first"), (heard_by_second, "second")):
        assert {data["prompt_id"] for _, data in told.events} == {name}
        assert len(told.of("execution_start")) == 1


# -- input files


def test_input_files_are_uploaded_under_their_names(engine: HttpEngine, server: HostProcess) -> None:
    names = {"a b.png": 10, "folder/deeper/c.png": 120, "made.png [output]": 200, "ü.png": 250}
    engine.put_inputs({name: picture(level) for name, level in names.items()})
    for name, level in names.items():
        result = engine.run(Job("a", loading_graph(name)), silent)
        assert result.status == "success", result.error
        assert Image.open(io.BytesIO(result.files[0].data)).getpixel((5, 5)) == (level, 90, 30)
    assert (server.data / "output/made.png").is_file()


def test_a_file_with_another_content_is_replaced_and_the_same_is_not_sent_again(
    engine: HttpEngine, server: HostProcess
) -> None:
    path = server.data / "input/twice.png"
    engine.put_inputs({"twice.png": picture(1)})
    before = path.stat()
    engine.put_inputs({"twice.png": picture(1)})
    assert path.stat().st_ino == before.st_ino and path.stat().st_mtime_ns == before.st_mtime_ns
    for content in (picture(2), picture(3, (300, 300)), picture(4, (2, 2))):
        engine.put_inputs({"twice.png": content})
        assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("name", "content"), [("program.exe", b"MZ"), ("broken.png", b"no picture"), ("../out.png", picture(1)), ("", b"")]
)
def test_a_file_that_the_server_refuses_is_named(engine: HttpEngine, name: str, content: bytes) -> None:
    with pytest.raises(EngineError, match="cannot be uploaded"):
        engine.put_inputs({name: content})


# -- errors of jobs


def test_a_node_that_raises_is_an_error_of_the_job(engine: HttpEngine) -> None:
    heard = Heard()
    result = engine.run(Job("a", failing_graph()), heard)
    assert (result.status, result.error) == ("error", "node 2 (ToyFail) raised ValueError: on purpose")
    assert heard.events[-1][0] == "execution_error" and heard.events[-1][1]["prompt_id"] == "a"
    assert engine.run(Job("a", graph()), silent).status == "success"


def test_a_refused_prompt_is_an_error_of_the_job(engine: HttpEngine) -> None:
    prompt = graph()
    prompt["1"]["inputs"]["width"] = -1
    result = engine.run(Job("a", prompt), silent)
    assert result.status == "error" and result.files == ()
    assert "node 1 (ToyPicture): Value -1 smaller than min of 8" in str(result.error)
    result = engine.run(Job("a", {"1": {"class_type": "Unknown", "inputs": {}}}), silent)
    assert "Unknown" in str(result.error) and "not found" in str(result.error)


def test_a_prompt_with_one_bad_output_is_refused_and_does_not_run(engine: HttpEngine, server: HostProcess) -> None:
    prompt = graph(steps=100, seconds=0.02)
    prompt["9"] = {"class_type": "SaveImage", "inputs": {"filename_prefix": "x"}}
    result = engine.run(Job("a", prompt), silent)
    assert result.status == "error" and "node 9 (SaveImage): Required input is missing" in str(result.error)
    server.wait(lambda: not server.get("/queue").json["queue_running"])


def test_only_the_targets_run(engine: HttpEngine) -> None:
    prompt = graph()
    prompt["9"] = {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "nine"}}
    result = engine.run(Job("a", prompt, targets=("9",)), silent)
    assert [file.node_id for file in result.files] == ["9"]
    both = engine.run(Job("a", prompt), silent)
    assert [file.node_id for file in both.files] == ["3", "9"]


# -- servers that die


def restarted(host: HostProcess, pack: Path) -> HostProcess:
    return HostProcess(host.data, [pack], port=int(host.address.rpartition(":")[2]))


def test_a_server_that_dies_in_a_job_is_lost_and_the_next_call_waits_for_it(toy_pack: Path, tmp_path: Path) -> None:
    host = HostProcess(tmp_path / "data", [toy_pack])
    engine = connect(host.address, tmp_path)
    running = threading.Event()
    job = Background(engine, Job("a", graph(steps=10_000, seconds=0.05)), lambda event, data: running.set())
    assert running.wait(100)
    host.kill()
    with pytest.raises(EngineLost, match="does not answer any more"):
        job.wait()
    again = Background(engine, Job("a", graph(0.5)))
    host = restarted(host, toy_pack)
    try:
        # The new server takes the old job up again; nobody waits for it, so it is taken away.
        assert again.wait().status == "success"
        assert not host.get("/queue").json["queue_running"]
    finally:
        engine.close()
        host.kill()


def test_a_server_that_comes_back_with_the_job_is_not_lost(toy_pack: Path, tmp_path: Path) -> None:
    host = HostProcess(tmp_path / "data", [toy_pack])
    engine = connect(host.address, tmp_path)
    running = threading.Event()
    job = Background(engine, Job("a", graph(steps=50, seconds=0.05)), lambda event, data: running.set())
    assert running.wait(100)
    host.kill()
    host = restarted(host, toy_pack)
    try:
        assert job.wait().status == "success"
    finally:
        engine.close()
        host.kill()


def test_a_server_that_comes_back_without_the_job_has_lost_it(toy_pack: Path, tmp_path: Path) -> None:
    host = HostProcess(tmp_path / "data", [toy_pack])
    engine = connect(host.address, tmp_path)
    running = threading.Event()
    job = Background(engine, Job("a", graph(steps=10_000, seconds=0.05)), lambda event, data: running.set())
    assert running.wait(100)
    host.kill()
    shutil.rmtree(host.data / "user")
    host = restarted(host, toy_pack)
    try:
        with pytest.raises(EngineLost, match="does not know the job any more"):
            job.wait()
        assert engine.run(Job("b", graph()), silent).status == "success"
    finally:
        engine.close()
        host.kill()


# -- what is no server


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("http://127.0.0.1:1", "nothing answers at http://127.0.0.1:1: .*start ComfyUI there, or correct the address"),
        ("127.0.0.1:8188", "expected an address such as"),
        ("ftp://127.0.0.1", "expected an address such as"),
        ("http://", "expected an address such as"),
        ("http://127.0.0.1:99999", "expected an address such as"),
        ("http://me:secret@127.0.0.1:8188", "must not hold a password"),
    ],
)
def test_an_address_without_a_server_is_a_sentence(address: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=sentence) as caught:
        connect(address, tmp_path)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("body", ["<html>It works!</html>", "[]", '{"system": 5}', '{"system": {}, "devices": {}}'])
def test_another_program_at_the_address_is_a_sentence(body: str, tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=body)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    with served(app) as address, pytest.raises(EngineError, match="answers, but it is not a ComfyUI"):
        connect(address, tmp_path)


def test_redirections_are_not_followed(server: HostProcess, tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.Response:
        raise web.HTTPFound(server.address + request.path_qs)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    with served(app) as address, pytest.raises(EngineError, match="not a ComfyUI"):
        connect(address, tmp_path)


def test_without_aiohttp_there_is_a_sentence() -> None:
    code = """
import sys
sys.modules["aiohttp"] = None
from pathlib import Path
from host.engines.contract import EngineError
from host.engines.http import HttpEngine
from host.engines.spec import EngineSpec
try:
    HttpEngine(EngineSpec("http", "http://127.0.0.1:1"), Path("."), "x")
except EngineError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "need aiohttp, which is not installed: pip install aiohttp" in done.stdout, done.stderr

"""The engine of this process: what a job gives never depends on what ran before."""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from host.engines.contract import EngineError, Job, JobResult
from host.engines.digests import content_digest
from host.engines.picture_metadata import made_with, read_texts
from host.engines.spec import EngineSpec
from host.engines.start import start
from host.packs import load_pack, pack_module_name
from host.validation import validate
from host.workflows import read_workflow

ROOT = Path(__file__).resolve().parents[2]


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


def note(text):
    return node("WriteNote", text=text, prefix="notes/note")


def saving(level=0.5, count=1, **more):
    """A picture of one level and one that is the same in every job, both saved under one prefix."""
    return {
        "1": node("WriteGrey", level=level, count=count),
        "2": node("SaveImage", images=["1", 0], filename_prefix="a/grey"),
        "3": node("WriteGrey", level=0.25, count=1),
        "4": node("SaveImage", images=["3", 0], filename_prefix="a/grey"),
        **more,
    }


@pytest.fixture(scope="module")
def pack(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("packs") / "writing-pack"
    folder.mkdir()
    shutil.copy(Path(__file__).with_name("writing_pack.py"), folder / "__init__.py")
    return folder


@pytest.fixture
def engine(pack, tmp_path) -> Iterator:
    """An engine of the toy pack, in `tmp_path / "engine"`."""
    (tmp_path / "engine").mkdir()
    made = start(EngineSpec(packs=(str(pack),)), tmp_path / "engine", "test")
    yield made
    made.close()


def run(engine, prompt, **options) -> JobResult:
    return engine.run(Job("job", prompt, **options), lambda event, data: None)


def alone(pack, prompt) -> JobResult:
    """The result of a prompt in an engine that has run nothing."""
    with tempfile.TemporaryDirectory() as folder:
        engine = start(EngineSpec(packs=(str(pack),)), Path(folder), "alone")
        result = run(engine, prompt)
        engine.close()
    return result


def kept(result: JobResult) -> list:
    """What must be the same: the files that are kept, byte for byte."""
    return [file for file in result.files if file.type == "output"]


JOBS = [
    saving(0.5),
    saving(0.75),
    saving(0.5, count=3),
    saving(0.5, **{"9": note("one")}),
    saving(0.5, **{"9": note("two"), "10": note("three")}),
    {"7": note("four"), **saving(0.3), "5": node("WriteGrown", image=["1", 0])},
    {"1": node("WriteGrey", level=0.5, count=1), "2": node("WriteGrown", image=["1", 0])},
    {"1": node("WriteGrey", level=0.5, count=1), "2": node("PreviewImage", images=["1", 0])},
]


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(order=st.lists(st.integers(0, len(JOBS) - 1), min_size=2, max_size=8))
def test_a_job_gives_the_same_bytes_after_any_others(pack, order):
    expected = {index: alone(pack, JOBS[index]) for index in set(order)}
    with tempfile.TemporaryDirectory() as folder:
        engine = start(EngineSpec(packs=(str(pack),)), Path(folder), "one")
        for index in order:
            result = run(engine, JOBS[index])
            assert result.status == "success" and result.error is None
            assert kept(result) == kept(expected[index]) and result.digest == expected[index].digest
            assert [file.digest for file in result.files] == [file.digest for file in expected[index].files]
        engine.close()


def test_files_are_named_in_the_order_of_the_prompt_and_carry_the_prompt_and_their_digest(engine):
    prompt = saving(0.5, count=2)
    result = run(engine, prompt, extra_data={"extra_pnginfo": {"workflow": {"nodes": []}}})
    places = [(file.node_id, file.position, file.filename, file.subfolder) for file in result.files]
    assert places == [
        ("2", 0, "grey_00001_.png", "a"),
        ("2", 1, "grey_00002_.png", "a"),
        ("4", 0, "grey_00003_.png", "a"),
    ]
    for file in result.files:
        texts = read_texts(file.data)
        assert json.loads(texts["prompt"]) == prompt and json.loads(texts["workflow"]) == {"nodes": []}
        facts = made_with(texts)
        assert facts == {
            "environment": engine.environment(),
            "node": file.node_id,
            "position": file.position,
            "digest": file.digest,
        }
        assert content_digest(file.data) == file.digest
        with Image.open(io.BytesIO(file.data)) as picture:
            assert picture.size == (10, 6)


def test_what_a_saving_node_depends_on_is_cached(engine, pack):
    calls = sys.modules[pack_module_name(pack)].CALLS
    run(engine, saving(0.5))
    calls.clear()
    run(engine, saving(0.5))
    assert calls == []
    run(engine, saving(0.6))
    assert calls == ["WriteGrey"]


def test_files_that_no_node_names_are_found(engine):
    result = run(engine, {"7": node("WriteNote", text="hello", prefix="deep/er/note")})
    (file,) = result.files
    assert (file.node_id, file.position, file.filename, file.subfolder) == ("", 0, "note_00001.txt", "deep/er")
    assert (file.type, file.data, file.digest) == ("output", b"hello", content_digest(b"hello"))


def test_files_that_a_node_added_are_found(engine):
    for _ in range(2):
        (file,) = run(engine, JOBS[6]).files
        assert file.node_id == "2.1" and file.filename == "grown_00001_.png"


def test_the_disk_does_not_fill(engine, tmp_path):
    for index in range(60):
        extra = {"7": note("x"), "8": node("PreviewImage", images=["1", 0])}
        assert len(run(engine, saving(index / 60, **extra)).files) == 4
    files = [path for path in (tmp_path / "engine").rglob("*") if path.is_file()]
    assert len(files) <= 1, files  # the last preview
    assert list((tmp_path / "engine" / "output").iterdir()) == []


def test_inputs_are_read_from_the_engines_own_folders(engine, tmp_path):
    buffer = io.BytesIO()
    Image.new("RGB", (4, 3), (10, 20, 30)).save(buffer, "PNG")
    missing = run(engine, {"1": node("LoadImage", image="x.png"), "2": node("SaveImage", images=["1", 0])})
    assert missing.status == "error" and "x.png" in missing.error and missing.files == ()
    names = ("x.png", "below/y.png", "made/z.png [output]")
    engine.put_inputs({name: buffer.getvalue() for name in names})
    for _ in range(2):
        for name in names:
            prompt = {
                "1": node("LoadImage", image=name),
                "2": node("SaveImage", images=["1", 0], filename_prefix="made/z"),
            }
            result = run(engine, prompt)
            assert result.status == "success" and len(result.files) == 1, result.error
    assert (tmp_path / "engine" / "output" / "made" / "z.png").is_file()


@pytest.mark.parametrize("name", ["../x.png", "/x.png", "a/../../x", "", ".", "a\0b", "C:\\x", "../x.png [output]"])
def test_an_input_cannot_leave_the_folder(engine, tmp_path, name):
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(EngineError, match="cannot be put"):
        engine.put_inputs({"good.png": b"x", name: b"x"})
    assert sorted(tmp_path.rglob("*")) == before


def test_a_node_that_raises_ends_the_job_and_finished_files_stay(engine):
    result = run(engine, saving(0.5, **{"5": node("WriteFail", image=["1", 0])}))
    assert result.status == "error" and result.error == "node 5 (WriteFail) raised ValueError: on purpose"
    again = run(engine, saving(0.5))
    assert again.status == "success" and len(again.files) == 2


def test_only_the_targets_run(engine):
    result = run(engine, saving(0.5), targets=("4",))
    assert [file.node_id for file in result.files] == ["4"]


def test_a_prompt_that_cannot_run_here_is_an_error(engine):
    result = run(engine, {"1": node("Nope")})
    assert result.status == "error" and "Nope" in result.error and result.files == ()


def test_a_job_is_interrupted_between_steps_and_the_next_one_runs(engine):
    prompt = {
        "1": node("WriteGrey", level=0.5, count=1),
        "2": node("WriteSteps", image=["1", 0], steps=10**6, pause=0.01),
        "3": node("SaveImage", images=["2", 0], filename_prefix="x"),
    }
    engine.interrupt()  # there is nothing to stop
    begun = threading.Event()

    def emit(event, data):
        if event == "progress":
            begun.set()

    def stop():
        begun.wait(120)
        time.sleep(0.05)
        engine.interrupt()

    stopper = threading.Thread(target=stop)
    stopper.start()
    result = engine.run(Job("long", prompt), emit)
    stopper.join()
    assert (result.status, result.files, result.error) == ("interrupted", (), "stopped at node 2 (WriteSteps)")
    assert run(engine, saving(0.5)).status == "success"


def test_the_environment_names_no_machine_and_no_folder(engine, pack, tmp_path):
    facts = engine.environment()
    text = json.dumps(facts)
    assert socket.gethostname() not in text and str(Path.home()) not in text and str(pack.parent) not in text
    assert str(tmp_path) not in text and str(ROOT) not in text and "/" not in text.replace("CPU/", "")
    assert facts["engine"] == "embedded" and facts["threads"] == 1 and facts["exact"] is False
    assert facts["processor"]["instructions"] and len(facts["packs"][0]["code"]) == 64
    other = pack.parent / "another name"
    shutil.copytree(pack, other, dirs_exist_ok=True)
    again = start(EngineSpec(packs=(str(other),)), tmp_path, "another")
    assert again.environment() == facts
    (other / "extra.py").write_text("x = 1\n")
    changed = start(EngineSpec(packs=(str(other),)), tmp_path, "changed").environment()
    assert changed["packs"][0]["code"] != facts["packs"][0]["code"]


def test_node_classes_are_described_as_the_server_does(engine):
    assert engine.object_info()["WriteGrey"]["input"]["required"]["count"][0] == "INT"


def test_threads_and_exactness_are_set(tmp_path):
    script = """
import sys, torch
from pathlib import Path
from host.engines.spec import EngineSpec
from host.engines.start import start
engine = start(EngineSpec(threads=2, exact=True), Path(sys.argv[1]), "x")
facts = engine.environment()
cuda, cudnn = torch.backends.cuda, torch.backends.cudnn
print(torch.get_num_threads(), facts["threads"], facts["exact"], cuda.matmul.allow_tf32, cudnn.allow_tf32,
      cudnn.benchmark, cudnn.deterministic)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=240, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.stderr == "" and done.stdout.split() == ["2", "2", "True", "False", "False", "False", "True"]


def test_the_demo_workflow_gives_the_same_picture_alone_and_after_others(tmp_path):
    registry = load_pack(ROOT)
    checked = validate(read_workflow(ROOT / "example_workflows/Start here - digits.json", registry).prompt, registry)
    assert checked.ok
    sampler = next(id for id, entry in checked.prompt.items() if entry["class_type"] == "DDIMSample")
    latent = next(id for id, entry in checked.prompt.items() if entry["class_type"] == "DDIMDemoLatent")
    prompts = []
    for seed in (1, 2):
        prompt = json.loads(json.dumps(checked.prompt))
        prompt[sampler]["inputs"]["seed"] = seed
        prompt[latent]["inputs"]["batch_size"] = 2
        prompts.append(prompt)
    results = []
    for name, order in (("one", (0, 1, 0)), ("two", (1, 0))):
        (tmp_path / name).mkdir()
        engine = start(EngineSpec(), tmp_path / name, name)
        results.append({seed: run(engine, prompts[seed]) for seed in order})
        engine.close()
    first, second = results
    for seed in (0, 1):
        assert first[seed].status == "success" and len(first[seed].files) == 1
        assert first[seed].files == second[seed].files
    assert first[0].digest != first[1].digest


def test_an_unknown_engine_and_a_broken_pack_are_refused(tmp_path):
    with pytest.raises(EngineError, match="an engine is one of embedded, comfyui, http, got 'cloud'"):
        start(EngineSpec(kind="cloud"), tmp_path, "x")
    (tmp_path / "pack").mkdir()
    with pytest.raises(EngineError, match="is not a node pack"):
        start(EngineSpec(packs=(str(tmp_path / "pack"),)), tmp_path, "x")

"""`python -m host run` over several values, as a user runs it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from host import context
from host.cli import main
from tests.sweep.toy_host import GREY, make_toy_host, node

SECONDS = 240  # for a command on a slow machine


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A project with toy nodes, and the workflow `grey.json`."""
    home = make_toy_host(tmp_path_factory.mktemp("home") / "toys")
    (home / "grey.json").write_text(json.dumps(GREY))
    return home


@pytest.fixture
def run(home, tmp_path):
    """Run a command in the project; gives (exit code, stdout, stderr)."""

    def command(*arguments: str, out: Path | None = None) -> tuple[int, str, str]:
        options = ["--output-directory", str(out or tmp_path / "out")]
        line = [sys.executable, "-m", "host", "run", *arguments, *options]
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(line, cwd=home, capture_output=True, text=True, timeout=SECONDS, env=environment)
        return done.returncode, done.stdout, done.stderr

    return command


@pytest.fixture
def run_here(home, tmp_path, monkeypatch, capsys):
    """As `run`, in this process, for commands that start no job."""
    monkeypatch.setattr("host.folders.ROOT", home)
    monkeypatch.chdir(home)
    before = context.folders()

    def command(*arguments: str) -> tuple[int, str, str]:
        try:
            code = main(["run", *arguments, "--output-directory", str(tmp_path / "out")])
        except SystemExit as error:
            code = error.code
        told = capsys.readouterr()
        return code, told.out, told.err

    yield command
    context.use_folders(before)


def only_folder(out: Path) -> Path:
    (folder,) = out.iterdir()
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_dry_run_prints_the_plan_and_writes_nothing(run_here, tmp_path):
    code, out, err = run_here(
        "grey.json", "--set", "1.grey=0..1:0.01", "--set", "ToyImage.size=4,8", "--dry-run", "--quiet"
    )
    assert (code, err) == (0, "")
    assert out.startswith("grey: 202 jobs\n")
    assert "1.grey, node 1: 101 values: 0, 0.01, 0.02" in out and "... 1\n" in out
    assert "ToyImage.size, node 1: 2 values: 4, 8" in out
    assert "  000_grey=0_size=4\n" in out and "  201_grey=1_size=8\n" in out and "  100_" not in out
    assert f"files: {tmp_path / 'out'}" in out and "engine: embedded, 1 worker, 1 thread each" in out
    assert not (tmp_path / "out").exists()


def test_a_dry_run_of_a_single_job(run_here, tmp_path):
    code, out, _ = run_here("grey.json", "--set", "1.grey=0.25", "--dry-run")
    assert code == 0 and out.startswith("grey: 1 job\n") and "under the names that the nodes give" in out
    assert not (tmp_path / "out").exists()


def test_a_sweep_of_three_by_four(run, tmp_path):
    code, out, err = run("grey.json", "--set", "1.size=4,6,8", "--set", "1.grey=0..1:0.25,0.1", "--workers", "2")
    assert code == 0, err
    folder = only_folder(tmp_path / "out")
    assert re.fullmatch(r"grey-\d{8}-\d{6}", folder.name)
    greys = [0, 0.25, 0.5, 0.75, 1, 0.1]
    stems = [f"{number:02}_size={size}_grey={grey}" for number, (size, grey) in
             enumerate((size, grey) for size in (4, 6, 8) for grey in greys)]  # fmt: skip
    assert names(folder) == sorted([*(f"{stem}.png" for stem in stems), "journal.sqlite3", "sheet.png", "sweep.json"])
    for stem, (size, grey) in zip(stems, ((size, grey) for size in (4, 6, 8) for grey in greys), strict=True):
        with Image.open(folder / f"{stem}.png") as picture:
            assert picture.size == (2 * size, size)
            assert abs(picture.convert("L").getpixel((0, 0)) - 255 * grey) <= 1
            kept = json.loads(picture.info["prompt"])["1"]["inputs"]
            assert (kept["size"], kept["grey"]) == (size, grey) and "workflow" not in picture.info
    assert "18 of 18 jobs made" in out and "18/18" in err
    assert f"{folder / 'sheet.png'}\n{folder / 'sweep.json'}\n{folder}{os.sep}\n" in out


def test_the_report_of_a_sweep(run, tmp_path):
    code, _, err = run("grey.json", "--zip", "1.size=4,6", "1.grey=0,1")
    assert code == 0, err
    folder = only_folder(tmp_path / "out")
    report = json.loads((folder / "sweep.json").read_text())
    assert report["id"] == folder.name and report["workflow"] == "grey" and report["complete"] is True
    assert report["axes"] == [
        [
            {"input": "1.size", "node": "1", "values": [4, 6]},
            {"input": "1.grey", "node": "1", "values": [0.0, 1.0]},
        ]
    ]
    (worker,) = report["workers"]
    assert report["workers"][worker]["engine"] == "embedded" and report["workers"][worker]["threads"] == 1
    first, second = report["jobs"]
    assert first["values"] == {"1.size": 4, "1.grey": 0.0} and first["worker"] == worker and first["error"] is None
    assert [file["name"] for file in second["files"]] == ["1_size=6_grey=1.png"]
    assert first["digest"] != second["digest"] and first["status"] == second["status"] == "success"


def test_the_pictures_do_not_depend_on_the_number_of_workers(run, tmp_path):
    contents = []
    for workers in ("1", "3"):
        out = tmp_path / workers
        code, _, err = run("grey.json", "--set", "1.grey=0..1:0.2", "--workers", workers, out=out)
        assert code == 0, err
        folder = only_folder(out)
        contents.append({path.name: path.read_bytes() for path in folder.glob("*_*.png")})
        assert (folder / "sheet.png").read_bytes().startswith(b"\x89PNG")
    assert contents[0] == contents[1] and len(contents[0]) == 6


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (["--set", "1.size=1,2,65..99"], ["job 2 and 34 more (1.size=65)", "bigger than max of 64"]),
        (["--set", "1.size=1,x", "--set", "3.seed=-1,5"], ["the input 'size' takes a whole", "input 'seed': Value -1"]),
        (["--set", "9.size=1,2"], ["no node is called '9'"]),
        (["--set", "1.size=1..100000000"], ["make 100,000,000 jobs"]),
        (["--set", "1.size=@none.txt"], ["there is no file none.txt"]),
        (["--zip", "1.size=1,2", "1.grey=0,0.5,1"], ["same number of values"]),
        (["--set", "1.size=1,2", "--engine", "cluster"], ["--engine expects embedded, comfyui:PATH or http"]),
        (["--set", "1.size=1,2", "--engine", "comfyui:nowhere"], ["the folder of a ComfyUI, got 'nowhere'"]),
        (["--set", "1.size=1,2", "--engine", "http://x/y"], ["give scheme, host and port only"]),
        (["--engine", "embedded", "--engine", "http://x:1"], ["got embedded beside a ComfyUI"]),
        (["--set", "1.size=1,2", "--engine", "http://127.0.0.1:9"], ["127.0.0.1:9"]),
        (["--engine-python", "python3"], ["--engine-python is for --engine comfyui:PATH"]),
        (["--workers", "0"], ["expected a whole number from 1 to 256, got '0'"]),
        (["--resume"], ["found no unfinished sweep"]),
        (["--resume", "x"], ["there is no sweep 'x'", "there is none"]),
        (["--resume", "../x"], ["expects the id of a sweep"]),
        (["--retry-failed"], ["--retry-failed goes with --resume"]),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_runs(run_here, tmp_path, arguments, messages):
    code, out, err = run_here("grey.json", *arguments)
    assert (code, out) == (2, "")
    assert all(message in err for message in messages), err
    assert "Traceback" not in err and not (tmp_path / "out").exists()


def test_a_job_that_fails_does_not_stop_the_others(run, home, tmp_path):
    graph = {
        "1": node("ToyImage", grey=0.5, size=8, count=1),
        "2": node("SaveImage", images=["1", 0], filename_prefix="x"),
    }
    (home / "prefix.json").write_text(json.dumps(graph))
    code, out, err = run("prefix.json", "--set", "SaveImage.filename_prefix=a,../b,c")
    assert code == 1, err
    folder = only_folder(tmp_path / "out")
    assert [name for name in names(folder) if name.endswith(".png") and name != "sheet.png"] == [
        "0_filename_prefix=a.png",
        "2_filename_prefix=c.png",
    ]
    assert "2 of 3 jobs made, 1 failed" in out and "outside the output folder" in out
    job = json.loads((folder / "sweep.json").read_text())["jobs"][1]
    assert job["status"] == "error" and "node 2 (SaveImage)" in job["error"]
    assert f"--resume {folder.name} --retry-failed" in err


def test_a_finished_sweep_is_not_run_again(run, run_here, tmp_path):
    code, _, err = run("grey.json", "--set", "1.grey=0,1")
    assert code == 0, err
    folder = only_folder(tmp_path / "out")
    code, _, err = run_here("--resume")
    assert code == 2 and "found no unfinished sweep" in err
    code, out, err = run_here("--resume", folder.name, "--dry-run")
    assert code == 0 and "2 of these jobs have a result" in out, err
    (folder / "1_grey=1.png").unlink()
    before = (folder / "0_grey=0.png").stat().st_mtime_ns
    code, out, err = run("grey.json", "--set", "1.grey=0,1", "--resume", folder.name)
    assert code == 0 and "2 of 2 jobs made; 1 in" in out, err
    assert (folder / "1_grey=1.png").is_file() and (folder / "0_grey=0.png").stat().st_mtime_ns == before
    code, _, err = run_here("grey.json", "--set", "1.grey=0,0.5", "--resume", folder.name)
    assert code == 2 and "began with other values" in err
    code, _, err = run_here("--resume", folder.name, "--threads", "2")
    assert code == 2 and "began with --threads 1" in err


def test_input_files_reach_the_workers(run, home, tmp_path):
    (home / "input").mkdir(exist_ok=True)
    for name, colour in (("red.png", "red"), ("blue.png", "blue")):
        Image.new("RGB", (4, 4), colour).save(home / "input" / name)
    graph = {"1": node("LoadImage", image="red.png"), "2": node("SaveImage", images=["1", 0], filename_prefix="x")}
    (home / "load.json").write_text(json.dumps(graph))
    code, out, err = run("load.json", "--set", "LoadImage.image=red.png,blue.png", "--workers", "2")
    assert code == 0, err
    folder = only_folder(tmp_path / "out")
    for name, colour in (("0_image=red.png.png", (255, 0, 0)), ("1_image=blue.png.png", (0, 0, 255))):
        with Image.open(folder / name) as picture:
            assert picture.convert("RGB").getpixel((0, 0)) == colour


def test_a_single_run_with_threads_is_a_job_of_a_worker(run, tmp_path):
    for number in (1, 2):
        code, out, err = run("grey.json", "--set", f"1.grey=0.{number}", "--threads", "1")
        assert code == 0, err
        assert out.splitlines() == [str(tmp_path / "out" / f"grey_0000{number}_.png")]


def test_texts_that_a_comma_splits_are_pointed_out(run, tmp_path):
    code, _, err = run("grey.json", "--set", "SaveImage.filename_prefix=a,b")
    assert code == 0, err
    assert "note: the commas in --set SaveImage.filename_prefix=a,b separate 2 values" in err


def test_ctrl_c_keeps_what_is_finished_and_resume_makes_the_rest(run, home, tmp_path):
    steps = {"5": node("ToySteps", steps=40, pause=0.05), "6": node("ToyShow", value=["5", 0])}
    (home / "slow.json").write_text(json.dumps({**GREY, **steps}))
    # The steps differ, so that no job finds them cached: each takes two seconds.
    options = ["--zip", "1.grey=0..1:0.2", "5.steps=40..45", "--output-directory", str(tmp_path / "out")]
    process = subprocess.Popen(
        [sys.executable, "-m", "host", "run", "slow.json", *options],
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + SECONDS
    while not list((tmp_path / "out").glob("*/0_grey=0_steps=40.png")) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 130, err
    folder = only_folder(tmp_path / "out")
    kept = {path.name: path.read_bytes() for path in folder.glob("*_grey=*.png")}
    assert 1 <= len(kept) < 6 and f"{6 - len(kept)} missing" in out and "missing" in err + out
    assert json.loads((folder / "sweep.json").read_text())["complete"] is False
    (home / "slow.json").unlink()
    code, out, err = run("--resume", "--workers", "2")
    assert code == 0, err
    assert "6 of 6 jobs made" in out and json.loads((folder / "sweep.json").read_text())["complete"] is True
    assert len(list(folder.glob("*_grey=*.png"))) == 6
    assert all((folder / name).read_bytes() == content for name, content in kept.items())

"""`python -m host verify`: what it says, what it writes (nothing), and its exit codes."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from host.cli import main
from host.engines.digests import content_digest
from host.engines.picture_metadata import made_with, read_texts, replace_texts
from host.packs import pack_module_name

ROOT = Path(__file__).resolve().parents[2]
PACK = ROOT / "tests" / "engines" / "writing_pack.py"


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


GRAPH = {
    "1": node("WriteGrey", level=0.5, count=3),
    "2": node("SaveImage", images=["1", 0], filename_prefix="grey"),
}


@pytest.fixture(scope="module")
def pack(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("packs") / "writing-pack"
    folder.mkdir()
    shutil.copy(PACK, folder / "__init__.py")
    return folder


@pytest.fixture
def command(monkeypatch, pack, tmp_path, capsys):
    """Run a command on the toy pack; gives (exit code, stdout, stderr)."""
    monkeypatch.setattr("host.folders.ROOT", pack)

    def call(*arguments):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as error:
            code = error.code
        told = capsys.readouterr()
        return code, told.out, told.err

    return call


@pytest.fixture
def made(command, tmp_path):
    """Run a graph, and give its pictures."""

    def make(graph=GRAPH, *options):
        file = tmp_path / "graph.json"
        file.write_text(json.dumps(graph))
        code, out, err = command("run", file, "--output-directory", tmp_path / "out", *options)
        assert code == 0, err
        return [Path(line) for line in out.splitlines()]

    return make


def everything(*folders: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}


def edited(path: Path, change) -> None:
    """Change the pixels of a picture, and keep what it says."""
    with Image.open(path) as picture:
        info = PngInfo()
        for name, text in picture.info.items():
            info.add_text(name, text)
        new = picture.copy()
    changed = change(new) or new
    changed.save(path, pnginfo=info)


def test_pictures_of_a_run_are_identical_and_nothing_is_written(command, made, pack, tmp_path, monkeypatch):
    pictures = made()
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    before = everything(pack, tmp_path)
    code, out, err = command("verify", *pictures, "--quiet")
    assert (code, err) == (0, "")
    assert out.splitlines() == [*(f"{path}: identical" for path in pictures), "3 pictures: 3 identical"]
    assert everything(pack, tmp_path) == before and list(temporary.iterdir()) == []


def test_pictures_of_one_prompt_are_run_once(command, made, pack):
    pictures = [*made(), *made({**GRAPH, "1": node("WriteGrey", level=0.25, count=1)})]
    calls = sys.modules[pack_module_name(pack)].CALLS
    calls.clear()
    code, out, err = command("verify", *pictures, pictures[0])
    assert (code, len(out.splitlines())) == (0, 5)
    assert calls == ["WriteGrey", "WriteGrey"]
    assert [line for line in err.splitlines() if not line.startswith("loading")] == ["run 1 of 2", "run 2 of 2"]


def test_a_changed_picture_is_told_from_one_that_comes_out_differently(command, made):
    picture = made()[1]
    edited(picture, lambda image: image.putpixel((3, 2), tuple(value + 7 for value in image.getpixel((3, 2)))))
    code, out, _ = command("verify", picture)
    assert code == 1
    assert out.splitlines() == [
        f"{picture}: 1 of 60 pixels differs by at most 7 of 255",
        "  it was changed since it was made: its pixels are not those that it was saved with; the run gives those "
        "again",
    ]


def test_a_picture_of_another_size_differs(command, made):
    picture = made()[0]
    edited(picture, lambda image: image.resize((5, 5)))
    code, out, _ = command("verify", picture)
    assert code == 1
    assert out.splitlines()[0] == f"{picture}: it is RGB 5x5, and the run gives RGB 10x6"
    assert "changed since it was made" in out


def test_a_picture_that_does_not_say_what_made_it_is_compared_with_the_nearest(command, made):
    pictures = made()
    for path in pictures:
        info = PngInfo()
        with Image.open(path) as picture:
            info.add_text("prompt", picture.info["prompt"])
            picture.copy().save(path, pnginfo=info)
    with Image.open(pictures[1]) as picture:
        image, info = picture.copy(), PngInfo()
        info.add_text("prompt", picture.info["prompt"])
    image.putpixel((0, 0), (0, 0, 0))
    image.save(pictures[1], pnginfo=info)
    code, out, _ = command("verify", *pictures)
    assert code == 1
    reason = "  it does not say what it was made with, so it was compared with the nearest of the 3 files of the run"
    assert out.splitlines() == [
        f"{pictures[0]}: identical",
        f"{reason} (node 2, file 1)",
        f"{pictures[1]}: 1 of 60 pixels differs by at most 95 of 255",
        f"{reason} (node 2, file 2)",
        f"{pictures[2]}: identical",
        f"{reason} (node 2, file 3)",
        "3 pictures: 2 identical, 1 different",
    ]


def with_prompt(prompt, **more) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "PNG")
    return replace_texts(buffer.getvalue(), {"prompt": prompt, **more})


def with_text(prompt: str) -> bytes:
    buffer, info = io.BytesIO(), PngInfo()
    info.add_text("prompt", prompt)
    Image.new("RGB", (4, 4)).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def test_what_cannot_be_verified_is_named_with_its_reason(command, made, tmp_path):
    good = made()[0]
    files = {
        "none.png": (None, "there is no such file"),
        "text.png": (b"hello", "it is not a PNG; only PNG pictures carry the prompt that made them"),
        "cut.png": (good.read_bytes()[:60], "it cannot be read: "),
        "bare.png": (replace_texts(with_prompt(1), {}), "the prompt inside is no object of nodes by id, but int"),
        "list.png": (with_prompt([]), "the prompt inside is no object of nodes by id, but list"),
        "deep.png": (with_text("[" * 1000 + "]" * 1000), "the prompt inside cannot be read: "),
        "half.png": (with_text('{"1": '), "the prompt inside cannot be read: "),
        "class.png": (with_prompt({"1": node("Nope")}), "Node 'Nope' not found"),
        "empty.png": (with_prompt({}), "Prompt has no outputs"),
        "odd.png": (with_prompt({"1": 5}), "node 1 must be an object"),
        "count.png": (
            with_prompt({**GRAPH, "1": node("WriteGrey", level=0.5, count=99)}),
            "node 1 (WriteGrey): Value 99 bigger than max of 8",
        ),
        "fails.png": (
            with_prompt({**GRAPH, "3": node("WriteFail", image=["1", 0])}),
            "node 3 (WriteFail) raised ValueError: on purpose",
        ),
        "input.png": (
            with_prompt({"1": node("LoadImage", image="gone.png"), "2": GRAPH["2"]}),
            f"the input file 'gone.png' of node '1' is not in {tmp_path}; --input-directory names another folder",
        ),
        "outside.png": (
            with_prompt({"1": node("LoadImage", image="../x.png"), "2": GRAPH["2"]}),
            "the input file '../x.png' of node '1' is not in ",
        ),
    }
    for name, (data, _) in files.items():
        if data is not None:
            (tmp_path / name).write_bytes(data)
    paths = [tmp_path / name for name in files]
    code, out, err = command("verify", "--input-directory", tmp_path, good, *paths)
    assert code == 2
    summary = f"{len(files) + 1} pictures: 1 identical, {len(files)} not verified"
    assert out.splitlines() == [f"{good}: identical", summary]
    for name, (_, message) in files.items():
        line = next(line for line in err.splitlines() if line.startswith(f"error: {tmp_path / name}: "))
        assert message in line


def test_a_picture_without_a_prompt_is_explained(command, tmp_path):
    plain, graph = tmp_path / "plain.png", tmp_path / "graph.png"
    Image.new("RGB", (4, 4)).save(plain)
    graph.write_bytes(replace_texts(plain.read_bytes(), {"workflow": {"nodes": []}}))
    code, out, err = command("verify", plain, graph, "--quiet")
    assert (code, out) == (2, "2 pictures: 2 not verified\n")
    assert err.splitlines() == [
        f"error: {plain}: it contains no prompt; whoever saved or sent it removed it, or it was never there",
        f"error: {graph}: it contains no prompt; it has the editor's graph only: `python -m host run` runs that",
    ]


def test_input_files_are_read_from_the_folder_that_is_named(command, made, tmp_path):
    inputs = tmp_path / "inputs"
    (inputs / "below").mkdir(parents=True)
    Image.linear_gradient("L").resize((9, 9)).convert("RGB").save(inputs / "below" / "x.png")
    graph = {"1": node("LoadImage", image="below/x.png"), "2": GRAPH["2"]}
    (picture,) = made(graph, "--input-directory", inputs)
    assert command("verify", picture, "--input-directory", inputs)[:2] == (0, f"{picture}: identical\n")
    Image.new("RGB", (9, 9)).save(inputs / "below" / "x.png")
    code, out, _ = command("verify", picture, "--input-directory", inputs)
    assert code == 1 and "of 81 pixels differ by at most" in out


def test_differing_facts_are_listed_and_cannot_write_to_the_terminal(command, made):
    (picture, *_) = made()
    facts = made_with(read_texts(picture.read_bytes()))
    facts["environment"]["processor"]["instructions"] = "AVX9"
    facts["environment"]["libraries"]["torch"] = "\x1b[2Jevil"
    facts["environment"]["more"] = [{"x": "é"}, None, "y" * 1000]
    picture.write_bytes(replace_texts(picture.read_bytes(), {"made_with": facts}))
    code, out, _ = command("verify", picture)
    assert code == 0 and "\x1b" not in out
    lines = out.splitlines()
    assert lines[0] == f"{picture}: identical"
    assert any(line.startswith("  processor.instructions: made with AVX9, now ") for line in lines)
    assert any(line.startswith("  libraries.torch: made with '\\x1b[2Jevil', now ") for line in lines)
    assert "  more.0.x: made with 'é', now none" in lines and len(lines) == 5
    assert all(len(line) < 300 for line in lines)


def test_threads_are_those_of_the_picture_unless_named(command, made):
    (picture, *_) = made()
    facts = made_with(read_texts(picture.read_bytes()))
    assert facts["environment"]["threads"] == 1  # what the tests use
    facts["environment"]["threads"] = 2
    picture.write_bytes(replace_texts(picture.read_bytes(), {"made_with": facts}))
    assert command("verify", picture)[1] == f"{picture}: identical\n"
    assert command("verify", picture, "--threads", "1")[1] == (f"{picture}: identical\n  threads: made with 2, now 1\n")


@pytest.mark.parametrize("options", [("--engine", "embedded", "--engine", "embedded"), ("--engine", "cloud")])
def test_an_engine_that_is_none_is_refused(command, made, options):
    code, out, err = command("verify", *options, made()[0])
    assert (code, out) == (2, "") and err.startswith("error: ")


# -- in processes of their own


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """The host beside a toy pack."""
    root = tmp_path_factory.mktemp("home") / "pack"
    shutil.copytree(ROOT / "host", root / "host", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PACK, root / "__init__.py")
    return root


def arguments(*rest: object) -> list[str]:
    return [sys.executable, "-m", "host", *map(str, rest)]


def test_another_version_of_the_nodes_is_named(project, tmp_path):
    (project / "graph.json").write_text(json.dumps(GRAPH))
    done = subprocess.run(
        arguments("run", "graph.json", "--quiet"), cwd=project, capture_output=True, text=True, timeout=240
    )
    assert (done.returncode, done.stderr) == (0, "")
    picture = Path(done.stdout.splitlines()[0])
    door = project / "__init__.py"
    code = door.read_text()
    door.write_text(code.replace("shades = torch.linspace(level", "shades = torch.linspace(level + 3 / 255"))
    assert door.read_text() != code
    done = subprocess.run(
        arguments("verify", picture, "--quiet"), cwd=project, capture_output=True, text=True, timeout=240
    )
    door.write_text(code)
    assert done.returncode == 1 and done.stderr == ""
    first, *rest = done.stdout.splitlines()
    assert first == f"{picture}: 60 of 60 pixels differ by at most 3 of 255"
    assert len(rest) == 1 and re.fullmatch(
        r"  packs\.code: made with [0-9a-f]{12}\.\.\., now [0-9a-f]{12}\.\.\.", rest[0]
    )
    assert content_digest(picture.read_bytes()) == made_with(read_texts(picture.read_bytes()))["digest"]


def test_pictures_of_a_sweep_come_out_again_and_its_contact_sheet_is_passed_over(project, tmp_path):
    (tmp_path / "graph.json").write_text(json.dumps(GRAPH))
    axes = ("--set", "1.level=0.25,0.5", "--set", "1.count=1,2", "--workers", "2")
    sweep = arguments("run", tmp_path / "graph.json", *axes, "--output-directory", tmp_path / "out")
    done = subprocess.run(sweep, cwd=project, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    (folder,) = (path for path in (tmp_path / "out").iterdir() if path.is_dir())
    pictures = sorted(folder.glob("*.png"))
    done = subprocess.run(arguments("verify", *pictures), cwd=project, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "6 pictures: 6 identical" and len(pictures) == 7
    assert f"{folder / 'sheet.png'} is the contact sheet of a sweep" in done.stderr


def test_ctrl_c_ends_it_between_steps(project, tmp_path):
    graph = {
        "1": node("WriteGrey", level=0.5, count=1),
        "2": node("WriteSteps", image=["1", 0], steps=10**6, pause=0.01),
        "3": node("SaveImage", images=["2", 0], filename_prefix="x"),
    }
    picture = tmp_path / "long.png"
    picture.write_bytes(with_prompt(graph))
    process = subprocess.Popen(
        arguments("verify", picture),
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stderr is not None
    told = ""
    deadline = time.monotonic() + 240
    while "step" not in told and time.monotonic() < deadline:  # its progress bar: the run has begun
        told += process.stderr.read(1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=240)
    assert (process.returncode, out) == (130, "")
    assert "were not verified" in err


def test_help_needs_no_torch(project):
    script = "import sys; sys.modules['torch'] = None; from host.cli import main; main(['--help'])"
    done = subprocess.run([sys.executable, "-c", script], cwd=project, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0 and "verify" in done.stdout

"""The command line: what it prints, what it writes, and its exit codes."""

from __future__ import annotations

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

from host.cli import main
from host.engines.digests import content_digest
from host.engines.picture_metadata import made_with, read_texts

ROOT = Path(__file__).resolve().parents[2]
FINISHED = re.compile(r"(loading .* \.\.\.\n)*finished in \d+\.\d s\n")


def node(kind, title=None, **inputs):
    return {"class_type": kind, "inputs": inputs} | ({"_meta": {"title": title}} if title else {})


GRAPH = {
    "1": node("ToyImage", "Grey v1.5", grey=0.5, size=8, count=1),
    "2": node("SaveImage", images=["1", 0], filename_prefix="grey"),
    "3": node("ToyNumber", "Which digits", value=1.0, seed=0, mode="plain"),
    "4": node("ToyNumber", value=1.0, seed=0, mode="plain"),
}


def wrote(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_each_file_is_named_on_a_line(run, tmp_path):
    code, out, err = run({**GRAPH, "1": node("ToyImage", grey=0.5, size=8, count=2)})
    assert code == 0 and FINISHED.fullmatch(err)
    assert out.splitlines() == [str(tmp_path / "out" / f"grey_0000{i}_.png") for i in (1, 2)]
    assert wrote(tmp_path / "out") == ["grey_00001_.png", "grey_00002_.png"]


def test_steps_are_shown_as_a_bar(run):
    graph = {"1": node("ToySteps", "Working", steps=3), "2": node("ToyShow", value=["1", 0])}
    code, out, err = run(graph)
    assert (code, out) == (0, "")
    assert "Working [1]: 100%" in err and "3/3" in err


@pytest.mark.parametrize(
    ("option", "node_id", "name", "value"),
    [
        ("1.grey=0.25", "1", "grey", 0.25),
        ("Grey v1.5.grey=1", "1", "grey", 1.0),
        ("ToyImage.count=2", "1", "count", 2),
        ("SaveImage.filename_prefix=a=b.c", "2", "filename_prefix", "a=b.c"),
        ("3.mode=double", "3", "mode", "double"),
        ("3.negate=yes", "3", "negate", True),
        ("3.negate=False", "3", "negate", False),
        ("3.label=", "3", "label", ""),
        ("3.seed=18446744073709551615", "3", "seed", 2**64 - 1),
    ],
)
def test_a_value_is_set_by_id_title_or_class(run, tmp_path, option, node_id, name, value):
    code, out, err = run(GRAPH, "--set", option, "--quiet")
    assert (code, err) == (0, "")
    with Image.open(out.splitlines()[-1]) as picture:
        kept = json.loads(picture.info["prompt"])
    assert kept[node_id]["inputs"][name] == value


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("nonsense", "expects NODE.INPUT=VALUE"),
        ("a=b.c", "expects NODE.INPUT=VALUE"),
        ("9.grey=1", """no node is called '9'; there are node 1 "Grey v1.5" (ToyImage), node 2 (SaveImage)"""),
        ("1.gray=1", "node 1 (ToyImage) has no input 'gray'; it has grey, size, count"),
        ("ToyNumber.value=1", """2 nodes are called 'ToyNumber'; name one by its id: 3 "Which digits", 4\n"""),
        ("1.size=big", "the input 'size' takes a whole number, got 'big'"),
        ("1.grey=dark", "the input 'grey' takes a number, got 'dark'"),
        ("3.negate=maybe", "the input 'negate' takes true or false, got 'maybe'"),
        ("2.images=x", "the input 'images' takes a IMAGE from another node"),
        ("1.size=65", "node 1 (ToyImage), input 'size': Value 65 bigger than max of 64"),
        ("1.grey=nan", "node 1 (ToyImage), input 'grey': Failed to convert"),
        ("2.filename_prefix=../x", None),
    ],
)
def test_a_value_that_does_not_fit_is_refused_before_anything_is_written(run, tmp_path, option, message):
    code, out, err = run(GRAPH, "--set", option)
    if message is None:  # only the node can know: it raises, and nothing leaves the folder
        assert code == 1 and "outside the output folder" in err
    else:
        assert code == 2
        assert err.startswith("error: ") and message in err
    assert out == "" and wrote(tmp_path) == ["graph.json"]


@pytest.mark.parametrize(
    ("graph", "messages"),
    [
        ('{\n  "1": {"class_type": }\n}', ["graph.json, line 2, column 23: not valid JSON: Expecting value"]),
        ("", ["graph.json is empty; expected a workflow"]),
        ("[]", ["graph.json: a workflow is a JSON object"]),
        ({"1": node("Nope"), "2": node("No2")}, ["node 1: no class 'Nope'", "node 2: no class 'No2'"]),
        ({**GRAPH, "3": 5}, ["the JSON is not a workflow"]),
        ({"prompt": {"1": 5}}, ["node 1 must be an object"]),
        ({"prompt": {}}, ["Prompt has no outputs"]),
        ({"3": GRAPH["3"]}, ["Prompt has no outputs"]),
        (
            {"1": node("ToyAdd", a=["1", 0], b=0.0), "2": node("ToyShow", value=["1", 0])},
            ["node 1 (ToyAdd): Dependency cycle detected (1 (ToyAdd) -> 1 (ToyAdd))"],
        ),
        (
            {"1": node("ToyAdd", a=["7", 0], b="x"), "2": node("ToyShow", value=["1", 0])},
            [
                "node 1 (ToyAdd), input 'a': Bad linked input, it leads to node '7'",
                "node 1 (ToyAdd), input 'b': Failed",
            ],
        ),
        ({**GRAPH, "5": node("ToyShow")}, ["node 5 (ToyShow), input 'value': Required input is missing"]),
        (
            {"nodes": [{"id": 4, "type": "ToyShow", "inputs": [{"name": "value", "link": 3}]}], "links": []},
            ["node 4 (ToyShow): its input 'value' has link 3, which does not exist"],
        ),
    ],
)
def test_bad_input_is_explained_and_nothing_is_written(run, tmp_path, graph, messages):
    code, out, err = run(graph)
    assert code == 2 and out == ""
    assert all(message in err for message in messages), err
    assert wrote(tmp_path) == ["graph.json"] and not (tmp_path / "out").exists()


def test_a_missing_file_and_an_unknown_command(run, capsys):
    assert main(["run", "/nowhere/x.json"]) == 2
    assert "there is no file /nowhere/x.json" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["dance"])
    assert ended.value.code == 2


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_an_output_folder_that_cannot_be_is_refused(run, tmp_path, place):
    (tmp_path / "file").write_text("x")
    code, _, err = run(GRAPH, out=tmp_path / place)
    assert code == 2
    assert f"nothing can be written to the output folder {tmp_path / place}" in err


def test_a_node_that_raises_is_named_and_finished_files_stay(run, tmp_path):
    graph = {**GRAPH, "5": node("ToyFail", value=["3", 0]), "6": node("ToyShow", value=["5", 0])}
    code, out, err = run(graph, "--quiet")
    assert code == 1
    assert err == "error: node 5 (ToyFail) raised ValueError: toy cannot take 1.0\n"
    assert out.splitlines() == [str(tmp_path / "out" / "grey_00001_.png")]


def test_a_picture_is_a_workflow_and_gives_the_same_picture(run, tmp_path):
    _, out, _ = run(GRAPH, "--set", "1.grey=0.75")
    first = Path(out.strip())
    assert main(["run", str(first), "--output-directory", str(tmp_path / "again")]) == 0
    with Image.open(first) as one, Image.open(tmp_path / "again" / "grey_00001_.png") as two:
        assert one.tobytes() == two.tobytes() and one.info == two.info


def test_a_picture_says_what_it_was_made_with_and_its_bytes_depend_on_nothing_else(run, tmp_path):
    files = []
    for name in ("one", "two"):
        _, out, _ = run(GRAPH, out=tmp_path / name)
        files.append(Path(out.strip()).read_bytes())
    assert files[0] == files[1]
    facts = made_with(read_texts(files[0]))
    assert (facts["node"], facts["position"]) == ("2", 0)
    assert facts["digest"] == content_digest(files[0]) and facts["environment"]["engine"] == "embedded"


def test_the_editors_graph_is_kept_unless_values_were_set(run):
    graph = {
        "nodes": [
            {"id": 1, "type": "ToyImage", "outputs": [{"type": "IMAGE"}], "widgets_values": [0.5, 8, 1]},
            {"id": 2, "type": "SaveImage", "inputs": [{"name": "images", "link": 1}], "widgets_values": ["e"]},
        ],
        "links": [[1, 1, 0, 2, 0, "IMAGE"]],
    }
    for options, kept in (((), True), (("--set", "1.size=16"), False)):
        _, out, _ = run(graph, *options)
        with Image.open(out.strip()) as picture:
            assert ("workflow" in picture.info) == kept


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """The host beside a toy pack, in a folder whose name is no identifier."""
    root = tmp_path_factory.mktemp("home") / "my pack-v1.0"
    shutil.copytree(ROOT / "host", root / "host", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(Path(__file__).with_name("toy_nodes.py"), root)
    (root / "__init__.py").write_text("from .toy_nodes import NODE_CLASS_MAPPINGS\n")
    (root / "nodes").mkdir()
    (root / "nodes" / "__init__.py").write_text("raise RuntimeError('nodes is imported by its bare name')\n")
    return root


def command(root: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "host", "run", *arguments]


def test_the_pack_around_the_host_is_loaded_whatever_its_folder_is_called(project, tmp_path):
    (project / "graph.json").write_text(json.dumps(GRAPH))
    done = subprocess.run(command(project, "graph.json"), cwd=project, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and FINISHED.fullmatch(done.stderr)
    assert done.stdout.splitlines() == [str(project / "output" / "grey_00001_.png")]


def test_the_host_runs_from_any_folder_by_its_own(project, tmp_path):
    (tmp_path / "mine.json").write_text(json.dumps(GRAPH))
    named = [sys.executable, str(project / "host"), "run", "mine.json", "--output-directory", "here", "--quiet"]
    done = subprocess.run(named, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [str(tmp_path / "here" / "grey_00001_.png")]


def test_ctrl_c_stops_between_steps_and_leaves_no_half_file(project):
    graph = {**GRAPH, "5": node("ToySteps", steps=100_000, pause=0.01), "6": node("ToyShow", value=["5", 0])}
    graph["7"] = node("SaveImage", images=["1", 0], filename_prefix="cut")
    (project / "long.json").write_text(json.dumps(graph))
    process = subprocess.Popen(
        command(project, "long.json", "--output-directory", "cut"),
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    deadline = time.monotonic() + 120
    while not (project / "cut").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "stopped at node 5 (ToySteps)" in err
    listed = {Path(line).name for line in out.splitlines()}
    assert listed == {path.name for path in (project / "cut").iterdir()}
    assert not any(name.endswith(".tmp") for name in listed)

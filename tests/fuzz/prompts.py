"""Prompts, workflows in the editor's format or in a picture, and overrides: everything that becomes a run."""

from __future__ import annotations

import io
import json
import threading
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from host.error_format import ErrorInfo
from host.execution.executor import Executor
from host.strict_json import dumps
from host.sweep.plan import SweepPlan
from host.sweep.planning import PlanError, make_plan
from host.validation import Validation, validate
from host.workflows import OverrideError, Workflow, WorkflowError, apply_overrides, read_workflow
from tests.fuzz.values import changed, json_values, mutated, texts, values, written
from tests.fuzz.workbench import MAX_MESSAGE, Target, Workbench

EXAMPLES = Path(__file__).parents[2] / "example_workflows"
TOYS = ["ToyNumber", "ToyAdd", "ToyShow", "ToyEven", "ToySwitch", "ToyList", "ToySum", "ToyImage"]
OTHERS = ["SaveImage", "LoadImage", "DDIMSample", "DDIMSchedule", "DDIMLoadNoise", "DDIMScheduleFromConfig", "none"]

ids = st.sampled_from(["1", "2", "3", "4", "nowhere"])
links = st.tuples(ids, st.integers(-1, 2)).map(list)
names = st.sampled_from(["value", "a", "b", "mode", "seed", "image", "images", "count", "__value__", "prompt", "steps"])


def nodes(kinds: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    """Nodes of these classes, with inputs of which most are wrong."""
    inputs = st.dictionaries(names, links | values, max_size=4)
    return st.fixed_dictionaries({"class_type": st.sampled_from(kinds), "inputs": inputs})


def prompts(kinds: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(ids, nodes(kinds), max_size=4)


anything = values | prompts(TOYS + OTHERS) | st.dictionaries(ids | texts, values | nodes(TOYS + OTHERS), max_size=4)


# -- validation


def _check(prompt: Any, bench: Workbench, targets: Any = None) -> Validation:
    """Validate a prompt, and check the answer: JSON that a browser reads, about nodes that exist, not too long."""
    found = validate(prompt, bench.registry, targets)
    assert (found.error is None) == bool(found.outputs)
    json.loads(dumps({"error": found.error, "node_errors": found.node_errors}), parse_constant=lambda name: 1 / 0)
    for node_id, entry in found.node_errors.items():
        assert entry["errors"] and entry["dependent_outputs"]
        assert entry["class_type"] == prompt[node_id]["class_type"]
        for error in entry["errors"]:
            _check_length(error)
    if found.error is not None:
        _check_length(found.error)
    return found


def _check_length(error: ErrorInfo) -> None:
    texts = (error["message"], error["details"], error["extra_info"].get("exception_message", ""))
    assert max(map(len, texts)) <= MAX_MESSAGE, error


def _validate(bench: Workbench, given: tuple[Any, Any]) -> str:
    found = _check(given[0], bench, given[1])
    return "accepted" if found.error is None else found.error["type"]


def _run(bench: Workbench, prompt: dict[str, Any]) -> str:
    """A prompt that passes runs to an end."""
    found = _check(prompt, bench)
    if found.error is not None:
        return "refused"
    executor = Executor(bench.registry)
    cancel = threading.Event()
    ended = executor.run(found.prompt, "x", found.outputs, {}, lambda event, data: dumps(data), cancel)
    assert ended.status in ("success", "error")
    return ended.status


# -- files


EDITOR = [json.loads(path.read_text()) for path in sorted(EXAMPLES.glob("*.json"))]
SMALL_EDITOR = {
    "nodes": [
        {"id": 1, "type": "ToyNumber", "outputs": [{"type": "FLOAT"}], "widgets_values": [2.0, 7, "fixed", "plain"]},
        {"id": 5, "type": "group", "mode": 0, "inputs": [{"name": "in", "type": "FLOAT", "link": 1}],
         "outputs": [{"type": "FLOAT"}], "properties": {"proxyWidgets": [["7", "value"]]}},
        {"id": 3, "type": "Reroute", "inputs": [{"name": "", "type": "*", "link": 2}]},
        {"id": 4, "type": "ToyAdd", "mode": 4, "inputs": [{"name": "a", "type": "FLOAT", "link": 3}]},
        {"id": 2, "type": "ToyShow", "inputs": [{"name": "value", "type": "*", "link": 4}]},
    ],
    "links": [[1, 1, 0, 5, 0, "FLOAT"], [2, 5, 0, 3, 0, "*"], [3, 3, 0, 4, 0, "*"], [4, 4, 0, 2, 0, "*"]],
    "definitions": {"subgraphs": [{
        "id": "group", "inputs": [{"name": "in"}], "outputs": [{"name": "out"}],
        "nodes": [{"id": 7, "type": "ToyAdd", "inputs": [{"name": "a", "type": "FLOAT", "link": 1}]}],
        "links": [{"id": 1, "origin_id": -10, "origin_slot": 0, "target_id": 7, "target_slot": 0},
                  {"id": 2, "origin_id": 7, "origin_slot": 0, "target_id": -20, "target_slot": 0}],
    }]},
}  # fmt: skip
API = {
    "1": {"class_type": "ToyNumber", "inputs": {"value": 2.0, "seed": 7, "mode": "plain"}, "_meta": {"title": "a.b"}},
    "2": {"class_type": "ToyShow", "inputs": {"value": ["1", 0]}},
    "3": {"class_type": "LoadImage", "inputs": {"image": "x.png"}},
    "4": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "x"}},
}


def picture(**chunks: str) -> bytes:
    """A PNG with text chunks, some of them compressed."""
    info, file = PngInfo(), io.BytesIO()
    for name, text in chunks.items():
        info.add_text(name, text, zip=len(text) % 2 == 0)
    Image.new("RGB", (4, 4)).save(file, "PNG", pnginfo=info)
    return file.getvalue()


workflows = st.sampled_from([SMALL_EDITOR, SMALL_EDITOR, *EDITOR]).flatmap(changed)
documents = workflows | prompts(TOYS + OTHERS) | changed(API) | values | changed({"prompt": API, "extra_data": {}})
files = st.one_of(documents.map(written), mutated(written(SMALL_EDITOR), written(API)), st.binary(max_size=50))
pictures = st.one_of(
    mutated(picture(prompt=json.dumps(API), workflow=json.dumps(SMALL_EDITOR)), picture(workflow="{}")),
    st.builds(lambda a, b: picture(prompt=json.dumps(a), workflow=json.dumps(b)), documents, workflows),
    st.sampled_from(["9" * 5000, "[" * 100_000, '{"a":' * 9000, "\x00", "{}" * 3]).map(
        lambda text: picture(prompt=text)
    ),
)


def _read(bench: Workbench, data: bytes) -> str:
    found = _check(read_workflow(data, bench.registry).prompt, bench)
    return "workflow, runs" if found.error is None else "workflow, refused"


# -- overrides

targets = st.sampled_from(["1", "2", "3", "a.b", "ToyNumber", "ToyShow", "LoadImage", "5", ""]) | texts
fields = st.sampled_from(["value", "seed", "mode", "label", "negate", "image", "filename_prefix", "images"]) | texts
overrides = st.one_of(
    st.builds(lambda target, name, value: f"{target}.{name}={value}", targets, fields, texts | values.map(str)), texts
)
known = st.fixed_dictionaries({"class_type": st.sampled_from(TOYS), "inputs": json_values()})
bases = st.just(API) | st.dictionaries(ids | texts, known | nodes(TOYS), max_size=4)


def _override(bench: Workbench, given: tuple[dict[str, Any], list[str]]) -> str:
    before = json.dumps(given[0])
    found = _check(apply_overrides(*given, bench.registry), bench)
    assert json.dumps(given[0]) == before
    return "replaced, runs" if found.error is None else "replaced, refused"


RUNNABLE = {
    "1": {"class_type": "ToyNumber", "inputs": {"value": 2.0, "seed": 7, "mode": "plain"}},
    "2": {"class_type": "ToyAdd", "inputs": {"a": ["1", 0], "b": 0.5}},
    "3": {"class_type": "ToyShow", "inputs": {"value": ["2", 0]}},
    "4": {"class_type": "ToyImage", "inputs": {"grey": 0.5, "size": 8, "count": 1}},
    "5": {"class_type": "SaveImage", "inputs": {"images": ["4", 0], "filename_prefix": "x"}},
}
runs = changed(RUNNABLE) | prompts([*TOYS, "SaveImage", "LoadImage"])

# -- sweeps

several = st.sampled_from(
    ["0..9", "3..0:-1", "0..1:0.5", "1..3:0", "1,2,x", '"a, b",c', '"open', "plain,double", "x.png,../y", "1", "0,1"]
    + ["0..99999999999", "@none.txt", "@", "[[1,2],[3,4]],5", "yes,no", ""]
)
known_inputs = st.sampled_from(
    ["1.value", "1.seed", "1.mode", "1.label", "2.b", "4.grey", "4.size", "SaveImage.filename_prefix"]
)
assignments = st.one_of(
    st.builds("{}={}".format, known_inputs, several | texts),
    st.builds("{}.{}={}".format, targets, fields, several | texts),
    texts,
)
options = st.lists(assignments | st.lists(assignments, min_size=1, max_size=3), max_size=3)


def _sweep(bench: Workbench, given: tuple[dict[str, Any], list[Any]]) -> str:
    """Whatever is planned has jobs with names for their files, and is the same after it was stored."""
    before = json.dumps(given[0])
    plan = make_plan(Workflow(given[0], {}), "fuzz", given[1], bench.registry, bench.folders).plan
    assert json.dumps(given[0]) == before
    last = len(plan) - 1
    found = _check(plan.job(last).prompt, bench)
    assert found.ok and plan.file_stem(last)
    assert SweepPlan.from_definition(json.loads(dumps(plan.definition()))).job(last) == plan.job(last)
    return "sweep" if plan.axes else "single"


TARGETS = [
    Target("validation", st.tuples(anything, st.none() | values), _validate, examples=150),
    Target("execution", runs, _run, examples=80),
    Target("workflow-files", files, _read, (WorkflowError,), examples=150),
    Target("png-metadata", pictures, _read, (WorkflowError,), examples=100),
    Target("overrides", st.tuples(bases, st.lists(overrides, max_size=3)), _override, (OverrideError,), examples=150),
    Target("sweeps", st.tuples(st.just(RUNNABLE) | bases, options), _sweep, (PlanError,), examples=150),
]

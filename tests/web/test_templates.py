"""Every example workflow and blueprint as the editor opens it: layout, App mode, and that it runs.

The embedded host loads no checkpoints. The page is told of the stock nodes that load and encode, so that the layout of
every example is measured; what the host knows is run as well.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.web.stock_nodes import STOCK

pytestmark = pytest.mark.browser
ONE_RENDERER = pytest.mark.parametrize("editor", ["vue"], indirect=True)
ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "example_workflows").glob("*.json"))
WITHOUT_CHECKPOINT = [path for path in EXAMPLES if not path.stem.endswith("(checkpoint)")]
BLUEPRINTS = sorted((ROOT / "subgraphs").glob("*.json"))
LEAST_SCALE = 0.6
NOTES = {"Note", "MarkdownNote"}
EACH_EXAMPLE = pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
EACH_BLUEPRINT = pytest.mark.parametrize("path", BLUEPRINTS, ids=lambda path: path.stem)

OPEN = """
async ([workflow, stock]) => {
  for (const [name, definition] of Object.entries(stock)) {
    if (!LiteGraph.registered_node_types[name]) await app.registerNodeDef(name, definition);
  }
  await app.loadGraphData(workflow);
}
"""
# Boxes [left, top, right, bottom] in units of the graph, and the part of the graph that no bar covers.
MEASURE = """
() => {
  const { scale, offset } = app.canvas.ds;
  const canvas = app.canvas.canvas.getBoundingClientRect();
  const edge = (selector, side) => document.querySelector(selector).getBoundingClientRect()[side];
  const inGraph = (r) => [
    (r.left - canvas.left) / scale - offset[0], (r.top - canvas.top) / scale - offset[1],
    (r.right - canvas.left) / scale - offset[0], (r.bottom - canvas.top) / scale - offset[1],
  ];
  const ofNode = (node) => {
    const shown = document.querySelector(`[data-node-id="${node.id}"]`);
    if (shown) return inGraph(shown.getBoundingClientRect());
    const [x, y, width, height] = node.getBounding();
    return [x, y, x + width, y + height];
  };
  return {
    scale,
    view: inGraph({
      left: edge("[data-testid=side-toolbar]", "right"), top: edge("[data-testid=queue-button]", "bottom"),
      right: canvas.right, bottom: canvas.bottom,
    }),
    nodes: app.graph.nodes.map((n) => ({
      name: n.title || n.type, kind: n.type, color: n.color ?? null, text: n.widgets?.[0]?.value, box: ofNode(n),
    })),
    groups: app.graph.groups.map((g) => ({
      name: g.title, box: [g.pos[0], g.pos[1], g.pos[0] + g.size[0], g.pos[1] + g.size[1]],
    })),
  };
}
"""
# Declared inputs that App mode shows, as [node, widget, description on the screen].
FORM = """
() => [...document.querySelectorAll("[data-testid=app-mode-widget-item]")].map((item) => [
  item.dataset.widgetKey, item.querySelector("[data-testid=app-mode-widget-description]")?.textContent.trim() ?? "",
])
"""
# The blueprint that was inserted, between nodes of the demo model; answers the id of what shows the result.
COMPLETE = """
() => {
  const stage = app.graph.nodes[0], make = (kind) => {
    const node = LiteGraph.createNode(kind);
    app.graph.add(node);
    return node;
  };
  const model = make("DDIMDemoModel"), prompt = make("DDIMDemoPrompt"), scan = make("DDIMDemoPicture");
  const encode = make("DDIMDemoEncode"), decode = make("DDIMDemoDecode"), shown = make("PreviewImage");
  const sources = { MODEL: model, CONDITIONING: prompt, LATENT: encode };
  scan.connect(0, encode, encode.inputs.findIndex((i) => i.type === "IMAGE"));
  stage.inputs.forEach((input, slot) => sources[input.type] && sources[input.type].connect(0, stage, slot));
  const latent = stage.outputs.findIndex((o) => o.type === "LATENT");
  stage.connect(latent, decode, decode.inputs.findIndex((i) => i.type === "LATENT"));
  decode.connect(0, shown, 0);
  return Number(shown.id);
}
"""


def show(editor: Any, path: Path, input_folder: Path) -> dict[str, Any]:
    """Opens an example as the editor does; gives its content."""
    input_folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 64)).save(input_folder / "example.png")  # as ComfyUI's own
    workflow: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for node in workflow["nodes"]:
        node["properties"].pop("models", None)  # the editor asks where a checkpoint is offered for its size
    editor.evaluate(OPEN, [workflow, STOCK])
    editor.wait("(count) => app.graph.nodes.length === count", len(workflow["nodes"]))
    return workflow


def common(one: list[float], other: list[float]) -> tuple[float, float]:
    """Width and height of what two boxes share."""
    return min(one[2], other[2]) - max(one[0], other[0]), min(one[3], other[3]) - max(one[1], other[1])


def holds(outer: list[float], inner: list[float]) -> bool:
    return all(a <= b + 1 for a, b in zip(outer[:2] + inner[2:], inner[:2] + outer[2:], strict=True))


def settled(editor: Any) -> dict[str, Any]:
    """What is on the screen once panels have taken their room."""
    before, now = None, editor.evaluate(MEASURE)
    while before != now:
        editor.page.wait_for_timeout(400)
        before, now = now, editor.evaluate(MEASURE)
    return now


def overlaps(nodes: list[dict[str, Any]]) -> list[Any]:
    return [
        (one["name"], other["name"], common(one["box"], other["box"]))
        for one, other in itertools.combinations(nodes, 2)
        if min(common(one["box"], other["box"])) > 1
    ]


@EACH_EXAMPLE
def test_an_example_opens_whole_and_nothing_overlaps(editor, path, web_host):
    show(editor, path, web_host.data / "input")
    shown = settled(editor)
    nodes, groups = shown["nodes"], shown["groups"]
    assert not overlaps(nodes)
    assert all(min(common(a["box"], b["box"])) <= 1 for a, b in itertools.combinations(groups, 2))
    outside = [each["name"] for each in (*nodes, *groups) if not holds(shown["view"], each["box"])]
    assert not outside, (shown["scale"], shown["view"])
    assert shown["scale"] >= LEAST_SCALE
    loose = [
        node["name"]
        for node in nodes
        if node["kind"] not in NOTES and not any(holds(group["box"], node["box"]) for group in groups)
    ]
    assert not loose, "every node stands in a group"
    (note,) = (node for node in nodes if node["kind"] in NOTES)
    assert note["text"].startswith("# ") and note["color"]
    corner = (min(each["box"][side] for each in (*nodes, *groups)) for side in (0, 1))
    assert all(at - least < 80 for at, least in zip(note["box"], corner, strict=False)), "the note is at the top left"


@pytest.fixture
def app_mode(editor):
    """Switches App mode on and off again."""
    in_app = "document.querySelector('[data-testid=linear-widgets]') !== null"

    def switch(on: bool) -> None:
        if editor.evaluate(in_app) != on:
            editor.evaluate("app.extensionManager.command.execute('Comfy.ToggleLinear')")
            editor.wait(f"({in_app}) === {str(on).lower()}")

    yield switch
    switch(False)


@ONE_RENDERER
@EACH_EXAMPLE
def test_app_mode_asks_for_everything_that_is_named(editor, app_mode, path, web_host):
    workflow = show(editor, path, web_host.data / "input")
    named = workflow["extra"]["linearData"]
    assert named["inputs"] and named["outputs"]
    assert {node["id"] for node in workflow["nodes"]} >= {*named["outputs"], *(entry[0] for entry in named["inputs"])}
    app_mode(True)
    editor.wait(f"(count) => ({FORM})().length === count", len(named["inputs"]))
    shown = editor.evaluate(FORM)
    for (node, widget, options), (key, words) in zip(named["inputs"], shown, strict=True):
        assert key.split(":")[-2:] == [str(node), widget] and words == options["description"]


@ONE_RENDERER
@pytest.mark.parametrize("path", WITHOUT_CHECKPOINT, ids=lambda path: path.stem)
def test_an_example_runs_and_gives_the_pictures_that_app_mode_shows(editor, path, web_host):
    """In few steps: what the pictures look like is asserted elsewhere."""
    workflow = show(editor, path, web_host.data / "input")
    prompt = editor.evaluate("app.graphToPrompt().then((made) => made.output)")
    assert {node["class_type"] for node in prompt.values()} <= web_host.get("/object_info").json.keys()
    for node in prompt.values():
        inputs = node["inputs"]
        fewer = {"batch_size": 2, "grid": 20} | ({} if node["class_type"] == "DDIMFitSteps" else {"steps": 6})
        inputs |= {name: min(most, inputs[name]) for name, most in fewer.items() if isinstance(inputs.get(name), int)}
        if node["class_type"] == "DDIMFitSteps":  # the other method is run by the tests of the example's pictures
            inputs["method"] = "fast"
    done = web_host.finished(web_host.submit(prompt))
    assert done["status"]["status_str"] == "success", done["status"]
    for node in workflow["extra"]["linearData"]["outputs"]:
        assert done["outputs"][str(node)]["images"]


@pytest.mark.parametrize("name", ["Invert and reconstruct", "Guidance - CFG, CFG++, interval"])
def test_what_a_run_adds_covers_no_other_node(editor, name, web_host):
    """Replays, reports and saved pictures of ten images."""
    workflow = show(editor, ROOT / "example_workflows" / f"{name}.json", web_host.data / "input")
    for node in workflow["nodes"]:
        for widget, value in (("steps", 4), ("seed", editor.evaluate("Math.floor(Math.random() * 1e9)"))):
            if widget in node.get("widgets_values_named", {}):
                editor.set_widget(node["id"], widget, value)
    editor.run()
    editor.wait("() => document.querySelectorAll('.ddim-replay input[type=range]').length >= 2")
    assert not overlaps(settled(editor)["nodes"])


@ONE_RENDERER
@EACH_BLUEPRINT
def test_a_blueprint_is_offered_among_the_nodes_and_runs(editor, path):
    editor.evaluate("app.graph.clear()")
    library = editor.page.get_by_test_id("node-library-tab-button")
    library.click()
    editor.page.get_by_placeholder("Search Nodes").fill(path.stem)
    editor.page.get_by_text(path.stem, exact=True).first.click()
    editor.page.locator("#graph-canvas").click(position={"x": 900, "y": 300})
    editor.wait("app.graph.nodes.length === 1")
    library.click()
    result = editor.evaluate(COMPLETE)
    editor.run()
    assert editor.outputs(result)["images"]

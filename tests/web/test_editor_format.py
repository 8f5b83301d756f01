"""The editor's format, against the editor: graphs are built in the real frontend, and what it saves is converted here.

The frontend says what queueing each graph would send; so must this host, from the saved file alone.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from host import context
from host.folders import default_folders
from host.packs import Registry, load_pack
from host.workflows.editor_format import to_prompt
from tests.server.support import HostProcess
from tests.web.editor import Editor

pytestmark = pytest.mark.browser

ROOT = Path(__file__).resolve().parents[2]

_HELP = """
() => { window.T = {
  add(type, values = {}, extra = {}) {
    const node = LiteGraph.createNode(type);
    app.graph.add(node);
    for (const [name, value] of Object.entries(values)) node.widgets.find((w) => w.name === name).value = value;
    return Object.assign(node, extra);
  },
  link(from, slot, to, name) { from.connect(slot, to, to.inputs.findIndex((i) => i.name === name)); },
  soon() { return new Promise((resolve) => setTimeout(resolve, 50)); },
  async take() {
    const { workflow, output } = await app.graphToPrompt();
    return JSON.parse(JSON.stringify({ workflow, output }));
  },
} }
"""
_SUBGRAPH = """
const a = add("ToyNumber", { value: 2 }), b = add("ToyAdd", { b: 4 }), c = add("ToyAdd", { b: 5 }), d = add("ToyShow");
link(a, 0, b, "a"); link(b, 0, c, "a"); link(c, 0, d, "value");
const { subgraph, node: s } = app.graph.convertToSubgraph(new Set([b, c]));
const inner = subgraph.nodes.find((n) => n.type === "ToyAdd");
"""
_PROMOTED = (
    _SUBGRAPH
    + """
subgraph.addInput("b", "FLOAT").connect(inner.inputs.find((i) => i.name === "b"), inner);
await soon();
const w = s.widgets.find((w) => w.name === "b");
"""
)
_NESTED = """
const f = add("ToyAdd", { b: 1 });
link(s, 0, f, "a"); link(f, 0, d, "value");
const outer = app.graph.convertToSubgraph(new Set([s, f]));
await soon();
"""
GRAPHS = {
    "widgets": """
        const a = add("ToyNumber", { value: 2.5, seed: 7, mode: "double", label: "hi\\nthere", negate: true });
        const b = add("ToyAdd", { b: 4 }), c = add("ToyShow");
        link(a, 0, b, "a"); link(b, 0, c, "value"); c.title = "My Show";""",
    "a link into a widget": """
        const a = add("ToyNumber"), b = add("ToyAdd"), c = add("ToyShow");
        link(a, 0, b, "a"); link(a, 0, b, "b"); link(b, 0, c, "value");""",
    "muted": """
        const a = add("ToyNumber"), b = add("ToyAdd", { b: 4 }, { mode: 2 }), c = add("ToyAdd"), d = add("ToyShow");
        link(a, 0, b, "a"); link(b, 0, c, "a"); link(a, 0, c, "b"); link(c, 0, d, "value");""",
    "bypassed": """
        const a = add("ToyNumber"), b = add("ToyAdd", { b: 4 }, { mode: 4 }), c = add("ToyAdd"), d = add("ToyShow");
        link(a, 0, b, "a"); link(b, 0, c, "a"); link(c, 0, d, "value");""",
    "bypassed, the output in another place than the input": """
        const a = add("ToyImage"), b = add("ToyPass", {}, { mode: 4 }), b2 = add("ToyPass", {}, { mode: 4 });
        const d = add("SaveImage", { filename_prefix: "x" });
        link(a, 0, b, "image"); link(b, 1, b2, "image"); link(b2, 1, d, "images");""",
    "bypassed, before an input of any type": """
        const a = add("ToyNumber"), a2 = add("ToyNumber", { value: 3 }), b = add("ToyAdd", { b: 4 }, { mode: 4 });
        const d = add("ToyShow");
        link(a, 0, b, "a"); link(a2, 0, b, "b"); link(b, 1, d, "value");""",
    "reroutes": """
        const a = add("ToyNumber"), r = add("Reroute"), r2 = add("Reroute"), c = add("ToyAdd"), d = add("ToyShow");
        a.connect(0, r, 0); r.connect(0, r2, 0); link(r2, 0, c, "a"); link(r, 0, c, "b"); link(c, 0, d, "value");""",
    "primitives": """
        const a = add("ToyNumber"), a2 = add("ToyNumber"), p = add("PrimitiveNode"), c = add("ToyAdd");
        const d = add("ToyShow"), q = add("PrimitiveNode");
        link(p, 0, a, "seed"); link(p, 0, a2, "seed"); p.widgets[0].value = 42;
        link(q, 0, a, "mode"); q.widgets[0].value = "double";
        link(a, 0, c, "a"); link(a2, 0, c, "b"); link(c, 0, d, "value");""",
    "notes": """
        add("Note").widgets[0].value = "text"; add("MarkdownNote");
        const a = add("ToyNumber"), d = add("ToyShow"); link(a, 0, d, "value");""",
    "file names": """
        const a = add("LoadImage", { image: "a.png" }), x = add("ToyNumber", { seed: 5 }), e = add("ToyShow");
        x.title = "Num A";
        const d = add("SaveImage", { filename_prefix: "s/%ToyNumber.seed%_%Num A.value%_%date:yyyy-M%_%Nope.x%" });
        link(a, 0, d, "images"); link(x, 0, e, "value");""",
    "lazy": """
        const a = add("ToyNumber"), w = add("ToySwitch", { first: true }), d = add("ToyShow");
        link(a, 0, w, "a"); link(w, 0, d, "value");""",
    "subgraph": _SUBGRAPH,
    "muted subgraph": _SUBGRAPH + "s.mode = 2;",
    "bypassed subgraph": _SUBGRAPH + "s.mode = 4;",
    "muted inside a subgraph": _SUBGRAPH + "inner.mode = 2;",
    "bypassed inside a subgraph": _SUBGRAPH + "inner.mode = 4;",
    "promoted widget": _PROMOTED + "w.value = 11;",
    "promoted widget, not touched": _PROMOTED,
    "promoted widget, linked": _PROMOTED + 'w.value = 11; link(a, 0, s, "b");',
    "two uses of a subgraph": _PROMOTED
    + """
        w.value = 11;
        const s2 = LiteGraph.createNode(subgraph.id), e = add("ToyShow");
        app.graph.add(s2); await soon();
        s2.widgets.find((w) => w.name === "b").value = 22;
        link(a, 0, s2, s2.inputs[0].name); link(s2, 0, e, "value");""",
    "nested": _SUBGRAPH + _NESTED,
    "nested, promoted": _PROMOTED + "w.value = 11;" + _NESTED,
    "nested, promoted twice": _PROMOTED
    + "w.value = 11;"
    + _NESTED
    + """
        const within = outer.subgraph.nodes.find((n) => n.type === subgraph.id);
        outer.subgraph.addInput("ob", "FLOAT").connect(within.inputs.find((i) => i.name === "b"), within);
        await soon();
        outer.node.widgets.find((w) => w.name === "ob").value = 33;""",
    "a reroute inside a subgraph": """
        const a = add("ToyNumber", { value: 2 }), r = add("Reroute"), b = add("ToyAdd", { b: 4 }), d = add("ToyShow");
        a.connect(0, r, 0); link(r, 0, b, "a"); link(b, 0, d, "value");
        app.graph.convertToSubgraph(new Set([r, b]));""",
    "widgets that older editors promoted": _SUBGRAPH
    + """
        const saved = (await app.graphToPrompt()).workflow;
        const host = saved.nodes.find((n) => String(n.id) === String(s.id));
        host.properties.proxyWidgets = [[String(inner.id), "b"]]; host.widgets_values = [77];
        await app.loadGraphData(saved); await soon();
        return { ...(await take()), workflow: saved };""",
}


@pytest.fixture(scope="module")
def toys(tmp_path_factory) -> Path:
    """The toy nodes of the host's own tests, as a pack."""
    pack = tmp_path_factory.mktemp("packs") / "toys"
    pack.mkdir()
    shutil.copy(ROOT / "tests" / "host" / "toy_nodes.py", pack)
    (pack / "__init__.py").write_text("from .toy_nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS\n")
    return pack


@pytest.fixture(scope="module")
def registry(toys) -> Registry:
    return load_pack(toys)


@pytest.fixture(scope="module")
def everything(toys) -> Registry:
    """All that the page's host has: this project's nodes and the toys."""
    return load_pack(toys, load_pack(ROOT))


@pytest.fixture(scope="module")
def page(browser, toys, tmp_path_factory) -> Iterator[Editor]:
    """A tab with the real editor on the toy nodes."""
    data = tmp_path_factory.mktemp("editor")
    (data / "input").mkdir()
    Image.new("RGB", (4, 4)).save(data / "input" / "a.png")
    before = context.use_folders(default_folders(data))
    host = HostProcess(data, [ROOT, toys])
    try:
        editor = Editor(browser, host.address)
        editor.evaluate(_HELP)
        yield editor
        editor.close()
    finally:
        host.stop()
        context.use_folders(before)


def _told(prompt: dict[str, dict]) -> dict[str, tuple]:
    return {name: (node["class_type"], node["inputs"], node["_meta"]["title"]) for name, node in prompt.items()}


@pytest.mark.parametrize("name", GRAPHS)
def test_a_saved_graph_means_what_the_editor_would_queue(page, registry, name):
    script = (
        f"async () => {{ app.graph.clear(); const {{ add, link, soon, take }} = T; {GRAPHS[name]}; return take(); }}"
    )
    made = page.evaluate(script)
    assert made["output"]
    assert _told(to_prompt(made["workflow"], registry)) == _told(made["output"])


@pytest.mark.parametrize("file", sorted((ROOT / "example_workflows").glob("*.json")), ids=lambda file: file.stem)
def test_an_example_means_what_the_editor_would_queue(page, everything, file):
    workflow = json.loads(file.read_text())
    needed = {node["type"] for node in workflow["nodes"]} - {"Note", "MarkdownNote", "Reroute", "PrimitiveNode"}
    if needed - set(everything.nodes) - {entry["id"] for entry in workflow.get("definitions", {}).get("subgraphs", [])}:
        pytest.skip("needs nodes of ComfyUI")
    queued = page.evaluate("async (w) => { await app.loadGraphData(w); await T.soon(); return T.take(); }", workflow)
    assert _told(to_prompt(workflow, everything)) == _told(queued["output"])

"""Replacing stock samplers from the node's menu, in the real frontend, in both renderers."""

from __future__ import annotations

from typing import Any

import pytest

from tests.web.stock_nodes import BUILD, CHOOSE, DESCRIBE, STOCK

pytestmark = pytest.mark.browser
ONE_RENDERER = pytest.mark.parametrize("editor", ["canvas"], indirect=True)

AROUND = {
    "model": ["DDIMDemoModel", {}], "yes": ["DDIMDemoPrompt", {}], "no": ["DDIMDemoPrompt", {}],
    "latent": ["DDIMDemoLatent", {}], "decode": ["DDIMDemoDecode", {}],
}  # fmt: skip


def wired(name: str = "sampler") -> list[list[Any]]:
    return [
        ["model", 0, name, "model"], ["yes", 0, name, "positive"], ["no", 0, name, "negative"],
        ["latent", 0, name, "latent_image"], [name, 0, "decode", "latent"],
    ]  # fmt: skip


def build(editor, nodes: dict[str, Any], links: list[list[Any]]) -> dict[str, int]:
    return editor.evaluate(BUILD, [{**AROUND, **nodes}, links, STOCK])


def replace(editor, node: int, words: str = "Replace with DDIM KSampler") -> dict[str, Any] | None:
    editor.evaluate(CHOOSE, [node, words])
    return editor.evaluate(DESCRIBE, "DDIMSample")


def undo(editor) -> None:
    editor.evaluate("app.extensionManager.command.execute('Comfy.Undo')")


def test_a_ksampler_keeps_wires_and_values(editor):
    settings = {"seed": 77, "control_after_generate": "increment", "steps": 12, "cfg": 4.5, "denoise": 0.6}
    chosen = {"sampler_name": "euler_ancestral", "scheduler": "ddim_uniform"}
    ids = build(editor, {"sampler": ["KSampler", {**settings, **chosen}]}, wired())
    editor.evaluate(
        "(id) => void Object.assign(app.graph.getNodeById(id), { title: 'My sampler', mode: 4 })", ids["sampler"]
    )
    before = editor.evaluate(DESCRIBE, "KSampler")
    after = replace(editor, ids["sampler"])
    assert "KSampler" not in editor.types()
    assert {name: after["values"][name] for name in settings} == settings
    assert after["values"]["timestep_spacing"] == "leading" and after["values"]["eta"] == 1
    assert after["wires"] == before["wires"] and after["targets"] == [[0, "DDIMDemoDecode"]]
    assert (after["title"], after["pos"], after["mode"]) == ("My sampler", before["pos"], 4)
    assert after["width"] >= before["width"]
    more = "app.graph.nodes.find((n) => n.type === 'DDIMSample').widgets.find((w) => w.name === 'more_settings').label"
    assert "More settings" in editor.evaluate(more)  # the advanced inputs stay folded
    editor.page.get_by_text("Not used by DDIM: sampler_name euler_ancestral, scheduler ddim_uniform").first.wait_for()
    undo(editor)  # one step
    editor.wait("app.graph.nodes.some((node) => node.type === 'KSampler')")
    assert editor.evaluate(DESCRIBE, "KSampler")["wires"] == before["wires"]
    assert editor.evaluate(DESCRIBE, "DDIMSample") is None


@ONE_RENDERER
@pytest.mark.parametrize(
    ("scheduler", "spacing"), [("normal", "linspace"), ("karras", "trailing"), ("sgm_uniform", "trailing")]
)
def test_schedulers_become_the_spacing_that_is_nearest(editor, scheduler, spacing):
    ids = build(editor, {"sampler": ["KSampler", {"sampler_name": "dpmpp_2m", "scheduler": scheduler}]}, wired())
    after = replace(editor, ids["sampler"])
    assert after["values"]["timestep_spacing"] == spacing and after["values"]["eta"] == 0


@ONE_RENDERER
def test_links_into_widgets_are_kept(editor):
    nodes = {"sampler": ["KSampler", {"seed": 5}], "seed": ["PrimitiveNode", {}], "steps": ["PrimitiveNode", {}]}
    ids = build(editor, nodes, [*wired(), ["seed", 0, "sampler", "seed"], ["steps", 0, "sampler", "steps"]])
    values = editor.evaluate(
        """([seed, steps]) => {
            const [a, b] = [seed, steps].map((id) => app.graph.getNodeById(id));
            [a.widgets[0].value, b.widgets[0].value] = [31, 9];
            return [a, b].map((node) => node.widgets.map((w) => w.value));
        }""",
        [ids["seed"], ids["steps"]],
    )
    after = replace(editor, ids["sampler"])
    assert after["wires"]["seed"] == ["PrimitiveNode", 0] and after["wires"]["steps"] == ["PrimitiveNode", 0]
    kept = editor.evaluate(
        "(ids) => ids.map((id) => app.graph.getNodeById(id).widgets.map((w) => w.value))", [ids["seed"], ids["steps"]]
    )
    assert kept == values


def test_a_part_of_a_run_becomes_a_schedule_and_a_sampler(editor):
    settings = {
        "add_noise": "disable", "noise_seed": 8, "control_after_generate": "fixed", "steps": 30, "cfg": 3.0,
        "sampler_name": "ddim", "scheduler": "karras", "start_at_step": 4, "end_at_step": 20,
    }  # fmt: skip
    ids = build(
        editor, {"sampler": ["KSamplerAdvanced", {**settings, "return_with_leftover_noise": "enable"}]}, wired()
    )
    after = replace(editor, ids["sampler"])
    schedule = editor.evaluate(DESCRIBE, "DDIMSchedule")
    assert schedule["wires"] == {"model": ["DDIMDemoModel", 0]}
    expected = {"steps": 30, "start_step": 4, "end_step": 20, "timestep_spacing": "trailing"}
    assert {name: schedule["values"][name] for name in expected} == expected
    assert after["wires"]["schedule"] == ["DDIMSchedule", 0] and after["targets"] == [[0, "DDIMDemoDecode"]]
    assert after["values"]["add_noise"] is False and after["values"]["seed"] == 8
    undo(editor)
    editor.wait("app.graph.nodes.some((node) => node.type === 'KSamplerAdvanced')")
    assert "DDIMSchedule" not in editor.types()


@ONE_RENDERER
def test_a_run_that_stops_early_without_leftover_noise_gives_its_predicted_picture(editor):
    settings = {"steps": 30, "end_at_step": 20, "return_with_leftover_noise": "disable"}
    ids = build(editor, {"sampler": ["KSamplerAdvanced", settings]}, wired())
    assert replace(editor, ids["sampler"])["targets"] == [[1, "DDIMDemoDecode"]]


@ONE_RENDERER
def test_a_custom_sampler_takes_over_its_scheduler(editor):
    nodes = {
        "sampler": ["SamplerCustom", {"noise_seed": 3, "cfg": 2.0, "add_noise": True}],
        "which": ["KSamplerSelect", {"sampler_name": "ddpm"}],
        "sigmas": ["BasicScheduler", {"scheduler": "normal", "steps": 14, "denoise": 0.5}],
    }
    links = [*wired(), ["which", 0, "sampler", "sampler"], ["sigmas", 0, "sampler", "sigmas"]]
    ids = build(editor, nodes, [*links, ["model", 0, "sigmas", "model"]])
    after = replace(editor, ids["sampler"])
    expected = {
        "seed": 3, "cfg": 2, "add_noise": True, "steps": 14, "denoise": 0.5, "timestep_spacing": "linspace", "eta": 1,
    }  # fmt: skip
    assert {name: after["values"][name] for name in expected} == expected
    assert not {"SamplerCustom", "KSamplerSelect", "BasicScheduler"} & set(editor.types())


@ONE_RENDERER
def test_a_schedule_of_ours_stays(editor):
    nodes = {"sampler": ["SamplerCustom", {}], "ours": ["DDIMSchedule", {}]}
    ids = build(editor, nodes, [*wired(), ["ours", 1, "sampler", "sigmas"]])
    assert replace(editor, ids["sampler"])["wires"]["schedule"] == ["DDIMSchedule", 0]


@ONE_RENDERER
def test_a_custom_sampler_with_other_sigmas_stays_and_runs_our_sampler(editor):
    nodes = {
        "sampler": ["SamplerCustom", {}],
        "which": ["KSamplerSelect", {"sampler_name": "euler_ancestral"}],
        "flip": ["FlipSigmas", {}],
        "sigmas": ["BasicScheduler", {}],
    }
    links = [["which", 0, "sampler", "sampler"], ["flip", 0, "sampler", "sigmas"], ["sigmas", 0, "flip", "sigmas"]]
    ids = build(editor, nodes, [*wired(), *links])
    assert replace(editor, ids["sampler"]) is None
    kept = editor.evaluate(DESCRIBE, "SamplerCustom")
    assert kept["wires"]["sampler"] == ["DDIMSampler", 0] and kept["wires"]["sigmas"] == ["FlipSigmas", 0]
    assert editor.evaluate(DESCRIBE, "DDIMSampler")["values"]["eta"] == 1
    assert "KSamplerSelect" not in editor.types()


def test_all_samplers_of_a_workflow_are_replaced_in_one_step(editor):
    nodes = {"sampler": ["KSampler", {"steps": 3}], "second": ["KSampler", {"steps": 5}]}
    ids = build(editor, nodes, [*wired(), *wired("second")[:4]])
    editor.evaluate(CHOOSE, [ids["second"], "Replace all 2 samplers"])
    assert editor.types().count("DDIMSample") == 2 and "KSampler" not in editor.types()
    undo(editor)
    editor.wait("app.graph.nodes.filter((node) => node.type === 'KSampler').length === 2")


def test_a_sampler_in_a_subgraph_keeps_the_wires_to_its_edge(editor):
    ids = build(editor, {"sampler": ["KSampler", {"steps": 6, "cfg": 3.5}]}, wired())
    editor.evaluate(
        """(id) => {
            const { subgraph, node } = app.graph.convertToSubgraph(new Set([app.graph.getNodeById(id)]));
            const inner = subgraph.nodes[0];
            const slot = inner.inputs.findIndex((input) => input.name === "steps");
            const input = subgraph.addInput("steps", "INT");
            input.connect(inner.inputs[slot], inner);
            const host = node.widgets.find((w) => w.name === "steps");
            if (host) host.value = 17;
        }""",
        ids["sampler"],
    )
    inner = editor.evaluate("Number([...app.rootGraph.subgraphs.values()][0].nodes[0].id)")
    before = editor.evaluate(DESCRIBE, "KSampler")
    after = replace(editor, inner)
    assert after["wires"] == before["wires"] and set(after["wires"]) >= {"model", "latent_image", "steps"}
    assert after["targets"] == before["targets"] == [[0, "subgraph"]]
    host = "app.rootGraph.nodes.find((node) => node.subgraph).widgets.find((w) => w.name === 'steps')?.value"
    assert editor.evaluate(host) == 17
    prompt = editor.evaluate("(async () => Object.values((await app.graphToPrompt()).output))()")
    sample = next(node for node in prompt if node["class_type"] == "DDIMSample")
    assert sample["inputs"]["steps"] == 17 and sample["inputs"]["cfg"] == 3.5


@ONE_RENDERER
def test_the_menu_of_other_nodes_is_as_before(editor):
    ids = build(editor, {}, [])
    items = editor.evaluate(
        "(id) => app.canvas.getNodeMenuOptions(app.graph.getNodeById(id)).map((item) => item?.content ?? '')",
        ids["model"],
    )
    assert not [item for item in items if "DDIM KSampler" in item]

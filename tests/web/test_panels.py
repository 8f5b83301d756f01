"""The panels on the nodes in the real frontend, in both renderers: plot, replay, config import."""

from __future__ import annotations

import json

import pytest

from tests.web.panels import PANEL, PLOT, drop_on_node, one_node, panel, text, wait_text

pytestmark = pytest.mark.browser
# What does not depend on who draws the node is tried in one renderer.
ONE_RENDERER = pytest.mark.parametrize("editor", ["canvas"], indirect=True)

SDXL = {
    "_class_name": "EulerDiscreteScheduler", "_diffusers_version": "0.19.0", "beta_end": 0.014, "beta_start": 0.0009,
    "beta_schedule": "scaled_linear", "clip_sample": False, "num_train_timesteps": 1000, "prediction_type": "epsilon",
    "set_alpha_to_one": False, "steps_offset": 1, "timestep_spacing": "leading", "use_karras_sigmas": False,
}  # fmt: skip


def test_plot_is_drawn_before_any_run_and_follows_edits(editor):
    node = one_node(editor, "DDIMSchedule")
    wait_text(editor, node, PLOT, "20 steps, t 999 to 49")
    editor.set_widget(node, "steps", 7)
    wait_text(editor, node, PLOT, "7 steps, t 999 to 142")
    assert panel(editor, "plot").locator(".ddim-dot").count() == 7
    editor.set_widget(node, "timestep_spacing", "leading")
    wait_text(editor, node, PLOT, "7 steps, t 852 to 0")


def test_the_plot_keeps_the_levels_of_the_model_of_the_last_run(editor, repo_root):
    """A flow model's levels are no input's value: a run brings them, and edits are planned over them."""
    workflow = json.loads((repo_root / "example_workflows/Start here - digits.json").read_text())
    for each in workflow["nodes"]:
        if each["type"] == "DDIMDemoModel":
            each |= {"widgets_values": ["flow"], "widgets_values_named": {"sampled_as": "flow"}}
        if each["type"] == "DDIMDemoLatent":
            each |= {"widgets_values": [1], "widgets_values_named": {"batch_size": 1}}
    editor.load(workflow)
    node = next(each["id"] for each in workflow["nodes"] if each["type"] == "DDIMSchedule")
    wait_text(editor, node, PLOT, "20 steps, t 999 to 49")
    editor.run()
    wait_text(editor, node, PLOT, "20 steps, t 1000 to 50")
    editor.set_widget(node, "steps", 8)
    wait_text(editor, node, PLOT, "8 steps, t 1000 to 125")
    wait_text(editor, node, PLOT, "Noise levels and shift from the MODEL")
    editor.evaluate("(id) => app.graph.getNodeById(id).disconnectInput(0)", node)
    wait_text(editor, node, PLOT, "8 steps, t 999 to 124")


def test_plot_is_read_by_pointer_and_by_keys(editor):
    node = one_node(editor, "DDIMSchedule")
    wait_text(editor, node, PLOT, "20 steps")
    image = panel(editor, "plot").locator(".ddim-svg")
    image.hover(position={"x": 2, "y": 40})
    wait_text(editor, node, PLOT, "Step 1 of 20: t 999, ᾱ 0.00466, log SNR −5.364")
    image.focus()
    editor.page.keyboard.press("Home")
    editor.page.keyboard.press("ArrowRight")
    assert text(editor, node, PLOT, ".ddim-readout").startswith("Step 2 of 20: t 949,")
    assert image.get_attribute("aria-valuetext").startswith("Step 2 of 20")
    editor.page.keyboard.press("Delete")  # must not reach the canvas, where it removes the node
    assert editor.types() == ["DDIMSchedule"]


def test_bad_choices_are_told_on_the_node(editor):
    node = one_node(editor, "DDIMSchedule")
    wait_text(editor, node, PLOT, "20 steps")
    editor.set_widget(node, "prediction_type", "epsilon")
    editor.set_widget(node, "rescale_betas_zero_snr", True)
    wait_text(editor, node, PLOT, "from which epsilon says nothing")
    editor.set_widget(node, "prediction_type", "v_prediction")
    editor.set_widget(node, "timestep_spacing", "leading")
    wait_text(editor, node, PLOT, "starts at timestep 950 (leading) and never visits it")
    editor.set_widget(node, "timestep_spacing", "trailing")
    editor.wait(f"([id, name]) => ({PANEL})([id, name]).querySelectorAll('.ddim-warning').length === 0", [node, PLOT])
    editor.set_widget(node, "steps", 1500)
    wait_text(editor, node, PLOT, "steps must be at most 1000")
    assert panel(editor, "plot").get_by_role("alert").count() == 1
    assert text(editor, node, PLOT, ".ddim-readout") == "", "the summary of other values"
    editor.set_widget(node, "steps", 1000)
    wait_text(editor, node, PLOT, "1000 steps, t 999 to 0")


@ONE_RENDERER
def test_a_value_from_a_linked_primitive_is_plotted(editor):
    node = one_node(editor, "DDIMSchedule")
    editor.evaluate(
        """(id) => {
            const node = app.graph.getNodeById(id), source = LiteGraph.createNode("PrimitiveNode");
            source.pos = [100, 80];
            app.graph.add(source);
            source.connect(0, node, node.inputs.findIndex((input) => input.name === "steps"));
        }""",
        node,
    )
    wait_text(editor, node, PLOT, "20 steps")
    editor.wait("app.graph.nodes.find((node) => node.type === 'PrimitiveNode').widgets?.length > 0")
    editor.evaluate("app.graph.nodes.find((node) => node.type === 'PrimitiveNode').widgets[0].value = 33")
    wait_text(editor, node, PLOT, "33 steps")


def test_saved_workflows_and_prompts_hold_no_trace(editor, example):
    editor.load(example)
    editor.wait("app.graph.nodes.some((node) => node.widgets?.some((w) => w.name === 'ddim_schedule_plot'))")
    saved = json.dumps(editor.evaluate("app.graph.serialize()"))
    prompt = editor.evaluate("(async () => (await app.graphToPrompt()).output)()")
    for mark in ("ddim_", "ddimPlot", "ddimReplay"):
        assert mark not in saved and mark not in json.dumps(prompt)
    values = {node["id"]: node.get("widgets_values", []) for node in json.loads(saved)["nodes"]}
    for node in example["nodes"]:
        if node["type"].startswith("DDIM"):
            assert len(values[node["id"]]) == len(node.get("widgets_values", [])), node["type"]


@ONE_RENDERER
def test_panels_survive_a_change_of_renderer(editor):
    node = one_node(editor, "DDIMSchedule")
    renderer = editor.evaluate("app.extensionManager.setting.get('Comfy.VueNodes.Enabled')")
    try:
        for vue in (not renderer, renderer):
            editor.set_setting("Comfy.VueNodes.Enabled", vue)
            steps = 11 + vue
            editor.set_widget(node, "steps", steps)
            wait_text(editor, node, PLOT, f"{steps} steps")
            panel(editor, "plot").locator(".ddim-alpha-line").wait_for(state="attached")
            assert panel(editor, "plot").bounding_box()["height"] > 120
            assert bool(editor.page.locator("[data-node-id] .ddim-plot").count()) == vue
    finally:
        editor.set_setting("Comfy.VueNodes.Enabled", renderer)


def test_a_node_in_a_subgraph_keeps_its_plot_and_leaves_no_trace(editor):
    node = one_node(editor, "DDIMSchedule")
    wait_text(editor, node, PLOT, "20 steps")
    outer = editor.evaluate(
        """(id) => {
            const { node } = app.graph.convertToSubgraph(new Set([app.graph.getNodeById(id)]));
            app.canvas.openSubgraph(node.subgraph, node);
            return Number(node.id);
        }""",
        node,
    )
    try:
        inner = "[...app.rootGraph.subgraphs.values()][0].nodes.find((node) => node.type === 'DDIMSchedule')"
        editor.evaluate(f"() => {{ {inner}.widgets.find((w) => w.name === 'steps').value = 9 }}")
        plot = f"{inner}.widgets.find((w) => w.name === '{PLOT}').element"
        editor.wait(f"() => {plot}.isConnected && {plot}.textContent.includes('9 steps')")
        assert "ddim_schedule_plot" not in json.dumps(editor.evaluate("app.rootGraph.serialize()"))
    finally:
        editor.evaluate("app.canvas.setGraph(app.rootGraph)")
    assert editor.evaluate("(id) => app.rootGraph.getNodeById(id) !== null", outer)


def test_a_config_dropped_on_the_canvas_becomes_a_node(editor):
    one_node(editor, "DDIMSchedule")
    editor.drop("scheduler_config.json", json.dumps(SDXL).encode(), "application/json")
    editor.wait("app.graph.nodes.some((node) => node.type === 'DDIMScheduleFromConfig')")
    node = editor.evaluate("Number(app.graph.nodes.find((node) => node.type === 'DDIMScheduleFromConfig').id)")
    assert json.loads(editor.widget(node, "config")) == SDXL
    wait_text(editor, node, PLOT, "Taken from EulerDiscreteScheduler")
    wait_text(editor, node, PLOT, "20 steps, t 951 to 1")
    told = text(editor, node, PLOT, ".ddim-import table")
    assert "beta_end" in told and "0.014" in told and "use_karras_sigmas" in told
    editor.page.get_by_text("scheduler_config.json imported").first.wait_for()


@ONE_RENDERER
def test_a_flow_config_dropped_on_the_canvas_is_plotted(editor):
    one_node(editor, "DDIMSchedule")
    flow = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}
    editor.drop("scheduler_config.json", json.dumps(flow).encode(), "application/json")
    editor.wait("app.graph.nodes.some((node) => node.type === 'DDIMScheduleFromConfig')")
    node = editor.evaluate("Number(app.graph.nodes.find((node) => node.type === 'DDIMScheduleFromConfig').id)")
    wait_text(editor, node, PLOT, "20 steps, t 1000 to")
    wait_text(editor, node, PLOT, "noise, t = 1000")


@ONE_RENDERER
def test_a_config_dropped_on_a_schedule_node_fills_it(editor):
    node = one_node(editor, "DDIMSchedule")
    wait_text(editor, node, PLOT, "20 steps")
    assert drop_on_node(editor, node, "my_config.json", json.dumps(SDXL)) is True
    assert editor.widget(node, "beta_end") == 0.014 and editor.widget(node, "steps_offset") == 1
    assert editor.widget(node, "timestep_spacing") == "leading"
    wait_text(editor, node, PLOT, "Taken from EulerDiscreteScheduler")
    editor.set_widget(node, "steps", 10)  # an edit: the report is of the past
    wait_text(editor, node, PLOT, "10 steps")
    assert "Taken from" not in text(editor, node, PLOT)


@ONE_RENDERER
def test_a_config_that_is_refused_changes_nothing(editor):
    node = one_node(editor, "DDIMScheduleFromConfig")
    drop_on_node(editor, node, "sdxl.json", json.dumps(SDXL))
    wait_text(editor, node, PLOT, "20 steps, t 951 to 1")
    before = editor.widget(node, "config")
    refused = json.dumps({"_class_name": "DDPMScheduler", "beta_schedule": "unheard_of", "num_train_timesteps": 1000})
    assert drop_on_node(editor, node, "refused.json", refused) is True
    editor.page.get_by_text("refused.json was not imported").first.wait_for()
    assert editor.widget(node, "config") == before
    editor.drop("again.json", refused.encode(), "application/json")
    editor.page.get_by_text("again.json was not imported").first.wait_for()
    assert editor.types() == ["DDIMScheduleFromConfig"]


def test_a_node_that_waits_for_a_config_shows_nothing_but_what_to_do(editor):
    node = one_node(editor, "DDIMScheduleFromConfig")
    wait_text(editor, node, PLOT, "Drop a scheduler_config.json on this node")
    shown = panel(editor, "plot")
    assert shown.locator(".ddim-legend:visible, .ddim-figure:visible").count() == 0
    assert shown.bounding_box()["height"] < 90
    drop_on_node(editor, node, "sdxl.json", json.dumps(SDXL))
    wait_text(editor, node, PLOT, "20 steps, t 951 to 1")
    assert shown.locator(".ddim-figure").bounding_box()["height"] > 120
    assert shown.locator(".ddim-legend").first.is_visible()


@ONE_RENDERER
def test_other_files_go_where_they_went_before(editor, example):
    node = one_node(editor, "DDIMSchedule")
    assert drop_on_node(editor, node, "other.json", json.dumps({"a": 1})) is False
    assert drop_on_node(editor, node, "broken.json", "{") is False
    editor.drop("workflow.json", json.dumps(example).encode(), "application/json")
    editor.wait("(count) => app.graph.nodes.length === count", len(example["nodes"]))


@ONE_RENDERER
def test_a_flow_config_is_not_for_the_widgets_of_a_schedule_node(editor):
    node = one_node(editor, "DDIMSchedule")
    wait_text(editor, node, PLOT, "20 steps")
    before = editor.widget(node, "beta_end")
    drop_on_node(editor, node, "scheduler_config.json", json.dumps({"_class_name": "FlowMatchEulerDiscreteScheduler"}))
    editor.page.get_by_text("scheduler_config.json was not imported").first.wait_for()
    editor.page.get_by_text("This is the configuration of a flow model").first.wait_for()
    assert editor.widget(node, "beta_end") == before


def test_words_follow_the_language(fresh_editor):
    editor = fresh_editor()
    editor.set_setting("Comfy.Locale", "zh")
    editor.reload()
    node = one_node(editor, "DDIMSchedule")
    wait_text(editor, node, PLOT, "经过的时间步")
    assert editor.evaluate("(id) => app.graph.getNodeById(id).title", node) == "DDIM 调度"
    editor.set_setting("Comfy.Locale", "en")


@ONE_RENDERER
def test_live_previews_of_the_node_that_runs_a_sampler_are_kept_on_it(editor):
    node = one_node(editor, "DDIMSampler")
    editor.evaluate(
        """async (id) => {
            class Consumer extends LiteGraph.LGraphNode {}
            LiteGraph.registerNodeType("test/SamplerConsumer", Consumer);
            const running = LiteGraph.createNode("test/SamplerConsumer");
            running.addInput("sampler", "SAMPLER");
            app.graph.add(running);
            app.graph.getNodeById(id).connect(0, running, 0);
            const send = (name, detail) => app.api.dispatchCustomEvent(name, detail);
            const canvas = new OffscreenCanvas(400, 200), context = canvas.getContext("2d");
            send("execution_start", { prompt_id: "x" });
            for (let step = 1; step <= 60; step += 1) {
                context.fillStyle = `rgb(${4 * step}, 0, 0)`;
                context.fillRect(0, 0, 400, 200);
                const blob = await canvas.convertToBlob();
                const ids = { nodeId: String(running.id), displayNodeId: String(running.id) };
                send("progress", { node: String(running.id), value: step, max: 60, prompt_id: "x" });
                send("b_preview_with_metadata", { blob, ...ids, parentNodeId: "", realNodeId: "", jobId: "x" });
            }
        }""",
        node,
    )
    wait_text(editor, node, "ddim_sampler_replay", "Step 60 of 60")
    slider = panel(editor, "replay").locator("input:not(.ddim-wipe)")
    slider.focus()
    editor.page.keyboard.press("Home")
    assert text(editor, node, "ddim_sampler_replay", ".ddim-readout") == "Step 1 of 60"
    shown = editor.evaluate(
        f"""([id, name]) => {{
            const canvas = ({PANEL})([id, name]).querySelector("canvas");
            return [canvas.width, canvas.height, canvas.getContext("2d").getImageData(9, 9, 1, 1).data[0]];
        }}""",
        [node, "ddim_sampler_replay"],
    )
    assert shown == [192, 96, 4]
    assert int(slider.get_attribute("max")) < 48  # small in memory: of 60 pictures, some were let go


def test_panels_can_be_switched_off_in_the_settings(editor):
    node = one_node(editor, "DDIMSchedule")
    wait_text(editor, node, PLOT, "20 steps")
    try:
        editor.set_setting("DDIM.SchedulePlot", False)
        editor.page.locator(".ddim-plot:visible").first.wait_for(state="hidden")
    finally:
        editor.set_setting("DDIM.SchedulePlot", True)
    panel(editor, "plot").wait_for()


@ONE_RENDERER
def test_an_answer_that_comes_after_the_node_was_removed_harms_nobody(editor):
    node = one_node(editor, "DDIMSchedule")
    wait_text(editor, node, PLOT, "20 steps")
    editor.evaluate(
        """async (id) => {
            const node = app.graph.getNodeById(id), plot = node.ddimPlot;
            node.widgets.find((widget) => widget.name === "steps").value = 5;
            const answered = plot.poll();
            app.graph.clear();
            await answered;
            plot.show({ schedule: plot.report, config: null });
            node.onExecuted({ ddim_schedule: [plot.report] });
        }""",
        node,
    )
    assert editor.types() == []

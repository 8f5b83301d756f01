"""Presets and advice in the plot of DDIM Schedule, in the real frontend, in both renderers."""

from __future__ import annotations

import json

import pytest

from tests.web.panels import PANEL, PLOT, one_node, panel, text, wait_text

pytestmark = pytest.mark.browser
PRESETS = [
    {"name": "sd15", "title": "Stable Diffusion 1.5", "inputs": {"timestep_spacing": "trailing", "beta_end": 0.012,
     "prediction_type": "epsilon", "rescale_betas_zero_snr": False}},
    {"name": "sdxl_v_zero_snr", "title": "SDXL v", "inputs": {"timestep_spacing": "linspace", "beta_end": 0.013,
     "prediction_type": "v_prediction", "rescale_betas_zero_snr": True}},
    {"name": "of_tomorrow", "title": "Of tomorrow", "inputs": {"timestep_spacing": "quad"}},
]  # fmt: skip


@pytest.fixture(params=["canvas", "vue"])
def preset_editor(request, fresh_editor):
    """A tab whose server has these presets."""
    editor = fresh_editor(renderer=request.param)
    answer = json.dumps({"presets": PRESETS})
    editor.page.route("**/ddim/presets", lambda route: route.fulfill(body=answer, content_type="application/json"))
    editor.reload()
    return editor


def values(editor, node: int) -> dict:
    return {name: editor.widget(node, name) for name in PRESETS[1]["inputs"]}


def test_a_preset_sets_the_node_up_as_one_edit(preset_editor):
    editor = preset_editor
    node = one_node(editor, "DDIMSchedule")
    for name, value in PRESETS[0]["inputs"].items():
        editor.set_widget(node, name, value)
    editor.evaluate("(id) => { app.graph.getNodeById(id).showAdvanced = true; }", node)
    wait_text(editor, node, PLOT, "20 steps")
    menu = panel(editor, "plot").get_by_label("Presets")
    assert [each.strip() for each in menu.locator("option").all_text_contents()] == [
        "Preset…", "Stable Diffusion 1.5", "SDXL, v-prediction, zero SNR", "Of tomorrow"]  # fmt: skip
    editor.wait(f"([id, name]) => ({PANEL})([id, name]).querySelector('select').value === 'sd15'", [node, PLOT])
    editor.evaluate("app.extensionManager.workflow.activeWorkflow.changeTracker.captureCanvasState()")
    menu.select_option("sdxl_v_zero_snr")
    assert values(editor, node) == PRESETS[1]["inputs"]
    assert not editor.evaluate("(id) => app.graph.getNodeById(id).showAdvanced", node)
    wait_text(editor, node, PLOT, "20 steps, t 999 to 0")
    assert menu.input_value() == "sdxl_v_zero_snr"
    editor.set_widget(node, "beta_end", 0.014)
    editor.wait(f"([id, name]) => ({PANEL})([id, name]).querySelector('select').value === ''", [node, PLOT])
    editor.set_widget(node, "beta_end", 0.013)
    editor.evaluate("app.extensionManager.command.execute('Comfy.Undo')")
    editor.wait("(id) => app.graph.getNodeById(id)?.widgets.find((w) => w.name === 'beta_end').value === 0.012", node)
    assert values(editor, node) == PRESETS[0]["inputs"]


def advise(editor, node: int, **message) -> None:
    """Shows a report with this message as its only warning."""
    editor.evaluate(
        """([id, message]) => {
            const plot = app.graph.getNodeById(id).ddimPlot;
            const warning = { code: "of_a_newer_pack", values: {}, text: "An advice.", ...message };
            plot.show({ schedule: { ...plot.report, warnings: [warning] } });
        }""",
        [node, message],
    )


@pytest.mark.parametrize("level", ["warning", "error", "note"])
def test_the_level_of_a_message_is_the_packs(editor, level):
    node = one_node(editor, "DDIMSchedule")
    wait_text(editor, node, PLOT, "20 steps")
    advise(editor, node, level=level)
    assert text(editor, node, PLOT, f".ddim-{level}")[1:] == "An advice."
    assert panel(editor, "plot").get_by_role("alert").count() == (level == "error")


def test_one_click_applies_an_advice(editor):
    node = one_node(editor, "DDIMSchedule")
    wait_text(editor, node, PLOT, "20 steps")
    advise(editor, node, apply={"timestep_spacing": "leading", "steps": 10})
    button = panel(editor, "plot").get_by_role("button", name="Apply")
    title = button.get_attribute("title")
    assert title.startswith("Set ") and "leading" in title and "10" in title
    button.focus()
    editor.page.keyboard.press("Enter")
    wait_text(editor, node, PLOT, "10 steps, t 900 to 0")
    assert editor.widget(node, "timestep_spacing") == "leading" and editor.widget(node, "steps") == 10
    assert panel(editor, "plot").get_by_role("button", name="Apply").count() == 0


def test_an_advice_about_an_input_that_the_node_lacks_has_no_button(editor):
    node = one_node(editor, "DDIMSchedule")
    wait_text(editor, node, PLOT, "20 steps")
    advise(editor, node, apply={"add_noise": False})
    assert "An advice." in text(editor, node, PLOT)
    assert panel(editor, "plot").get_by_role("button").count() == 0


def test_every_preset_of_the_pack_can_be_chosen(editor):
    node = one_node(editor, "DDIMSchedule")
    wait_text(editor, node, PLOT, "20 steps")
    menu = panel(editor, "plot").get_by_label("Presets")
    names = [name for name in menu.locator("option").evaluate_all("(all) => all.map((o) => o.value)") if name]
    assert len(names) >= 8
    for name in names:
        menu.select_option(name)
        editor.page.wait_for_timeout(300)
        assert menu.input_value() == name, "marked as another one"
        assert panel(editor, "plot").locator(".ddim-error, .ddim-stale").count() == 0

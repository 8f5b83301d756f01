"""The report of DDIM Check Model in the real frontend."""

from __future__ import annotations

import json

import pytest

from tests.web.panels import text, wait_text

pytestmark = pytest.mark.browser
CHECK = "ddim_model_check_report"


def test_the_panel_says_what_the_demo_model_predicts_and_what_to_set(editor, repo_root):
    workflow = json.loads((repo_root / "example_workflows/Guidance - CFG, CFG++, interval.json").read_text())
    editor.load(workflow)
    (node,) = (each["id"] for each in workflow["nodes"] if each["type"] == "DDIMCheckModel")
    assert text(editor, node, CHECK) == "Run the graph to find out what the MODEL predicts."
    for each in workflow["nodes"]:
        if each["type"] == "DDIMSchedule":
            editor.set_widget(each["id"], "steps", 2)
        if each["type"] == "DDIMDemoLatent":
            editor.set_widget(each["id"], "batch_size", 1)
    editor.set_widget(
        node, "seed", editor.evaluate("Math.floor(Math.random() * 1e9)")
    )  # the cache has no result for it
    editor.run()
    wait_text(editor, node, CHECK, "The MODEL predicts v (v_prediction).")
    shown = text(editor, node, CHECK)
    assert "reach zero SNR" in shown and "DDIM Schedule: connect the MODEL" in shown

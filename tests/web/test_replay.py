"""What the panels show after a run of the demo model, in the real frontend, in both renderers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.web.panels import INVERSION, PANEL, PLOT, REPLAY, panel, text, wait_text

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.browser


def test_replay_of_a_run_is_scrubbed(editor, example):
    editor.load(example)
    node = next(n["id"] for n in example["nodes"] if n["type"] == "DDIMSample")
    schedule = next(n["id"] for n in example["nodes"] if n["type"] == "DDIMSchedule")
    editor.set_widget(node, "seed", editor.evaluate("Math.floor(Math.random() * 1e9)"))
    editor.set_widget(schedule, "steps", 6)
    editor.run()
    wait_text(editor, node, REPLAY, "Step 6 of 6: t 166")
    slider = panel(editor, "replay").locator("input")
    seen = set()
    slider.focus()
    editor.page.keyboard.press("Home")
    for step, t in enumerate((999, 832, 666, 499, 332, 166), 1):
        assert text(editor, node, REPLAY, ".ddim-readout").startswith(f"Step {step} of 6: t {t},")
        seen.add(
            editor.evaluate(
                f"([id, name]) => ({PANEL})([id, name]).querySelector('canvas').toDataURL()", [node, REPLAY]
            )
        )
        editor.page.keyboard.press("ArrowRight")
    assert len(seen) == 6  # a picture of its own for each step
    panel(editor, "replay").get_by_role("button", name="Play").click()
    editor.wait("() => document.querySelector('.ddim-replay .ddim-readout').textContent.startsWith('Step 6 of 6')")
    message = next(data for kind, data in editor.events() if kind == "executed" and data["node"] == str(node))
    assert len(json.dumps(message)) < 8_000


def test_a_run_reports_what_it_took_from_the_model(editor, example):
    editor.load(example)
    schedule = next(n["id"] for n in example["nodes"] if n["type"] == "DDIMSchedule")
    model = next(n["id"] for n in example["nodes"] if n["type"] == "DDIMDemoModel")
    editor.set_widget(schedule, "steps", 3 + editor.evaluate("Math.floor(Math.random() * 5)"))
    editor.evaluate(
        """([model, schedule]) => {
            const node = app.graph.getNodeById(schedule);
            app.graph.getNodeById(model).connect(0, node, node.inputs.findIndex((input) => input.name === "model"));
        }""",
        [model, schedule],
    )
    wait_text(editor, schedule, PLOT, "when the graph runs")
    editor.run()
    wait_text(editor, schedule, PLOT, "Noise levels from the MODEL; prediction type: v_prediction.")


@pytest.mark.parametrize("editor", ["canvas"], indirect=True)
def test_an_inversion_says_how_well_each_picture_comes_back(editor):
    editor.load(json.loads((ROOT / "example_workflows/Invert and reconstruct.json").read_text()))
    kinds = {node["id"]: node["type"] for node in editor.evaluate("app.graph.serialize().nodes")}
    digits = next(i for i, kind in kinds.items() if kind == "DDIMDemoPicture")
    exact = next(
        i for i, kind in kinds.items() if kind == "DDIMInvert" and editor.widget(i, "method") == "variance_noise"
    )
    assert "how well each image comes back" in text(editor, exact, INVERSION)
    for invert in (i for i, kind in kinds.items() if kind == "DDIMInvert"):
        editor.set_widget(invert, "steps", 4)
    editor.set_widget(digits, "digits", "37")
    editor.run()
    wait_text(editor, exact, INVERSION, "variance_noise, 2 images")
    wait_text(editor, exact, INVERSION, "Every image comes back exactly.")
    rows = editor.evaluate(
        f"([id, name]) => [...({PANEL})([id, name]).querySelectorAll('.ddim-number')].map((e) => +e.textContent)",
        [exact, INVERSION],
    )
    assert len(rows) == 2 and all(0 <= error < 1e-4 for error in rows)

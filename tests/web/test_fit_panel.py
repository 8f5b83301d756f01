"""The report of fitted steps in the real frontend, in both renderers: what it shows, and the list that it copies."""

from __future__ import annotations

import json

import pytest

from tests.web.panels import PANEL, PLOT, panel, text, wait_text

pytestmark = pytest.mark.browser
FIT = "ddim_fit_report"


@pytest.fixture
def fitted(editor, repo_root):
    """The example workflow after a quick run; the editor, the node, and what the node told."""
    workflow = json.loads((repo_root / "example_workflows/Few steps - fitted to the model.json").read_text())
    editor.load(workflow)

    def nodes(kind: str) -> list[int]:
        return [each["id"] for each in workflow["nodes"] if each["type"] == kind]

    (node,) = nodes("DDIMFitSteps")
    assert text(editor, node, FIT) == "Run the graph to fit the steps."
    quick = {"steps": 4, "grid": 20, "images": 2, "cfg": 1.0, "method": "fast"}
    quick["seed"] = editor.evaluate("Math.floor(Math.random() * 1e9)")  # the cache has no result for it
    for name, value in quick.items():
        editor.set_widget(node, name, value)
    editor.set_widget(nodes("DDIMDemoLatent")[0], "batch_size", 1)
    for schedule in nodes("DDIMSchedule"):
        editor.set_widget(schedule, "steps", 4)
    editor.evaluate(
        """(id) => {
            const node = app.graph.getNodeById(id);
            const { ds } = app.canvas;
            [ds.scale, ds.offset[0], ds.offset[1]] = [1, 200 - node.pos[0], 60 - node.pos[1]];
            app.canvas.setDirty(true, true);
        }""",
        node,
    )
    editor.run()
    wait_text(editor, node, FIT, "4 steps, fitted to 2 noises")
    return editor, node, editor.outputs(node)["ddim_fit"][0]


def rows(editor, node: int) -> list[dict]:
    """The table of the panel: name, timesteps, width of the bar, both numbers."""
    return editor.evaluate(
        f"""([id, name]) => [...({PANEL})([id, name]).querySelectorAll("tbody tr")].map((row) => {{
            const marks = row.querySelectorAll(".ddim-strip line:not(.ddim-axis)");
            return {{
                name: row.querySelector("th").textContent,
                marks: [...marks].map((line) => +line.getAttribute("x1")),
                bar: row.querySelector(".ddim-bar").getBoundingClientRect().width,
                numbers: [...row.querySelectorAll(".ddim-number")].map((cell) => +cell.textContent),
            }};
        }})""",
        [node, FIT],
    )


def test_the_panel_shows_the_plans_and_their_errors(fitted):
    editor, node, report = fitted
    assert panel(editor, "fit").bounding_box()["height"] > 100
    shown = rows(editor, node)
    assert [row["name"] for row in shown] == ["fitted", "trailing", "AYS (SD 1.5)", "AYS (SDXL)"]
    widest = max(row["bar"] for row in shown)
    for row, plan in zip(shown, report["schedules"], strict=True):
        assert row["marks"] == pytest.approx([1 - t / 999 for t in plan["index"]])
        assert row["numbers"] == pytest.approx([plan["error"], plan["error_fitted_to"]], rel=1e-3)
        assert row["bar"] / widest == pytest.approx(plan["share"], abs=0.02)
    assert shown[0]["marks"][0] == 0 and len(shown[0]["marks"]) == 4
    wait_text(editor, node, FIT, f"With trailing, the error is {report['gain']:g} times as large.")
    wait_text(editor, node, FIT, "copy it into timesteps of DDIM Schedule")
    inside = editor.evaluate(
        f"""([id, name]) => {{
            const element = ({PANEL})([id, name]), box = element.getBoundingClientRect();
            const parts = [...element.querySelectorAll("*")].map((part) => part.getBoundingClientRect());
            return parts.every((part) => part.bottom <= box.bottom + 1 && part.right <= box.right + 1);
        }}""",
        [node, FIT],
    )
    assert inside, "a part of the panel is cut off"
    gaps = editor.evaluate(
        f"""([id, name]) => [...({PANEL})([id, name]).querySelectorAll("tbody tr")].map((row) => {{
            const ends = [...row.querySelectorAll(".ddim-number")].map((cell) => {{
                const text = document.createRange();
                text.selectNodeContents(cell);
                return text.getBoundingClientRect();
            }});
            return ends[1].left - ends[0].right;
        }})""",
        [node, FIT],
    )
    assert min(gaps) > 4, "two numbers touch"


@pytest.mark.parametrize("clipboard", [True, False], ids=["clipboard", "without"])
def test_the_list_is_copied(fitted, clipboard):
    editor, node, report = fitted
    assert text(editor, node, FIT, ".ddim-list") == report["list"]
    editor.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=editor.address)
    editor.evaluate("navigator.clipboard.writeText('nothing yet')")
    if not clipboard:  # as on a page from another machine without HTTPS
        editor.evaluate("navigator.clipboard.writeText = undefined")
    try:
        panel(editor, "fit").get_by_role("button", name="Copy").click()
        panel(editor, "fit").get_by_role("button", name="Copied").wait_for()
        assert editor.evaluate("navigator.clipboard.readText()") == report["list"]
    finally:
        editor.evaluate("delete navigator.clipboard.writeText")
        editor.context.clear_permissions()
    panel(editor, "fit").get_by_role("button", name="Copy", exact=True).wait_for()
    schedule = editor.evaluate("app.graph.nodes.find((node) => node.type === 'DDIMSchedule').id")
    editor.set_widget(schedule, "timesteps", report["list"])
    first, last = report["schedules"][0]["index"][0], report["schedules"][0]["index"][-1]
    wait_text(editor, schedule, PLOT, f"4 steps, t {first} to {last}")


def test_the_report_stays_after_a_run_from_the_cache_and_leaves_no_trace(fitted):
    editor, node, report = fitted
    editor.run()
    wait_text(editor, node, FIT, report["list"])
    saved = json.dumps(editor.evaluate("app.graph.serialize()"))
    assert "ddim_fit" not in saved and "ddimFit" not in saved
    values = next(each for each in json.loads(saved)["nodes"] if each["id"] == node)["widgets_values"]
    assert len(values) == 6  # the seed has no control that changes it after each run

"""The replay as live preview, enlarged, and compared with the run before; in the real frontend, in both renderers."""

from __future__ import annotations

import pytest

from tests.web.panels import INVERSION, PANEL, REPLAY, one_node, panel, text, wait_text

pytestmark = pytest.mark.browser
ONE_RENDERER = pytest.mark.parametrize("editor", ["canvas"], indirect=True)

# Sends what a host sends for a node that runs: `steps` of `total`, a picture with each if there is a side.
SEND = """
async ([id, steps, total, side]) => {
  const send = (name, detail) => app.api.dispatchCustomEvent(name, detail);
  const node = String(id), ids = { nodeId: node, displayNodeId: node, parentNodeId: "", realNodeId: node, jobId: "x" };
  send("execution_start", { prompt_id: "x", timestamp: 0 });
  send("executing", node);
  for (let step = 1; step <= steps; step += 1) {
    send("progress", { node, value: step, max: total, prompt_id: "x" });
    if (!side) continue;
    const canvas = new OffscreenCanvas(side, side), context = canvas.getContext("2d");
    context.fillStyle = `rgb(${20 * step}, 0, 0)`;
    context.fillRect(0, 0, side, side);
    send("b_preview_with_metadata", { blob: await canvas.convertToBlob(), ...ids });
  }
}
"""
STOP = """
(id) => app.api.dispatchCustomEvent("execution_interrupted",
  { prompt_id: "x", node_id: String(id), node_type: "DDIMSample", executed: [], timestamp: 0 })
"""
# Reports a run with a sheet of two steps, one colour each, as a node does.
REPORT = """
([id, name, colours, more]) => {
  const canvas = document.createElement("canvas"), context = canvas.getContext("2d");
  [canvas.width, canvas.height] = [80, 40];
  colours.forEach((colour, i) => {
    context.fillStyle = colour;
    context.fillRect(40 * i, 0, 40, 40);
  });
  const frame = (step) => ({ step, t: 1000 - 500 * step, alpha_bar: 0.5, log_snr: 0 });
  window.__sheets = { ...window.__sheets, [name]: canvas.toDataURL() };
  window.__realApiURL ??= app.api.apiURL.bind(app.api);
  app.api.apiURL = (path) => window.__sheets[path.split("/").at(-1)] ?? window.__realApiURL(path);
  const sheet = { sheet: name, columns: 2, rows: 1, width: 40, height: 40, steps: 2, frames: [frame(1), frame(2)] };
  app.graph.getNodeById(id).onExecuted({ ddim_replay: [{ ...sheet, ...more }] });
}
"""
PIXEL = f"""
([id, x]) => {{
  const canvas = ({PANEL})([id, "{REPLAY}"]).querySelector("canvas");
  return [...canvas.getContext("2d").getImageData(x, 20, 1, 1).data].slice(0, 3);
}}
"""


def stop(editor, node: int, sheet: dict | None = None) -> None:
    """Stop the run; ``sheet`` is what the host has of it."""
    address = "**/ddim/replay/of/*"
    editor.page.route(address, lambda route: route.fulfill(json=sheet or {}))
    try:
        with editor.page.expect_response(address):
            editor.evaluate(STOP, node)
    finally:
        editor.page.unroute(address)


def report(editor, node: int, name: str, *colours: str, **more) -> None:
    editor.evaluate(REPORT, [node, name, list(colours), more])


def colour(editor, node: int, x: int) -> list[int]:
    return editor.evaluate(PIXEL, [node, x])


def test_the_replay_fills_while_the_node_runs_and_stays_when_it_is_stopped(editor):
    node = one_node(editor, "DDIMSample")
    assert text(editor, node, REPLAY, ".ddim-readout").startswith("Run the graph")
    editor.evaluate(SEND, [node, 3, 8, 64])
    wait_text(editor, node, REPLAY, "Step 3 of 8")
    assert "Predicted picture" in text(editor, node, REPLAY)
    assert colour(editor, node, 20) == [60, 0, 0]
    shown = editor.evaluate(
        "(id) => [Object.keys(app.nodePreviewImages), app.graph.getNodeById(id).imgs ?? null]", node
    )
    assert shown == [[], None]  # no second picture, which would make the node grow
    editor.page.get_by_alt_text("Live sampling preview").wait_for(state="hidden")
    size = editor.evaluate("(id) => app.graph.getNodeById(id).computeSize()[1]", node)
    editor.wait("([id, height]) => app.graph.getNodeById(id).size[1] <= height + 1", [node, size])
    stop(editor, node)
    wait_text(editor, node, REPLAY, "Stopped at step 3 of 8.")
    panel(editor, "replay").locator("input").focus()
    editor.page.keyboard.press("Home")
    assert colour(editor, node, 20) == [20, 0, 0]


def test_a_run_of_the_demo_model_fills_the_replay(editor, example):
    editor.load(example)
    node = next(n["id"] for n in example["nodes"] if n["type"] == "DDIMSample")
    editor.set_widget(node, "seed", editor.evaluate("Math.floor(Math.random() * 1e9)"))
    latent = next(n["id"] for n in example["nodes"] if n["type"] == "DDIMDemoLatent")
    editor.set_widget(latent, "batch_size", 20)
    editor.evaluate(
        """(id) => {
            const replay = app.graph.getNodeById(id).ddimReplay, show = replay.showLive;
            window.__live = 0;
            replay.showLive = function (film) {
                window.__live = Math.max(window.__live, film.count);
                show.call(this, film);
            };
        }""",
        node,
    )
    height = editor.evaluate("(id) => app.graph.getNodeById(id).size[1]", node)
    editor.run()
    wait_text(editor, node, REPLAY, "t 49")
    assert editor.evaluate("window.__live") >= 2
    assert str(node) not in editor.evaluate("Object.keys(app.nodePreviewImages)")
    fits = "([id, height]) => { const node = app.graph.getNodeById(id);"
    fits += " return node.size[1] <= Math.max(height, node.computeSize()[1]) + 1; }"
    editor.wait(fits, [node, height])


@ONE_RENDERER
def test_without_previews_the_panel_says_which_step_runs(editor):
    node = one_node(editor, "DDIMSample")
    editor.evaluate(SEND, [node, 5, 20, 0])
    wait_text(editor, node, REPLAY, "Step 5 of 20 runs.")
    stop(editor, node)
    wait_text(editor, node, REPLAY, "Stopped at step 5 of 20.")


@ONE_RENDERER
def test_what_the_node_kept_of_a_stopped_run_is_shown(editor):
    node = one_node(editor, "DDIMSample")
    report(editor, node, "whole", "#ff0000", "#00ff00")
    editor.wait(f"([id, name]) => ({PANEL})([id, name]).textContent.includes('of 2')", [node, REPLAY])
    frame = {"step": 1, "t": 999, "alpha_bar": 0.01, "log_snr": -4.6}
    sheet = {
        "sheet": "whole", "columns": 2, "rows": 1, "width": 40, "height": 40, "steps": 20, "frames": [frame],
        "partial": True, "prompt_id": "x", "node": str(node),
    }  # fmt: skip
    editor.evaluate(SEND, [node, 1, 20, 0])
    stop(editor, node, sheet)
    wait_text(editor, node, REPLAY, "Stopped at step 1 of 20. Step 1 of 20: t 999")


def test_a_run_is_compared_with_the_one_before(editor):
    node = one_node(editor, "DDIMSample")
    report(editor, node, "first", "#ff0000", "#ff0000")
    wait_text(editor, node, REPLAY, "Step 2 of 2")
    compare = panel(editor, "replay").get_by_role("button", name="Compare with the run before")
    assert compare.count() == 0
    report(editor, node, "second", "#0000ff", "#00ff00")
    editor.wait(f"([id]) => String(({PIXEL})([id, 20])) === '0,255,0'", [node])
    compare.click()
    assert compare.get_attribute("aria-pressed") == "true"
    assert colour(editor, node, 5) == [255, 0, 0] and colour(editor, node, 35) == [0, 255, 0]
    wipe = panel(editor, "replay").get_by_label("Where this run begins")
    wipe.focus()
    editor.page.keyboard.press("Home")
    assert colour(editor, node, 5) == [0, 255, 0]
    assert "the run before" in text(editor, node, REPLAY, ".ddim-readout")
    compare.click()
    assert "the run before" not in text(editor, node, REPLAY, ".ddim-readout")


def test_the_picture_is_enlarged_and_the_focus_returns(editor):
    node = one_node(editor, "DDIMSample")
    report(editor, node, "large", "#ff0000", "#00ff00", images=4, of_images=9, image_columns=2)
    wait_text(editor, node, REPLAY, "Step 2 of 2")
    assert "4 of 9 images" in text(editor, node, REPLAY)
    panel(editor, "replay").locator("canvas").click()
    box = editor.page.get_by_role("dialog", name="Step replay")
    box.wait_for()
    assert box.locator("canvas").bounding_box()["height"] > 400
    editor.page.keyboard.press("ArrowLeft")
    assert box.locator("output").inner_text().startswith("Step 1 of 2: t 500")
    editor.page.keyboard.press("Delete")  # must not reach the canvas, where it removes the node
    editor.page.keyboard.press("Escape")
    box.wait_for(state="detached")
    assert editor.evaluate("document.activeElement.getAttribute('aria-label')") == "Enlarge"
    assert editor.types() == ["DDIMSample"]


@ONE_RENDERER
def test_what_the_node_says_of_its_run_stands_under_the_replay(editor):
    node = one_node(editor, "DDIMSample")
    note = {"code": "levels_from_model", "values": {"prediction_type": "v_prediction"}, "text": "-", "level": "note"}
    other = {"code": "not_translated", "values": {}, "text": "Take more steps.", "level": "warning"}
    editor.evaluate(
        "([id, notes]) => app.graph.getNodeById(id).onExecuted({ ddim_notes: notes })", [node, [note, other]]
    )
    wait_text(editor, node, REPLAY, "Noise levels from the MODEL")
    assert text(editor, node, REPLAY, ".ddim-warning") == "⚠Take more steps."
    panel(editor, "replay").locator(".ddim-warning").wait_for()


@ONE_RENDERER
def test_a_preview_of_an_inversion_covers_no_other_node(editor):
    node = one_node(editor, "DDIMInvert")
    height = editor.evaluate("(id) => app.graph.getNodeById(id).size[1]", node)
    editor.evaluate(SEND, [node, 3, 8, 64])
    editor.page.wait_for_timeout(300)  # the canvas is drawn
    after = editor.evaluate("(id) => [app.graph.getNodeById(id).size[1], Object.keys(app.nodePreviewImages)]", node)
    assert after == [height, []]
    assert "Run the graph" in text(editor, node, INVERSION)

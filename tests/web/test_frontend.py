"""The real frontend on this host: what a person does in the editor, in both renderers."""

from __future__ import annotations

import json
import uuid

import pytest

from tests.server.support import HostProcess, editor_workflow

pytestmark = pytest.mark.browser


def toy(steps: int = 3, seconds: float = 0.0, mark: str | None = None) -> dict:
    """The toy workflow; its mark makes it run anew."""
    workflow = editor_workflow(steps, seconds)
    workflow["nodes"][1]["widgets_values"][2] = mark or str(uuid.uuid4())
    return workflow


def failing() -> dict:
    """The toy workflow with a node that raises in the middle."""
    workflow = editor_workflow()
    workflow["nodes"][1] |= {"type": "ToyFail", "widgets_values": ["on purpose"]}
    return workflow


@pytest.mark.parametrize("renderer", ["canvas", "vue"])
def test_first_visit(fresh_editor, repo_root, renderer):
    """The example is open: no dialog, no error, nothing missing, nothing asked of other machines."""
    editor = fresh_editor(renderer=renderer)
    opening = json.loads((repo_root / "example_workflows/Emoji - from words.json").read_text())
    assert sorted(editor.types()) == sorted(node["type"] for node in opening["nodes"])
    editor.page.wait_for_timeout(1500)  # late dialogs and late requests
    assert editor.page.locator("[role=dialog]:visible").count() == 0
    assert editor.page.get_by_test_id("error-overlay").count() == 0
    assert editor.errors == [] and editor.outside == []


def test_run_shows_the_picture(editor):
    editor.load(toy())
    events = editor.run()
    assert [data["value"] for kind, data in events if kind == "progress"] == [1, 2, 3]
    shown = editor.outputs(3)["images"][0]
    assert shown["type"] == "output"
    answer = editor.page.request.get(f"{editor.address}/api/view?filename={shown['filename']}&type=output")
    assert answer.status == 200 and answer.headers["content-type"] == "image/png"


def load_small(editor, example: dict) -> dict[str, int]:
    """Opens the example with few pictures, few steps and a new seed; node ids by class."""
    ids = {node["type"]: node["id"] for node in example["nodes"]}
    editor.load(example)
    editor.set_widget(ids["DDIMDemoLatent"], "batch_size", 2)
    editor.set_widget(ids["DDIMSchedule"], "steps", 3)
    editor.set_widget(ids["DDIMSample"], "seed", uuid.uuid4().int % 2**32)
    return ids


def test_the_example_runs(editor, example):
    ids = load_small(editor, example)
    events = editor.run()
    assert len(editor.outputs(ids["SaveImage"])["images"]) == 1
    assert {data["node"] for kind, data in events if kind == "progress"} == {str(ids["DDIMSample"])}


def test_after_a_reload_a_cached_run_shows_everything_again(editor, example):
    """A page that was loaded anew has no outputs; the run has nothing to do, and yet every node shows its own."""
    ids = load_small(editor, example)
    editor.run()
    editor.reload()
    assert editor.outputs(ids["DDIMSample"]) is None
    editor.run()
    assert editor.outputs(ids["SaveImage"])["images"]
    assert editor.outputs(ids["DDIMSample"])["ddim_replay"] and editor.outputs(ids["DDIMSchedule"])["ddim_schedule"]


def test_a_repeated_run_shows_the_picture_again(editor):
    workflow = toy()
    editor.load(workflow)
    editor.run()
    editor.load(workflow)
    editor.run()
    assert editor.outputs(3)["images"]


def test_live_preview_on_the_node(editor):
    editor.load(toy(steps=40, seconds=0.05))
    editor.evaluate("window.__previews = []")
    editor.evaluate(
        "app.api.addEventListener('b_preview_with_metadata', (e) => window.__previews.push(e.detail.displayNodeId))"
    )
    editor.run()
    assert set(editor.evaluate("window.__previews")) == {"2"}


def test_a_bad_value_is_shown_on_its_node(editor):
    editor.load(toy())
    editor.evaluate("app.graph.getNodeById(1).widgets.find((w) => w.name === 'width').value = 4")
    editor.page.get_by_test_id("queue-button").click()
    editor.wait("app.lastNodeErrors && app.lastNodeErrors['1']")
    editor.page.get_by_test_id("error-overlay").wait_for()
    error = editor.evaluate("app.lastNodeErrors['1'].errors[0]")
    assert error["type"] == "value_smaller_than_min" and error["extra_info"]["input_name"] == "width"
    assert any("400" in line for line in editor.errors)
    editor.errors.clear()  # the refused prompt, which the browser logs
    editor.set_widget(1, "width", 32)
    editor.run()


def test_an_error_of_a_node_is_shown_on_it(editor):
    editor.load(failing())
    events = editor.run("execution_error")
    error = next(data for kind, data in events if kind == "execution_error")
    assert (error["node_id"], error["node_type"]) == ("2", "ToyFail")
    editor.wait("app.lastExecutionError?.exception_message?.includes('on purpose')")
    editor.page.get_by_test_id("error-overlay").wait_for()
    editor.load(toy())
    editor.run()


def test_interrupt(editor):
    editor.load(toy(steps=2000, seconds=0.02))
    editor.evaluate("window.__events = []")
    editor.page.get_by_test_id("queue-button").click()
    editor.until("progress", 3)
    editor.evaluate("app.extensionManager.command.execute('Comfy.Interrupt')")
    editor.until("execution_interrupted")
    editor.load(toy())
    editor.run()


def test_batch(editor):
    editor.load(toy())
    editor.evaluate("window.__events = []")
    editor.evaluate("app.queuePrompt(0, 3)")
    events = editor.until("execution_success", 3)
    assert len({data["prompt_id"] for kind, data in events if kind == "execution_success"}) == 3


def test_clearing_the_queue(editor, web_host):
    editor.load(toy(steps=1000, seconds=0.02))
    editor.evaluate("window.__events = []")
    editor.page.get_by_test_id("queue-button").click()
    editor.until("progress")
    editor.evaluate("app.queuePrompt(0, 3)")
    web_host.wait(lambda: len(web_host.get("/queue").json["queue_pending"]) == 3)
    editor.evaluate("app.extensionManager.command.execute('Comfy.ClearPendingTasks')")
    web_host.wait(lambda: web_host.get("/queue").json["queue_pending"] == [])
    editor.evaluate("app.extensionManager.command.execute('Comfy.Interrupt')")
    editor.until("execution_interrupted")


def test_partial_execution_bypass_and_mute(editor):
    editor.load(toy())
    editor.evaluate("window.__events = []")
    editor.evaluate("app.queuePrompt(0, 1, ['3'])")
    editor.until("execution_success")
    editor.evaluate("app.graph.getNodeById(2).mode = 4")  # bypass: the picture goes past the steps
    assert set(editor.evaluate("app.graphToPrompt().then((p) => p.output)")) == {"1", "3"}
    events = editor.run()
    assert "2" not in [data for kind, data in events if kind == "executing"]
    editor.evaluate("app.graph.getNodeById(2).mode = 2")  # mute: nothing behind it has an input
    assert set(editor.evaluate("app.graphToPrompt().then((p) => p.output)")) == {"1", "3"}
    editor.evaluate("app.graph.getNodeById(2).mode = 0")


def test_save_and_reload(editor, web_host):
    name = f"saved {uuid.uuid4().hex[:6]}"
    editor.load(toy())
    editor.set_widget(1, "level", 0.25)
    editor.page.locator("#graph-canvas").click(position={"x": 700, "y": 700})
    editor.page.keyboard.press("Control+s")
    field = editor.page.locator("[role=dialog] input")
    field.fill(name)
    field.press("Enter")
    stored = web_host.data / "user/default/workflows" / f"{name}.json"
    web_host.wait(stored.is_file)
    assert json.loads(stored.read_text())["nodes"][0]["widgets_values"][2] == 0.25
    editor.reload()
    editor.wait("app.graph.nodes.some((node) => node.type === 'ToyPicture')")
    assert editor.widget(1, "level") == 0.25
    assert name in [entry["path"].removesuffix(".json") for entry in web_host.get(
        "/api/userdata?dir=workflows&recurse=true&split=false&full_info=true").json]  # fmt: skip


def test_a_dropped_picture_brings_its_workflow_back(editor):
    mark = str(uuid.uuid4())
    editor.load(toy(mark=mark))
    editor.run()
    name = editor.outputs(3)["images"][0]["filename"]
    picture = editor.page.request.get(f"{editor.address}/view?filename={name}").body()
    editor.evaluate("app.graph.clear()")
    editor.drop("picture.png", picture, "image/png")
    editor.wait("app.graph.nodes.length === 3")
    assert editor.widget(2, "mark") == mark


def test_a_dropped_file_opens(editor):
    workflow = toy()
    editor.drop("flow.json", json.dumps(workflow).encode(), "application/json")
    editor.wait("app.graph.nodes.length === 3")
    assert editor.widget(2, "mark") == workflow["nodes"][1]["widgets_values"][2]


def test_subgraph(editor):
    """Two nodes become one; what runs is the same."""
    editor.load(toy())
    editor.evaluate(
        "const nodes = [1, 2].map((id) => app.graph.getNodeById(id)); app.graph.convertToSubgraph(new Set(nodes))"
    )
    output = editor.evaluate("app.graphToPrompt().then((p) => p.output)")
    assert sorted(node["class_type"] for node in output.values()) == ["SaveImage", "ToyPicture", "ToySteps"]
    assert any(":" in node_id for node_id in output)
    editor.run()


def test_templates(editor):
    """The template browser lists the example with its picture, and opens it."""
    editor.evaluate("app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    card = editor.page.get_by_test_id("template-workflow-toy")
    card.scroll_into_view_if_needed()
    picture = card.locator("img").first
    assert picture.evaluate("(img) => img.decode().then(() => img.naturalWidth)") == 64
    card.click()
    editor.wait("app.graph.nodes.some((node) => node.type === 'ToyPicture')")


def test_a_template_opens_from_its_address(fresh_editor, web_host):
    editor = fresh_editor()
    editor.open("/?template=toy&source=toy")
    editor.wait("app.graph.nodes.some((node) => node.type === 'ToyPicture')")
    assert editor.page.locator("[role=dialog]:visible").count() == 0


def test_queue_and_history_panel(editor):
    editor.load(toy())
    editor.run()
    jobs = editor.evaluate("app.api.getHistory().then((history) => history.map((job) => job.status))")
    assert jobs and jobs[0] == "completed"
    detail = editor.evaluate(
        "app.api.getHistory().then((history) => app.api.getJobDetail(history[0].id)).then((job) => job.workflow.prompt)"
    )
    assert {node["class_type"] for node in detail.values()} == {"ToyPicture", "ToySteps", "SaveImage"}
    editor.page.get_by_test_id("assets-tab-button").click()
    editor.page.locator("img[src*='toy_']").first.wait_for()
    editor.page.get_by_test_id("assets-tab-button").click()


def test_two_tabs(editor, fresh_editor):
    """Only the tab that queued hears of its run."""
    other = fresh_editor()
    editor.load(toy())
    editor.run()
    assert [kind for kind, _ in other.events() if kind.startswith("exec")] == []
    assert editor.evaluate("app.api.clientId") != other.evaluate("app.api.clientId")


def test_a_restart_under_an_open_page(fresh_editor, packs, tmp_path):
    """The page notices, finds the next host under the same address, and goes on as the same client."""
    host = HostProcess(tmp_path / "data", packs)
    port = int(host.address.rsplit(":", 1)[1])
    editor = fresh_editor(host.address)
    name = editor.evaluate("app.api.clientId")
    editor.load(toy())
    editor.run()
    host.stop()
    editor.until("reconnecting")
    host = HostProcess(tmp_path / "data", packs, port=port)
    try:
        editor.until("reconnected")
        assert editor.evaluate("app.api.clientId") == name
        editor.set_widget(1, "level", 0.75)
        editor.run()
        history = editor.evaluate("app.api.getHistory().then((history) => history.length)")
        assert history == 2
    finally:
        host.stop()


def test_node_help(editor):
    editor.load(toy())
    text = editor.evaluate("fetch(app.api.fileURL('/extensions/toy/docs/ToyPicture.md')).then((r) => r.text())")
    assert "One colour." in text

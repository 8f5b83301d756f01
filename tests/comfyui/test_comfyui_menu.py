"""Replacing KSampler in the editor that this ComfyUI brings: its server accepts the prompt that comes of it."""

from __future__ import annotations

import pytest
from playwright.sync_api import sync_playwright

from tests.web.editor import CHROMIUM, FLAGS, Editor
from tests.web.stock_nodes import BUILD, CHOOSE, DESCRIBE

CHECKPOINT = "stand_in.safetensors"
WIRES = {"model", "positive", "negative", "latent_image"}


@pytest.fixture(scope="module")
def editor(server):
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    (server.base / "models/checkpoints" / CHECKPOINT).write_bytes(b"")
    server.post("/settings", {"Comfy.TutorialCompleted": True})  # else the editor opens with its templates
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        opened = Editor(browser, server.url)
        yield opened
        opened.close()
        browser.close()


def replaced(editor, kind: str, values: dict) -> dict:
    """Replace a stock sampler in a graph like the default one; the graph's prompt."""
    nodes = {
        "loader": ["CheckpointLoaderSimple", {"ckpt_name": CHECKPOINT}], "yes": ["CLIPTextEncode", {"text": "a rat"}],
        "no": ["CLIPTextEncode", {"text": ""}], "latent": ["EmptyLatentImage", {}], "sampler": [kind, values],
        "decode": ["VAEDecode", {}], "save": ["SaveImage", {}],
    }  # fmt: skip
    links = [
        ["loader", 0, "sampler", "model"], ["loader", 1, "yes", "clip"], ["loader", 1, "no", "clip"],
        ["yes", 0, "sampler", "positive"], ["no", 0, "sampler", "negative"], ["latent", 0, "sampler", "latent_image"],
        ["sampler", 0, "decode", "samples"], ["loader", 2, "decode", "vae"], ["decode", 0, "save", "images"],
    ]  # fmt: skip
    ids = editor.evaluate(BUILD, [nodes, links, {}])
    editor.evaluate(CHOOSE, [ids["sampler"], "Replace with DDIM KSampler"])
    return editor.evaluate("(async () => (await app.graphToPrompt()).output)()")


def accepted(server, prompt: dict) -> dict:
    """The inputs of a prompt's nodes by class, once the server has taken it."""
    answer = server.post("/prompt", {"prompt": prompt, "client_id": "menu"})
    assert answer.get("node_errors") == {} and "prompt_id" in answer, answer
    server.wait(answer["prompt_id"])  # it fails, for the checkpoint is empty
    return {node["class_type"]: node["inputs"] for node in prompt.values()}


def links(inputs: dict) -> set[str]:
    return {name for name, value in inputs.items() if isinstance(value, list)}


def test_the_prompt_of_a_replaced_ksampler_is_accepted(server, editor):
    values = {"seed": 7, "steps": 12, "cfg": 4.5, "denoise": 0.6, "scheduler": "ddim_uniform"}
    nodes = accepted(server, replaced(editor, "KSampler", {**values, "sampler_name": "euler_ancestral"}))
    sample = nodes["DDIMSample"]
    assert "KSampler" not in nodes and links(sample) == WIRES and "samples" in links(nodes["VAEDecode"])
    expected = {"seed": 7, "steps": 12, "cfg": 4.5, "denoise": 0.6, "timestep_spacing": "leading", "eta": 1}
    assert {name: sample[name] for name in expected} == expected


def test_the_prompt_of_a_replaced_part_of_a_run_is_accepted(server, editor):
    values = {"steps": 30, "start_at_step": 4, "end_at_step": 20, "return_with_leftover_noise": "enable"}
    nodes = accepted(server, replaced(editor, "KSamplerAdvanced", values))
    assert links(nodes["DDIMSample"]) == {*WIRES, "schedule"} and links(nodes["DDIMSchedule"]) == {"model"}
    assert [nodes["DDIMSchedule"][name] for name in ("steps", "start_step", "end_step")] == [30, 4, 20]


def test_one_step_of_undo_brings_the_old_node_back(editor):
    replaced(editor, "KSampler", {"steps": 9})
    editor.evaluate("app.extensionManager.command.execute('Comfy.Undo')")
    editor.wait("app.graph.nodes.some((node) => node.type === 'KSampler')")
    assert set(editor.evaluate(DESCRIBE, "KSampler")["wires"]) == WIRES
    assert editor.evaluate(DESCRIBE, "DDIMSample") is None

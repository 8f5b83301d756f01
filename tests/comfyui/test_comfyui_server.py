"""The pack in a running ComfyUI, through its HTTP API: what it registers, example workflows, Cancel."""

from __future__ import annotations

import json
import re
import threading
import urllib.error
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from host.execution.executor import Executor
from host.packs import Registry, load_pack
from host.validation import validate
from host.workflows import read_workflow

pytestmark = [pytest.mark.comfyui, pytest.mark.timeout(900)]  # a random network is as slow as a real one

WORKFLOWS = sorted((Path(__file__).resolve().parents[2] / "example_workflows").glob("*.json"))
BLUEPRINTS = sorted((Path(__file__).resolve().parents[2] / "subgraphs").glob("*.json"))
SMALL = {"width": 64, "height": 64}  # of empty latents and scaled pictures: a random network is as slow as a real one
GIVES_PICTURES_BACK = {"Share an inverted picture"}
NEWER_KEYS = {"is_input_list", "has_intermediate_output", "search_aliases"}  # 0.3.64's /object_info has not


@pytest.fixture(scope="module")
def embedded(base: Path) -> Registry:
    """The same copy of the pack in the embedded host."""
    return load_pack(base / "custom_nodes/ddim-nodes")


@pytest.fixture(scope="module")
def all_nodes(server: Any, embedded: Registry) -> Registry:
    """ComfyUI's nodes as far as a converter must know them: their inputs."""
    classes = {
        name: type(name, (), {"INPUT_TYPES": staticmethod(lambda info=info: info["input"]),
                              "RETURN_TYPES": tuple(info["output"])})
        for name, info in server.get("/object_info").items()
    }  # fmt: skip
    return Registry(classes, {}, {}, {})


@pytest.fixture(scope="module")
def checkpoint(bare_worker: Any, base: Path) -> Path:
    """One random checkpoint with text encoder and VAE."""
    path = base / "models/checkpoints/random.safetensors"
    bare_worker("write_checkpoint", path=str(path), seed=5, full=True)
    return path


def test_object_info_is_the_same_in_both_hosts(server: Any, embedded: Registry, nodes_of_the_pack: set[str]) -> None:
    theirs, ours = server.get("/object_info"), embedded.all_object_info()
    for node_id in nodes_of_the_pack:
        told, known = theirs[node_id], json.loads(json.dumps(ours[node_id]))
        assert {key: known[key] for key in told} == told, node_id
        assert set(known) - set(told) <= NEWER_KEYS, node_id
        assert told["category"].startswith("DDIM/") and told["python_module"] == "custom_nodes.ddim-nodes"


@pytest.fixture(scope="module")
def nodes_of_the_pack(embedded: Registry) -> set[str]:
    return {node_id for node_id in embedded.nodes if node_id.startswith("DDIM")}


def test_templates_scripts_and_help_are_served(server: Any, nodes_of_the_pack: set[str]) -> None:
    assert set(server.get("/workflow_templates")["ddim-nodes"]) == {path.stem for path in WORKFLOWS}
    assert any(path.startswith("/extensions/ddim-nodes/") for path in server.get("/extensions"))


def test_blueprints_are_offered_as_they_are(server: Any) -> None:
    try:
        offered = server.get("/global_subgraphs")
    except urllib.error.HTTPError as error:
        error.close()
        pytest.skip("this ComfyUI has no blueprints of packs")
    ours = {key: entry["name"] for key, entry in offered.items() if "ddim-nodes" in entry["info"]["node_pack"]}
    assert set(ours.values()) == {path.stem for path in BLUEPRINTS}
    for key, name in ours.items():
        told = json.loads(server.get(f"/global_subgraphs/{key}")["data"])
        (known,) = (json.loads(path.read_text(encoding="utf-8")) for path in BLUEPRINTS if path.stem == name)
        assert told == known


def test_the_pack_was_loaded_without_complaint(server: Any, base: Path) -> None:
    log = (base / "server.log").read_text(errors="replace")
    assert re.search(r"\d\.\d seconds: .*ddim-nodes", log) and "IMPORT FAILED" not in log


def needs_checkpoint(prompt: dict[str, Any]) -> bool:
    return any(node["class_type"] == "CheckpointLoaderSimple" for node in prompt.values())


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_an_example_workflow_runs(
    workflow: Path, server: Any, all_nodes: Registry, embedded: Registry, checkpoint: Path, base: Path
) -> None:
    """On the demo model both hosts draw the same pictures; the others run on a random checkpoint."""
    prompt = read_workflow(workflow, all_nodes).prompt
    for node in prompt.values():
        inputs = node["inputs"]
        if node["class_type"] == "CheckpointLoaderSimple":
            inputs["ckpt_name"] = checkpoint.name
        inputs.update({key: value for key, value in SMALL.items() if isinstance(inputs.get(key), int)})
    pictures_in(base / "input")
    entry = server.run(prompt)
    pictures = [np.asarray(Image.open(path).convert("RGB"), np.int16) for path in server.files(entry)]
    assert pictures and all(picture.std() > 1 for picture in pictures)
    if not needs_checkpoint(prompt):
        compare(pictures, run_embedded(prompt, embedded), at_edges=workflow.stem in GIVES_PICTURES_BACK)


def pictures_in(folder: Path) -> None:
    """The pictures that example workflows load: LoadImage's own example, with a transparent middle as mask."""
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 4), np.uint8)
    pixels[..., 3] = 255
    pixels[16:48, 16:48, 3] = 0
    Image.fromarray(pixels).save(folder / "example.png")


def run_embedded(prompt: dict[str, Any], embedded: Registry) -> list[np.ndarray]:
    import host.context
    from host.folders import default_folders

    folders = default_folders(next(iter(embedded.pack_directories.values())).parents[1])
    before = host.context.use_folders(folders)
    try:
        checked = validate(prompt, embedded)
        assert checked.error is None, checked
        result = Executor(embedded).run(
            checked.prompt, uuid.uuid4().hex, checked.outputs, {}, lambda *event: None, threading.Event()
        )
        assert result.status == "success", result
        told = [image for _, output in sorted(result.outputs.items()) for image in output.get("images", [])]
        return [
            np.asarray(Image.open(folders.of_type(i["type"]) / i["subfolder"] / i["filename"]).convert("RGB"), np.int16)
            for i in told
        ]
    finally:
        host.context.use_folders(before)


def compare(pictures: list[np.ndarray], others: list[np.ndarray], *, at_edges: bool) -> None:
    """Equal to rounding: SaveImage cuts off the fraction, so that a value next to a whole number may fall either way.

    A picture that is given back exactly consists of whole numbers: there any pixel may.
    """
    assert len(pictures) == len(others)
    for picture, other in zip(pictures, others, strict=True):
        difference = np.abs(picture - other)
        assert difference.max() <= 1 and (at_edges or (difference > 0).mean() < 0.01)


def long_run(steps: int) -> dict[str, Any]:
    """A run of the demo model, in the API's format."""
    given = {
        "schedule": {"steps": steps, "timestep_spacing": "trailing", "prediction_type": "v_prediction",
                     "rescale_betas_zero_snr": True, "beta_schedule": "scaled_linear", "beta_start": 0.00085,
                     "beta_end": 0.012, "num_train_timesteps": 1000, "set_alpha_to_one": True, "steps_offset": 0,
                     "denoise": 1.0, "start_step": 0, "end_step": 10000, "timesteps": "", "parity": "exact"},
        "sample": {"seed": 1, "cfg": 2.0, "guidance_rescale": 0.0, "eta": 0.0, "add_noise": True,
                   "x0_processing": "none", "clip_sample_range": 1.0, "dynamic_thresholding_ratio": 0.995,
                   "sample_max_value": 1.0, "use_clipped_model_output": False, "noise_mode": "per image"},
    }  # fmt: skip
    return {
        "1": {"class_type": "DDIMDemoModel", "inputs": {}},
        "2": {"class_type": "DDIMDemoPrompt", "inputs": {"digits": "8"}},
        "3": {"class_type": "DDIMDemoLatent", "inputs": {"batch_size": 4}},
        "4": {"class_type": "DDIMSchedule", "inputs": given["schedule"]},
        "5": {
            "class_type": "DDIMSample",
            "inputs": {"model": ["1", 0], "positive": ["2", 0], "negative": ["2", 0], "latent_image": ["3", 0],
                       "schedule": ["4", 0], **given["sample"]},
        },
        "6": {"class_type": "DDIMDemoDecode", "inputs": {"latent": ["5", 0], "columns": 2, "scale": 1}},
        "7": {"class_type": "PreviewImage", "inputs": {"images": ["6", 0]}},
    }  # fmt: skip


def test_cancel_stops_a_run_and_the_next_one_works(server: Any) -> None:
    websocket = pytest.importorskip("websocket")
    client = uuid.uuid4().hex
    address = f"ws{server.url[4:]}/ws?clientId={client}"
    steps, cancelled = 0, False
    with closing(websocket.create_connection(address, timeout=120)) as socket:
        answer = server.post("/prompt", {"prompt": long_run(1000), "client_id": client})
        while True:
            message = socket.recv()
            event = json.loads(message) if isinstance(message, str) else {"type": "preview"}
            if event["type"] == "progress":
                steps = event["data"]["value"]
                if steps >= 3 and not cancelled:
                    server.post("/interrupt", {})
                    cancelled = True
            if event["type"] in ("execution_interrupted", "execution_success", "execution_error"):
                break
    assert event["type"] == "execution_interrupted" and event["data"]["prompt_id"] == answer["prompt_id"]
    assert 3 <= steps < 900
    assert server.run(long_run(5))["outputs"]

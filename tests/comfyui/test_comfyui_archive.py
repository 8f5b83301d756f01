"""The archive of the registry, unpacked into the custom_nodes of a real ComfyUI."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.pack.archive import copy_of_the_repository, unpacked

pytestmark = [pytest.mark.comfyui, pytest.mark.timeout(900)]

FOLDER = "ddim-nodes-0.1"  # no space: ComfyUI serves no scripts from a folder with one in its name


@pytest.fixture(scope="module")
def archived(start_server: Callable[[Path], Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A ComfyUI with the archive and nothing else of the repository."""
    base = tmp_path_factory.mktemp("archived")
    for name in ("custom_nodes", "models/checkpoints", "input", "output"):
        (base / name).mkdir(parents=True)
    copy = copy_of_the_repository(tmp_path_factory.mktemp("copy"))
    unpacked(copy, tmp_path_factory.mktemp("home"), base / "custom_nodes" / FOLDER)
    with start_server(base) as server:
        yield server


def test_it_lists_every_node(archived: Any, pack: ModuleType) -> None:
    described = archived.get("/object_info")
    assert set(pack.NODE_CLASS_MAPPINGS) <= set(described)
    log = (archived.base / "server.log").read_text(errors="replace")
    assert "IMPORT FAILED" not in log and "Cannot import" not in log


def test_it_brings_its_templates_and_its_extension(archived: Any) -> None:
    templates = archived.get("/workflow_templates")
    assert "Start here - digits" in templates[FOLDER]
    scripts = archived.get("/extensions")
    (script,) = [each for each in scripts if each.endswith("/ddim.js")]
    with urllib.request.urlopen(archived.url + script, timeout=60) as answer:
        assert b"comfy.mjs" in answer.read()


def test_it_runs_a_workflow(archived: Any) -> None:
    """The demo model: its weights came with the archive."""
    sample = {
        "model": ["1", 0], "positive": ["2", 0], "negative": ["3", 0], "latent_image": ["4", 0], "seed": 1, "cfg": 3.0,
    }  # fmt: skip
    described = archived.get("/object_info")
    prompt = {
        "1": {"class_type": "DDIMDemoModel", "inputs": {}},
        "2": {"class_type": "DDIMDemoPrompt", "inputs": {}},
        "3": {"class_type": "DDIMDemoPrompt", "inputs": {}},
        "4": {"class_type": "DDIMDemoLatent", "inputs": {}},
        "5": {"class_type": "DDIMSchedule", "inputs": {"steps": 3}},
        "6": {"class_type": "DDIMSample", "inputs": {**sample, "schedule": ["5", 0]}},
        "7": {"class_type": "DDIMDemoDecode", "inputs": {"latent": ["6", 0]}},
        "8": {"class_type": "PreviewImage", "inputs": {"images": ["7", 0]}},
    }
    for node in prompt.values():
        for name, spec in described[node["class_type"]]["input"].get("required", {}).items():
            if name not in node["inputs"] and len(spec) > 1 and "default" in spec[1]:
                node["inputs"][name] = spec[1]["default"]
            elif name not in node["inputs"] and isinstance(spec[0], list):
                node["inputs"][name] = spec[0][0]
    entry = archived.run(prompt)
    assert archived.files(entry)[0].is_file()

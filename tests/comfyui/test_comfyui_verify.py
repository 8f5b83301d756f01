"""`python -m host verify` on a real ComfyUI. COMFYUI_PATH names it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from host.cli import main
from host.engines.comfyui import ComfyUIEngine
from host.engines.contract import Job
from host.engines.spec import EngineSpec
from host.packs import load_pack
from host.validation import validate
from host.workflows import read_workflow

pytestmark = [pytest.mark.comfyui, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[2]


def test_pictures_of_a_comfyui_come_out_again(comfyui_path, comfyui_python, tmp_path, capsys):
    registry = load_pack(ROOT)
    prompt = validate(
        read_workflow(ROOT / "example_workflows/Start here - digits.json", registry).prompt, registry
    ).prompt
    small = json.loads(json.dumps(prompt))
    for node in small.values():
        if node["class_type"] == "DDIMDemoLatent":
            node["inputs"]["batch_size"] = 2
        if node["class_type"] == "DDIMSchedule":
            node["inputs"]["steps"] = 3
    (tmp_path / "engine").mkdir()
    engine = ComfyUIEngine(
        EngineSpec("comfyui", str(comfyui_path), comfyui_python, ("--cpu",)), tmp_path / "engine", "first"
    )
    result = engine.run(Job("job", small), lambda event, data: None)
    engine.close()
    (file,) = [file for file in result.files if file.type == "output"]
    path = tmp_path / "made.png"
    path.write_bytes(file.data)
    options = ["--engine", f"comfyui:{comfyui_path}", "--engine-python", comfyui_python, "--engine-argument=--cpu"]
    code = main(["verify", *options, str(path)])
    told = capsys.readouterr()
    assert (code, told.out) == (0, f"{path}: identical\n"), told.err
    # The same nodes in this host: the picture is the same or nearly so, and the report says what differed.
    code = main(["verify", str(path)])
    told = capsys.readouterr()
    assert code in (0, 1) and "  engine: made with comfyui, now embedded" in told.out.splitlines()

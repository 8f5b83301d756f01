"""What bench/inside_comfyui/full_size.py measures: the networks are the published ones, and the times add up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.comfyui_overhead import FULL_SIZE, NETWORKS, answers, summary

STEPS, ROUNDS = 2, 1
PARAMETERS = {"SD15": 859_520_964, "SDXL": 2_567_463_684}  # of the published checkpoints


@pytest.fixture(scope="module", params=NETWORKS)
def reduced(comfyui_path: Path, request: pytest.FixtureRequest) -> dict[str, Any]:
    """The same run with a network of reduced depth."""
    asked = {"network": request.param, "reduced": True, "pixels": 64, "steps": STEPS, "rounds": ROUNDS}
    return {"name": request.param, **next(answers(comfyui_path, asked, FULL_SIZE))}


@pytest.mark.parametrize("network", NETWORKS)
def test_comfyui_recognises_the_published_configurations(comfyui_path: Path, network: str) -> None:
    row = next(answers(comfyui_path, {"network": network}, FULL_SIZE))
    assert row == {"recognised": network, "parameters": PARAMETERS[network]}


def test_the_reduced_networks_are_loaded_as_the_same_class(reduced: dict[str, Any]) -> None:
    assert reduced["recognised"] == reduced["loaded"] == reduced["name"]
    assert reduced["parameters"] < PARAMETERS[reduced["name"]] / 10


@pytest.mark.parametrize("side", ["stock", "ours"])
def test_each_step_is_one_call_with_both_prompts(reduced: dict[str, Any], side: str) -> None:
    assert [run["rows"] for run in reduced[side]] == [[2] * STEPS] * ROUNDS


@pytest.mark.parametrize("side", ["stock", "ours"])
def test_the_network_takes_a_part_of_the_run(reduced: dict[str, Any], side: str) -> None:
    for run in reduced[side]:
        assert 0 < sum(run["network"]) + sum(run["between"]) <= run["run"]
    medians = summary(reduced[side], STEPS)
    assert 0 < medians["share"] < 1
    assert medians["between"] < medians["step"]


def test_both_nodes_give_the_same_picture(reduced: dict[str, Any]) -> None:
    """The random weights keep the values of the run in range, and the last sample agrees to rounding."""
    assert 1 < reduced["largest"] < 1e4
    assert reduced["difference"] < 1e-4

"""What a step of our nodes costs inside ComfyUI beside a stock one, in exact counts; see bench/comfyui_overhead.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.comfyui_overhead import COUNTS, PAIRS, counted

SHAPES = ((1, 3, 64, 64), (2, 3, 32, 48))


@pytest.fixture(scope="module", params=SHAPES, ids=str)
def counts(comfyui_path: Path, request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    return counted(comfyui_path, request.param)


def test_a_step_runs_no_more_operators_and_waits_no_more_often_than_stock(counts: list[dict[str, Any]]) -> None:
    assert len(counts) == PAIRS
    more = {
        (row["cell"], name): (stock, ours)
        for row in counts
        for name, stock, ours in zip(COUNTS, row["stock"], row["ours"], strict=True)
        if ours > stock
    }
    assert more == {}


def test_the_counts_see_what_they_count(counts: list[dict[str, Any]]) -> None:
    """Stock runs every operator of a model call, and euler_ancestral compares two sigmas in each step."""
    by_name = {row["cell"]: row for row in counts}
    assert all(row["stock"][0] > 30 and row["ours"][0] > 30 for row in counts)
    assert by_name["eta 1, cfg 1"]["stock"][1] >= 1
    assert all(row["ours"][1] == 0 for row in counts)

"""docs/scheduler.md: its examples run, and its measured table is what the script measures."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="module")
def page(repo_root: Path) -> str:
    return (repo_root / "docs" / "scheduler.md").read_text()


def test_the_examples_run(page: str) -> None:
    blocks = [block for block in re.findall(r"```python\n(.*?)```", page, re.S) if "pipe" not in block]
    assert len(blocks) >= 3
    names: dict = {}
    for block in blocks:
        exec(compile(block, "docs/scheduler.md", "exec"), names)  # noqa: S102
    assert bool(names["x"].isfinite().all())
    assert names["inverse"].plan is names["scheduler"].plan
    report = names["report"]
    assert report.used == {"beta_schedule": "scaled_linear"} and report.mapped["final_sigmas_type"].value is True
    assert set(report.ignored) == {"_class_name", "use_karras_sigmas"} and report.defaulted["clip_sample"] is True


def test_the_table_of_differences_is_what_is_measured(page: str, repo_root: Path) -> None:
    spec = importlib.util.spec_from_file_location(
        "parity_differences", repo_root / "bench/parity/parity_differences.py"
    )
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    points = torch.linspace(0.005, 0.995, 199, dtype=torch.float64)
    truth = bench.quantiles(points, 1.0, bench.SPREAD)
    for spacing in bench.SPACINGS:
        for steps in (7, 20, 61):
            cells = bench.row(spacing, steps, points, truth).split("|")
            (line,) = [line for line in page.splitlines() if line.startswith(f"| {spacing} | {steps} |")]
            written = line.split("|")
            # The distance itself is rounding noise where both mean the same.
            assert cells[:4] == written[:4] and cells[5:] == written[5:], line
            assert float(written[4]) == pytest.approx(float(cells[4]), rel=0.1, abs=1e-6)


def test_every_number_of_diffusers_own_tests_is_a_decision(page: str, repo_root: Path) -> None:
    spec = importlib.util.spec_from_file_location("diffusers_tests", repo_root / "bench/parity/run_diffusers_tests.py")
    runner = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(runner)
    decisions = list(runner.EXPECTED["exact"].values())
    assert f'| `parity="exact"` | {81 - len(decisions)} | {len(decisions)} | 1 |' in page
    assert decisions.count(runner.OFF_PLAN) == 15 and decisions.count(runner.AMPLIFIES) == 3
    assert not runner.EXPECTED["diffusers"]

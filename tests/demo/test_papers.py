"""The page of the papers' tables: its figures are measured again, and its statistics are held to closed forms."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from bench.papers import features
from bench.papers.cells import Cell, Section, Store
from bench.papers.drawing import Drawing
from bench.papers.figures import Figure, bootstrapped, exact, mean, share
from bench.papers.gaussian import Gaussian
from bench.papers.gaussian import frechet_distance as frechet_distance_of_gaussians
from bench.papers.markdown import verdict
from bench.papers.page import measure
from bench.papers.sections import SECTIONS, brightness, quality, quality_exact


def table_under(page: str, heading: str, corner: str) -> dict[str, dict[str, str]]:
    """The table of the page below a heading whose first cell is ``corner``: its cells by row and column."""
    below = page.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = below.split(f"| {corner} |")[1].split("\n\n")[0].splitlines()
    columns = [cell.strip() for cell in lines[0].strip("|").split("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    return {row[0]: dict(zip(columns, row[1:], strict=True)) for row in rows}


@pytest.fixture(scope="module")
def page(repo_root: Path) -> str:
    return (repo_root / "docs" / "papers.md").read_text(encoding="utf-8")


def test_a_cell_of_the_samples_quality_comes_out_again(page):
    steps, eta = 5, "sigma_hat"
    found = quality.measured(Drawing(steps, quality.COUNT, eta=eta), lambda passed: None)
    row = quality.shown(eta)
    printed = table_under(page, quality.SECTION.title, "Frechet distance")[row][f"S = {steps}"]
    value, half = map(float, printed.split(" ± "))
    assert abs(found["distance"].value - value) <= half  # another processor rounds otherwise, in training too
    read = table_under(page, quality.SECTION.title, "read as asked")[row][f"S = {steps}"]
    assert abs(100 * found["read"].value - float(read.split()[0])) <= 2


@pytest.mark.parametrize("eta", quality.ETAS)
def test_the_closed_form_comes_out_again(page, eta):
    row = table_under(page, quality_exact.SECTION.title, "Frechet distance")[quality.shown(eta)]
    for steps in (5, 20, 100):
        found = quality_exact.measured(steps, eta, lambda passed: None)["distance"].value
        assert float(row[f"S = {steps}"]) == pytest.approx(found, rel=6e-3)  # three digits are printed


def test_only_trailing_steps_and_zero_snr_keep_the_mean_of_the_data():
    for steps in (1, 2, 3, 5, 10, 61, 1000):
        assert brightness.exact_mean(steps, "trailing", True) == pytest.approx(1, abs=1e-7)
        for spacing, zero_snr in (("leading", True), ("leading", False), ("trailing", False)):
            if 1 < steps < 1000 or spacing != "leading":  # of 1 step leading has no noise, of 1000 it is trailing
                assert brightness.exact_mean(steps, spacing, zero_snr) < 0.9999


def test_the_page_has_every_section_and_its_picture(page, repo_root):
    for section in SECTIONS:
        assert f"\n## {section.title}\n" in page
        assert (repo_root / "docs" / "images" / f"papers_{section.name}.png").stat().st_size > 5_000
    assert not re.search(r"\bnan\b|\binf\b", page)


def test_the_frechet_distance_of_gaussians_is_the_closed_form():
    generator = torch.Generator().manual_seed(0)
    mean_a, mean_b, variance_a, variance_b = torch.rand(4, 6, generator=generator, dtype=torch.float64) + 0.1
    axes = torch.linalg.qr(torch.randn(6, 6, generator=generator, dtype=torch.float64))[0]
    turned = [
        features.Moments(axes @ m, axes @ v.diag() @ axes.T) for m, v in ((mean_a, variance_a), (mean_b, variance_b))
    ]
    expected = frechet_distance_of_gaussians(Gaussian(mean_a, variance_a), Gaussian(mean_b, variance_b))
    assert features.frechet_distance(*turned) == pytest.approx(expected)
    assert features.frechet_distance(turned[0], turned[0]) == pytest.approx(0, abs=1e-12)


def test_intervals_hold_the_truth_as_often_as_they_say():
    generator = torch.Generator().manual_seed(1)
    hits = torch.rand(400, 40, generator=generator) < 0.9
    held = [figure.low <= 0.9 <= figure.high for figure in map(share, hits)]
    assert 0.92 <= sum(held) / len(held) <= 0.99
    values = torch.randn(200, 60, generator=generator)
    held = [figure.low <= 0 <= figure.high for figure in map(mean, values)]
    assert 0.89 <= sum(held) / len(held) <= 0.99
    assert share(torch.ones(40, dtype=torch.bool)).high == 1
    assert share(torch.zeros(40, dtype=torch.bool)).low == 0


def test_an_interval_is_around_its_value_where_resampling_is_biased():
    values = torch.arange(30.0)
    figure = bootstrapped(lambda chosen: float(len(values[chosen].unique())), len(values))
    assert figure.low < figure.value < figure.high


def test_a_stopped_run_goes_on_and_a_damaged_file_is_measured_again(tmp_path):
    calls = []

    def cell(name: str) -> Cell:
        def found(advance):
            calls.append(name)
            if name == "b" and calls.count("b") == 1:
                raise KeyboardInterrupt
            advance(5)
            return {"value": Figure(1.0, 0.5, 1.5, 7)}

        return Cell(name, {"count": 7}, 3, found)

    section = Section("s", "S", lambda quick: [cell("a"), cell("b")], str, lambda results, path: None, "")
    store = Store(tmp_path / "cells", "1")
    with pytest.raises(KeyboardInterrupt):
        measure([section], False, store)
    assert measure([section], False, store)["s"]["b"] == {"value": Figure(1.0, 0.5, 1.5, 7)}
    assert calls == ["a", "b", "b"]
    for damaged in ("", "[]", json.dumps({"figures": {"value": {"value": 1}}})):
        store.path("s", cell("a")).write_text(damaged)
        measure([section], False, store)
    assert calls == ["a", "b", "b", "a", "a", "a"]
    assert not list((tmp_path / "cells").glob("*.tmp"))
    measure([section], False, Store(tmp_path / "cells", "2"))
    assert calls[-2:] == ["a", "b"]


def test_a_verdict_says_where_a_claim_fails():
    assert verdict("it is", [5, 10], []) == "**Holds**: it is, at S = 5 and 10."
    assert "but not at S = 10" in verdict("it is", [5], [10])
    assert verdict("it is", [], [5, 10, 20]).endswith("It fails at S = 5, 10 and 20.")


def test_an_exact_figure_has_no_interval():
    assert exact(1.25).plus_minus(1) == "1.2"
    assert Figure(0.975, 0.95, 0.99, 40).percent() == "98 % (95 to 99)"

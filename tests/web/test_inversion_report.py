"""The report on DDIM Invert in the real frontend, in both renderers: its bars, its verdict, its width."""

from __future__ import annotations

import pytest

from tests.web.panels import INVERSION, PANEL, one_node, panel, text, wait_text

pytestmark = pytest.mark.browser


def show(editor, node: int, **report) -> None:
    given = {"method": "ddim", "images": len(report["round_trip_error"]), "residual": [], "notes": [], **report}
    editor.evaluate("([id, given]) => app.graph.getNodeById(id).onExecuted({ ddim_inversion: [given] })", [node, given])


def widths(editor, node: int) -> list[str]:
    bars = f"([id, name]) => [...({PANEL})([id, name]).querySelectorAll('.ddim-bar')].map((bar) => bar.style.width)"
    return editor.evaluate(bars, [node, INVERSION])


def test_bars_and_verdict_are_those_of_the_node(editor):
    node = one_node(editor, "DDIMInvert")
    show(editor, node, round_trip_error=[1.6e-10, 9e-11], share=[0.0, 0.0], verdict="exact")
    wait_text(editor, node, INVERSION, "Every image comes back exactly.")
    assert widths(editor, node) == ["0%", "0%"]  # errors that nobody can see have no bar
    show(editor, node, round_trip_error=[0.16, 0.002, None], share=[0.735, 0.1, 1.0], verdict="far")
    wait_text(editor, node, INVERSION, "visible differences")
    assert widths(editor, node) == ["73.5%", "10%", "100%"]
    assert panel(editor, "inversion").locator(".ddim-warning").count() == 1


def test_a_new_node_shows_its_hint_whole(editor):
    node = one_node(editor, "DDIMInvert")
    assert text(editor, node, INVERSION).endswith("how well each image comes back.")
    hint = panel(editor, "inversion")
    hint.wait_for()
    assert hint.evaluate("(element) => element.scrollHeight <= element.clientHeight + 1")
    assert hint.evaluate("(element) => element.scrollWidth <= element.clientWidth + 1")
    assert editor.evaluate("(id) => app.graph.getNodeById(id).size[0]", node) >= 320

"""Record the animation at the top of README from the real editor: ``python -m bench.figures.editor_animation [FILE]``.

It needs Chromium and the extra ``test``. The frames are screenshots of the page behind ``python -m host serve``; the
pointer and the sentences below are drawn on top. No time is measured: every frame is shown as long as it takes to read.
"""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import FloatRect, sync_playwright

from tests.server.support import HostProcess
from tests.web.editor import CHROMIUM, FLAGS, Editor

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "docs" / "images" / "editor.webp"
DENSITY, EDGE, CAPTION = 1.5, 16, 40
STEPS = (18, 16, 14, 12)
RUNNING = "Run: the replay fills while the pictures form"
WIDTHS = {"DDIMSchedule": 330, "DDIMSample": 330, "SaveImage": 230}
# Puts the schedule, the sampler and the result side by side, and everything else left of them, out of sight. Gives the
# size of the part that is shown.
_ARRANGE = """
([widths, gap]) => {
  const of = (type) => app.graph.nodes.find((node) => node.type === type);
  for (const group of [...app.graph.groups]) app.graph.remove(group);
  for (const node of app.graph.nodes.filter((node) => node.type === "MarkdownNote")) app.graph.remove(node);
  let x = 0;
  for (const [type, width] of Object.entries(widths)) {
    const node = of(type);
    node.pos = [x, 0];
    node.setSize([width, node.computeSize()[1]]);
    x += width + gap;
  }
  const decode = of("DDIMDemoDecode"), result = of("SaveImage"), shown = [...Object.keys(widths), "DDIMDemoDecode"];
  for (const node of app.graph.nodes.filter((node) => !shown.includes(node.type)))
    node.pos = [-1500, 100 * node.id];
  decode.pos = [result.pos[0], 20];
  if (!decode.flags.collapsed) decode.collapse(true);
  result.pos = [result.pos[0], 80];
  result.setSize([result.size[0], result.size[0] * 4 / 3 + 100]);
  app.canvas.ds.scale = 1;
  app.canvas.ds.offset = [200, 130];
  app.canvas.setDirty(true, true);
  return [x - gap, Math.max(...Object.keys(widths).map((type) => of(type).pos[1] + of(type).size[1]))];
}
"""
_WIDGET = """
([type, name]) => {
  const node = app.graph.nodes.find((node) => node.type === type);
  const widget = node.widgets.find((widget) => widget.name === name);
  const at = [node.pos[0] + node.size[0] * 0.8, node.pos[1] + widget.last_y + 12];
  const [x, y] = app.canvas.ds.convertOffsetToCanvas(at);
  const box = app.canvas.canvas.getBoundingClientRect();
  return [box.left + x, box.top + y];
}
"""
_BOX = """
(selector) => {
  const box = document.querySelector(selector).getBoundingClientRect();
  return [box.x, box.y, box.width, box.height];
}
"""


@dataclass
class Film:
    """Frames of a part of the page, with how long each is shown.

    Attributes:
        editor: the page.
        clip: the part that is shown, in pixels of the page.
        frames: the pictures so far.
        milliseconds: how long each is shown.
    """

    editor: Editor
    clip: FloatRect
    frames: list[Image.Image] = field(default_factory=list)
    milliseconds: list[int] = field(default_factory=list)

    def shoot(self, caption: str, seconds: float, pointer: Sequence[float] | None = None) -> None:
        """Add a frame: the page as it is, a sentence, and a pointer at a place of the page."""
        self.editor.evaluate("app.canvas.draw(true, true)")
        shown = Image.open(io.BytesIO(self.editor.page.screenshot(clip=self.clip))).convert("RGB")
        frame = Image.new("RGB", (shown.width, shown.height + round(CAPTION * DENSITY)), (23, 24, 28))
        frame.paste(shown)
        pen = ImageDraw.Draw(frame)
        font = ImageFont.load_default(17 * DENSITY)
        pen.text((frame.width / 2, shown.height + CAPTION * DENSITY / 2), caption, "white", font, anchor="mm")
        if pointer is not None:
            x, y = (DENSITY * (at - start) for at, start in zip(pointer, (self.clip["x"], self.clip["y"]), strict=True))
            shape = ((0, 0), (0, 17), (4, 13), (7, 20), (10, 18), (7, 12), (12, 12))
            pen.polygon([(x + DENSITY * a, y + DENSITY * b) for a, b in shape], "white", "black", 2)
        self.frames.append(frame)
        self.milliseconds.append(round(1000 * seconds))

    def save(self, path: Path) -> None:
        """Write the film, endlessly repeated."""
        first, *rest = self.frames
        first.save(path, save_all=True, append_images=rest, duration=self.milliseconds, loop=0, quality=70, method=6)


def node_id(editor: Editor, kind: str) -> int:
    """Return the id of the only node of a class."""
    return editor.evaluate("(kind) => Number(app.graph.nodes.find((node) => node.type === kind).id)", kind)


def place(film: Film, node: str, widget: str) -> list[float]:
    """Return where a widget is on the page."""
    return film.editor.evaluate(_WIDGET, [node, widget])


def change_schedule(film: Film, schedule: int) -> None:
    """Choose each spacing and some numbers of steps, and film the plot."""
    for spacing in ("leading", "quad", "linspace", "trailing"):
        film.editor.set_widget(schedule, "timestep_spacing", spacing)
        film.editor.page.wait_for_timeout(700)
        film.shoot(
            f"The plot follows every setting: spacing {spacing}", 1.1, place(film, "DDIMSchedule", "timestep_spacing")
        )
    for steps in STEPS:
        film.editor.set_widget(schedule, "steps", steps)
        film.editor.page.wait_for_timeout(500)
        film.shoot(f"The plot follows every setting: {steps} steps", 0.35, place(film, "DDIMSchedule", "steps"))
    film.milliseconds[-1] = 1100


def run(film: Film) -> None:
    """Press Run and film until it is done and the replay has arrived."""
    editor = film.editor
    before = editor.evaluate("() => document.querySelector('.ddim-replay').textContent")
    editor.page.get_by_test_id("queue-button").click()
    over = "window.__events.some((event) => event[0] === 'execution_success')"
    while not editor.evaluate(over) and len(film.frames) < 80:
        film.shoot(RUNNING, 0.2)
    editor.wait("(before) => document.querySelector('.ddim-replay').textContent !== before", before)
    editor.page.wait_for_timeout(1500)  # the result is loaded and drawn
    film.shoot(RUNNING, 1.0)


def replay(film: Film, steps: int) -> None:
    """Play the replay step by step."""
    slider = film.editor.page.locator(".ddim-replay:visible .ddim-controls input[type=range]").first
    slider.focus()
    film.editor.page.keyboard.press("Home")
    for _ in range(steps):
        film.editor.page.wait_for_timeout(80)
        left, top, width, height = film.editor.evaluate(_BOX, ".ddim-replay .ddim-controls input[type=range]")
        share = slider.evaluate("(e) => (e.value - e.min) / (e.max - e.min)")
        film.shoot("Replay: what each step predicted", 0.3, (left + share * width - 4, top + height / 2))
        film.editor.page.keyboard.press("ArrowRight")
    film.milliseconds[-1] = 2500


def arrange(editor: Editor) -> FloatRect:
    """Lay the graph out for the film, and return the part of the page that shows it."""
    widgets: dict[str, dict[str, Any]] = {"DDIMDemoLatent": {"batch_size": 12}, "DDIMDemoDecode": {"columns": 3}}
    for node, values in widgets.items():
        for name, value in values.items():
            editor.set_widget(node_id(editor, node), name, value)
    width, height = editor.evaluate(_ARRANGE, [WIDTHS, 50])
    x, y = editor.evaluate("() => { const b = app.canvas.canvas.getBoundingClientRect(); return [b.left, b.top]; }")
    editor.page.wait_for_timeout(1500)
    return FloatRect(x=x + 200 - EDGE, y=y + 100 - EDGE, width=width + 2 * EDGE, height=height + 30 + 2 * EDGE)


def record(editor: Editor) -> Film:
    """Film the schedule's plot, a run and its replay.

    A rehearsal says how tall the nodes become: the replay grows its node.
    """
    editor.set_setting("Comfy.NodeBadge.NodeSourceBadgeMode", "None")
    workflow = editor.evaluate("app.graph.serialize()")
    arrange(editor)
    editor.run()
    editor.wait("document.querySelector('.ddim-replay .ddim-controls input[type=range]')?.checkVisibility()")
    editor.set_widget(node_id(editor, "DDIMSchedule"), "timestep_spacing", "leading")  # a warning takes room, too
    editor.page.wait_for_timeout(2000)
    clip = arrange(editor)
    editor.load(workflow)
    editor.evaluate("app.nodeOutputs = {}; window.__events = []")
    film = Film(editor, FloatRect(**{**arrange(editor), "height": clip["height"]}))
    film.shoot("DDIM Schedule plots what a run would do, before it runs", 1.5)
    change_schedule(film, node_id(editor, "DDIMSchedule"))
    run(film)
    replay(film, STEPS[-1])
    return film


def main(arguments: Sequence[str]) -> None:
    """Record the animation and write it to the named file, or to where README shows it."""
    path = Path(arguments[0]) if arguments else FILE
    with tempfile.TemporaryDirectory() as data, sync_playwright() as playwright:
        host = HostProcess(Path(data), [ROOT])
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            film = record(Editor(browser, host.address, density=DENSITY))
            film.save(path)
        finally:
            browser.close()
            host.stop()
    print(f"{path}: {len(film.frames)} frames, {sum(film.milliseconds) / 1000:.1f} s, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])

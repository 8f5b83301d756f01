"""One browser, one host, and one tab for each renderer: booting the editor takes seconds, so tests share it.

`editor` is a tab with the real frontend on the real pack and the toy pack, in each renderer in turn; a test that uses
it fails when the page logged an error or asked another machine for something. `fresh_editor` opens tabs of its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.server.support import HostProcess, make_pack
from tests.web.editor import CHROMIUM, FLAGS, RENDERERS, Editor

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine; `make test` installs it")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def packs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """This pack and the toy pack."""
    return [ROOT, make_pack(tmp_path_factory.mktemp("packs"))]


@pytest.fixture(scope="session")
def web_host(packs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    """A host with both packs."""
    host = HostProcess(tmp_path_factory.mktemp("web-data"), packs)
    yield host
    host.stop()


@pytest.fixture(scope="module")
def tabs(browser: Browser, web_host: HostProcess) -> Iterator[Callable[[str], Editor]]:
    """The tab of a renderer that the tests of a file share: what one file opens and turns on is gone in the next."""
    opened: dict[str, Editor] = {}

    def tab(renderer: str) -> Editor:
        if renderer not in opened:
            opened[renderer] = Editor(browser, web_host.address, renderer)
        return opened[renderer]

    yield tab
    for editor in opened.values():
        editor.close()


@pytest.fixture(params=RENDERERS)
def editor(request: pytest.FixtureRequest, tabs: Callable[[str], Editor], web_host: HostProcess) -> Iterator[Editor]:
    """A tab with the editor, shared by all tests of its renderer; the queue is empty."""
    shown = tabs(request.param)
    web_host.post("/queue", {"clear": True})
    web_host.post("/interrupt")
    web_host.wait(lambda: web_host.get("/prompt").json["exec_info"]["queue_remaining"] == 0)
    shown.forget()
    yield shown
    assert shown.errors == [] and shown.outside == []


@pytest.fixture
def fresh_editor(browser: Browser, web_host: HostProcess) -> Iterator[Callable[..., Editor]]:
    """Opens tabs as on a first visit: no settings, no drafts."""
    opened: list[Editor] = []

    def open_tab(address: str = web_host.address, renderer: str = "canvas") -> Editor:
        (web_host.data / "user/default/comfy.settings.json").unlink(missing_ok=True)
        opened.append(Editor(browser, address, renderer))
        return opened[-1]

    yield open_tab
    for editor in opened:
        editor.close()


@pytest.fixture(scope="session")
def example() -> dict:
    """The example with the digits, which many tests load."""
    return json.loads((ROOT / "example_workflows/Start here - digits.json").read_text())

"""The real editor in a real browser, and the few things that tests do with it."""

from __future__ import annotations

import base64
import shutil
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Page, Request, Response

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
RENDERERS = ("canvas", "vue")
_READY = (
    "window.app?.extensionManager && app.graph && !document.querySelector('#splash-loader')"
    " && !app.extensionManager.spinner && app.api.socket?.readyState === 1"
)
_EVENTS = (
    "execution_start", "executing", "executed", "progress", "execution_success", "execution_error",
    "execution_interrupted", "reconnecting", "reconnected",
)  # fmt: skip
# Listens before anything is queued; `__events` holds [type, detail].
_LISTEN = """
(names) => {
  window.__events = [];
  for (const name of names) app.api.addEventListener(name, (e) => window.__events.push([name, e.detail ?? null]));
}
"""


class Editor:
    """One tab with the editor.

    Args:
        browser: the shared browser.
        address: the host's.
        renderer: "canvas", or "vue" for Nodes 2.0.
        density: pixels of a screenshot for a pixel of the page.

    Attributes:
        page: Playwright's page.
        errors: console errors, uncaught errors and answers of 400 and more since the last `forget`.
        outside: requests to any other machine.
    """

    def __init__(self, browser: Browser, address: str, renderer: str = "canvas", density: float = 1) -> None:
        self.address = address
        self.errors: list[str] = []
        self.outside: list[str] = []
        self.context = browser.new_context(viewport={"width": 1600, "height": 950}, device_scale_factor=density)
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(120_000)
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.errors.append(f"uncaught: {error}"))
        self.page.on("request", self._on_request)
        self.page.on("response", self._on_response)
        self.open()
        self.set_setting("Comfy.VueNodes.Enabled", renderer == "vue")

    def open(self, path: str = "/") -> None:
        """Loads the page and waits until it can be used."""
        self.page.goto(self.address + path)
        self.wait_ready()

    def reload(self) -> None:
        self.page.reload()
        self.wait_ready()

    def wait_ready(self) -> None:
        self.wait(_READY)
        self.wait("app.graph.nodes.length > 0")
        self.page.evaluate(_LISTEN, list(_EVENTS))

    def forget(self) -> None:
        """Starts a new list of errors and events."""
        self.errors.clear()
        self.outside.clear()
        self.page.evaluate("window.__events = []")

    def close(self) -> None:
        self.context.close()

    def evaluate(self, script: str, argument: Any = None) -> Any:
        return self.page.evaluate(script, argument)

    def wait(self, condition: str, argument: Any = None) -> Any:
        """What the JavaScript expression ``condition`` gives once it is true."""
        return self.page.wait_for_function(condition, arg=argument).json_value()

    def set_setting(self, name: str, value: Any) -> None:
        self.page.evaluate("([name, value]) => app.extensionManager.setting.set(name, value)", [name, value])

    def load(self, workflow: dict) -> None:
        """Opens a workflow in a tab of the editor."""
        self.page.evaluate("(workflow) => app.loadGraphData(workflow)", workflow)
        self.wait("(count) => app.graph.nodes.length === count", len(workflow["nodes"]))

    def drop(self, name: str, content: bytes, kind: str) -> None:
        """Drops a file on the editor."""
        self.page.evaluate(
            """async ([name, text, type]) => {
                const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
                await app.handleFile(new File([bytes], name, { type }));
            }""",
            [name, base64.b64encode(content).decode(), kind],
        )

    def set_widget(self, node: int, name: str, value: Any) -> None:
        """Gives a widget a value as an edit does."""
        self.page.evaluate(
            """([id, name, value]) => {
                const node = app.graph.getNodeById(id);
                const widget = node.widgets.find((w) => w.name === name);
                widget.value = value;
                widget.callback?.(value, app.canvas, node);
            }""",
            [node, name, value],
        )

    def widget(self, node: int, name: str) -> Any:
        return self.page.evaluate(
            "([id, name]) => app.graph.getNodeById(id).widgets.find((w) => w.name === name).value", [node, name]
        )

    def types(self) -> list[str]:
        return self.page.evaluate("app.graph.nodes.map((node) => node.type)")

    def run(self, until: str = "execution_success", times: int = 1) -> list:
        """Clicks Run ``times`` times and waits for as many events ``until``; gives every event since."""
        self.page.evaluate("window.__events = []")
        for _ in range(times):
            self.page.get_by_test_id("queue-button").click()
        return self.until(until, times)

    def until(self, event: str, times: int = 1) -> list:
        """Every event so far, once ``event`` has come ``times`` times."""
        self.wait(
            "([name, n]) => window.__events.filter((e) => e[0] === name).length >= n"
            " || window.__events.some((e) => e[0] === 'execution_error')",
            [event, times],
        )
        events = self.events()
        assert event in [name for name, _ in events], events
        return events

    def events(self) -> list:
        return self.page.evaluate("window.__events")

    def outputs(self, node: int) -> Any:
        """What a node shows, as the page keeps it."""
        return self.page.evaluate("(id) => app.nodeOutputs[id] ?? null", str(node))

    def screenshot(self, path: Path) -> None:
        self.page.screenshot(path=path)

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(f"console: {message.text}")

    def _on_request(self, request: Request) -> None:
        if not request.url.startswith((self.address, "data:", "blob:")):
            self.outside.append(request.url)

    def _on_response(self, response: Response) -> None:
        if response.status >= 400:
            self.errors.append(f"{response.status}: {response.url}")

"""Progress bars in the terminal: one for each node that reports steps."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from host.cli.console import is_quiet
from host.prompt_format import Prompt, node_title

__all__ = ["ProgressBars", "bar_if_slow"]


class ProgressBars:
    """Draws a run's progress events as bars on stderr.

    Args:
        prompt: The prompt, for the nodes' titles.
    """

    def __init__(self, prompt: Prompt) -> None:
        self._prompt = prompt
        self._bars: dict[str, tqdm] = {}

    def show_event(self, event: str, data: dict[str, Any]) -> None:
        """Handle an event of the run; this is the `emit` of `Executor.run`."""
        if event == "progress":
            self._update(data["node"], data["value"], data["max"])
        elif event == "progress_state":
            for node_id, state in data["nodes"].items():
                if state["state"] == "finished":
                    self._close(node_id)

    def close(self) -> None:
        """Leave the bars as they are and start a new line."""
        for node_id in list(self._bars):
            self._close(node_id)

    def _update(self, node_id: str, value: float, total: float) -> None:
        bar = self._bars.get(node_id)
        if bar is None:
            bar = self._bars[node_id] = tqdm(
                total=total, desc=self._title(node_id), unit="step", file=sys.stderr, disable=is_quiet()
            )
        bar.total = total
        bar.update(value - bar.n)

    def _close(self, node_id: str) -> None:
        bar = self._bars.pop(node_id, None)
        if bar is not None:
            bar.close()

    def _title(self, node_id: str) -> str:
        node = self._prompt.get(node_id, {})
        return f"{node_title(node) or node.get('class_type', 'node')} [{node_id}]"


@contextmanager
def bar_if_slow(text: str) -> Iterator[Callable[[int, int], None]]:
    """Give a function that is told how much of how much is done; a bar appears if the block takes over a second.

    Args:
        text: What is being done.
    """
    with tqdm(desc=text, unit="", file=sys.stderr, delay=1.0, leave=False, disable=is_quiet()) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show

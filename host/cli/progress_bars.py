"""A run as a person sees it in a terminal: a bar for each node that has steps."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm

__all__ = ["Bars"]


class Bars:
    """Draws the progress events of a run as bars on stderr.

    Args:
        prompt: For the nodes' titles.
    """

    def __init__(self, prompt: Mapping[str, dict]) -> None:
        self._prompt = prompt
        self._bars: dict[str, tqdm] = {}

    def __call__(self, event: str, data: dict[str, Any]) -> None:
        """Take an event of the run: the `emit` of an executor."""
        if event == "progress":
            self._update(data["node"], data["value"], data["max"])
        elif event == "progress_state":
            for node_id, state in data["nodes"].items():
                if state["state"] == "finished":
                    self._close(node_id)

    def close(self) -> None:
        """Leave the bars as they are and go to a new line."""
        for node_id in list(self._bars):
            self._close(node_id)

    def _update(self, node_id: str, value: float, total: float) -> None:
        bar = self._bars.get(node_id)
        if bar is None:
            bar = self._bars[node_id] = tqdm(total=total, desc=self._title(node_id), unit="step", file=sys.stderr)
        bar.total = total
        bar.update(value - bar.n)

    def _close(self, node_id: str) -> None:
        bar = self._bars.pop(node_id, None)
        if bar is not None:
            bar.close()

    def _title(self, node_id: str) -> str:
        node = self._prompt.get(node_id, {})
        meta = node.get("_meta")
        title = meta.get("title") if isinstance(meta, dict) else None
        return f"{title or node.get('class_type', 'node')} [{node_id}]"

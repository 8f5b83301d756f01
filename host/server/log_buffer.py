"""The last lines of the host's log, for the page's log panel."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

__all__ = ["LogBuffer"]

_MAX_LINES = 300
_MAX_LINE = 4000


class LogBuffer(logging.Handler):
    """A logging handler that keeps the last lines and tells a listener of each new one."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(logging.Formatter("[%(levelname)s] %(message)s"))
        self.lines: deque[dict[str, str]] = deque(maxlen=_MAX_LINES)
        self.listener: Callable[[dict[str, Any]], None] | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps one line; called by logging from any thread."""
        time = datetime.fromtimestamp(record.created, timezone.utc).isoformat()
        line = {"t": time, "m": self.format(record)[:_MAX_LINE] + "\n"}
        self.lines.append(line)
        if self.listener is not None:
            self.listener({"entries": [line], "size": self.size})

    @property
    def size(self) -> dict[str, int]:
        """A terminal's size; there is none, so the usual one."""
        return {"cols": 120, "rows": 40}

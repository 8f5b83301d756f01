"""The last lines of the host's log, for the page's log panel."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any

__all__ = ["LogBuffer", "record_logs"]

_MAX_LINES = 300
_MAX_LINE_LENGTH = 4000


class LogBuffer(logging.Handler):
    """A logging handler that keeps the last lines and passes each new one to a listener."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(logging.Formatter("[%(levelname)s] %(message)s"))
        self.lines: deque[dict[str, str]] = deque(maxlen=_MAX_LINES)
        self.listener: Callable[[dict[str, Any]], None] | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line. Called by `logging` from any thread."""
        time = datetime.fromtimestamp(record.created, timezone.utc).isoformat()
        line = {"t": time, "m": self.format(record)[:_MAX_LINE_LENGTH] + "\n"}
        self.lines.append(line)
        if self.listener is not None:
            self.listener({"entries": [line], "size": self.size})

    @property
    def size(self) -> dict[str, int]:
        """A terminal's size, which the page expects; there is no terminal, so a usual one."""
        return {"cols": 120, "rows": 40}


@contextmanager
def record_logs() -> Iterator[LogBuffer]:
    """Record what every logger of the process logs, until the block ends."""
    buffer, root = LogBuffer(), logging.getLogger()
    root.addHandler(buffer)
    try:
        yield buffer
    finally:
        root.removeHandler(buffer)

"""How commands end: exit codes, and the error for bad input."""

from __future__ import annotations

__all__ = ["BAD_INPUT", "INTERRUPTED", "NODE_RAISED", "OK", "UsageError"]

OK = 0
NODE_RAISED = 1  # finished outputs remain
BAD_INPUT = 2  # nothing was run or written
INTERRUPTED = 130  # Ctrl-C


class UsageError(Exception):
    """Bad input. The message is shown to the user."""

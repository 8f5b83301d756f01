"""What a worker needs of whatever runs its prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from host.context import CancelFlag
from host.execution.events import Emit
from host.execution.executor import RunResult
from host.prompt_format import Prompt

__all__ = ["Runs"]


class Runs(Protocol):
    """What runs prompts: `Executor` in this process, or an engine elsewhere."""

    def run(
        self,
        prompt: Prompt,
        prompt_id: str,
        outputs: Sequence[str],
        extra_data: dict[str, Any],
        emit: Emit,
        cancel: CancelFlag,
        *,
        before_end: Callable[[RunResult], None] | None = None,
    ) -> RunResult:
        """See `Executor.run`. Raises EngineLost or EngineError if the engine died."""

    def free(self) -> None:
        """Drop what is cached."""

"""Running a prompt: order, cache, calls of nodes, and the events about it."""

from host.execution.executor import Executor, RunResult

__all__ = ["Executor", "RunResult"]

"""Calls a class's own check of its inputs, VALIDATE_INPUTS."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from host.context import ExecutionBlocker
from host.error_format import ErrorInfo, error_info

__all__ = ["CustomCheck", "read_custom_check", "run_custom_check"]


class CustomCheck(NamedTuple):
    """A class's VALIDATE_INPUTS.

    Attributes:
        method: The class method; plain or async.
        parameters: The names that it takes.
        takes_all: Whether it takes any name (`**kwargs`).
    """

    method: Callable[..., Any]
    parameters: frozenset[str]
    takes_all: bool

    def takes(self, name: str) -> bool:
        """Return whether the class checks the input `name` itself."""
        return self.takes_all or name in self.parameters

    @property
    def checks_types(self) -> bool:
        """Whether the class checks the types of its links itself."""
        return "input_types" in self.parameters


def read_custom_check(node: Any) -> CustomCheck | None:
    """Return the check of a class, or None if it has none."""
    method = getattr(node, "VALIDATE_INPUTS", None)
    if method is None:
        return None
    spec = inspect.getfullargspec(method)
    return CustomCheck(method, frozenset(spec.args) | frozenset(spec.kwonlyargs), spec.varkw is not None)


def run_custom_check(
    check: CustomCheck, values: Mapping[str, Any], received_types: Mapping[str, Any], *, wants_lists: bool
) -> list[ErrorInfo]:
    """Run a class's check.

    Args:
        check: The check.
        values: The inputs that it takes and that are correct so far; None for a link.
        received_types: {input: type} of the links.
        wants_lists: The class's INPUT_IS_LIST.

    Returns:
        An error for each of `values`, or none if the check passed, or if an input that it needs is missing.
    """
    arguments = {**values, "input_types": received_types} if check.checks_types else dict(values)
    try:
        inspect.signature(check.method).bind(**arguments)
    except TypeError:
        return []  # an input that it needs is missing or wrong, and has its own error
    if wants_lists:
        arguments = {name: [value] for name, value in arguments.items()}
    verdict = _await_here(check.method(**arguments))
    if verdict is True or isinstance(verdict, ExecutionBlocker):
        return []
    reason = "" if verdict is False else str(verdict)
    return [
        error_info(
            "custom_validation_failed",
            "Custom validation failed for node",
            " - ".join(filter(None, (name, reason))),
            {"input_name": name} if name else {},
        )
        for name in arguments or [""]
    ]


def _await_here(value: Any) -> Any:
    """Return `value`, or the result of the coroutine that it is, run to its end."""
    if not inspect.iscoroutine(value):
        return value
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(value)
    with ThreadPoolExecutor(1) as pool:  # this thread's event loop is busy
        return pool.submit(asyncio.run, value).result()

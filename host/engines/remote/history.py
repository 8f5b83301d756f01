"""An entry of a server's history, checked, and read into what a `JobResult` needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from host.engines.contract import EngineError
from host.engines.remote.frames import ENDINGS
from host.error_format import shorten, show

__all__ = ["HistoryEntry", "read_history_entry", "refusal_sentence"]

_MAX_REFUSALS = 5  # that one sentence names


@dataclass(frozen=True)
class HistoryEntry:
    """How a prompt ended on its server.

    Attributes:
        status: How it ended.
        outputs: {node id: {key: values}}.
        meta: {node id: ids under which the node is shown}.
        messages: [event, data] of the run's main events.
        error: One sentence about the node that raised, or at which the run was stopped; or None.
        seconds: How long it ran by the server's clock; None if the server does not say.
    """

    status: Literal["success", "error", "interrupted"]
    outputs: dict[str, dict[str, list[Any]]]
    meta: dict[str, dict[str, Any]]
    messages: list[Any]
    error: str | None
    seconds: float | None

    @property
    def ending(self) -> tuple[str, dict[str, Any]]:
        """The last event of the run."""
        found = [(event, data) for event, data in self.messages if event in ENDINGS]
        return found[-1] if found else (_ENDING_OF[self.status], {})


_ENDING_OF = {"success": "execution_success", "error": "execution_error", "interrupted": "execution_interrupted"}


def read_history_entry(entry: Any) -> HistoryEntry:
    """Read an entry of `/history/{id}`.

    Raises:
        EngineError: It has not the shape of one.
    """
    status = entry.get("status") if isinstance(entry, dict) else None
    if not isinstance(status, dict) or not isinstance(entry.get("outputs"), dict):
        raise EngineError(f"the server's history is not a ComfyUI's: expected outputs and a status, got {show(entry)}")
    messages = _messages(status.get("messages"))
    ended = _how_it_ended(status, messages)
    outputs = {
        node_id: {key: values for key, values in shown.items() if isinstance(values, list)}
        for node_id, shown in entry["outputs"].items()
        if isinstance(shown, dict)
    }
    meta = entry.get("meta")
    meta = {key: value for key, value in meta.items() if isinstance(value, dict)} if isinstance(meta, dict) else {}
    error = _SENTENCES[ended](messages)
    return HistoryEntry(ended, outputs, meta, messages, error, _seconds(messages))


def _messages(value: Any) -> list[Any]:
    """Return the entries that are pairs of an event and its data."""
    entries = value if isinstance(value, list) else []
    return [
        [entry[0], entry[1]]
        for entry in entries
        if isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str) and isinstance(entry[1], dict)
    ]


def _how_it_ended(status: dict[str, Any], messages: list[Any]) -> Literal["success", "error", "interrupted"]:
    if status.get("status_str") == "success":
        return "success"
    return "interrupted" if any(event == "execution_interrupted" for event, _ in messages) else "error"


def _error_sentence(messages: list[Any]) -> str:
    data = next((data for event, data in reversed(messages) if event == "execution_error"), None)
    if data is None:
        return "the server reports that the run failed, and gives no reason"
    exception = str(data.get("exception_type", "an error")).rpartition(".")[2]
    message = str(data.get("exception_message", "")).strip()
    if not data.get("node_id"):
        return shorten(f"the server raised {exception}: {message}")
    return shorten(f"node {data['node_id']} ({data.get('node_type')}) raised {exception}: {message}")


def _interruption_sentence(messages: list[Any]) -> str | None:
    found = [data for event, data in messages if event == "execution_interrupted"]
    data: dict[str, Any] = found[-1] if found else {}
    return shorten(f"stopped at node {data['node_id']} ({data.get('node_type')})") if data.get("node_id") else None


_SENTENCES: dict[str, Callable[[list[Any]], str | None]] = {
    "success": lambda messages: None,
    "error": _error_sentence,
    "interrupted": _interruption_sentence,
}


def _seconds(messages: list[Any]) -> float | None:
    """Return the time between the first event and the last, which both have a time in milliseconds."""
    times = [data.get("timestamp") for event, data in messages if event == "execution_start" or event in ENDINGS]
    if len(times) < 2 or not all(isinstance(time, int) for time in times):
        return None
    return max((times[-1] - times[0]) / 1000, 0.0)


def refusal_sentence(body: Any) -> str:
    """Return why a server refused a prompt: the errors of its nodes, or the general one."""
    node_errors = body.get("node_errors") if isinstance(body, dict) else None
    lines = []
    for node_id, entry in node_errors.items() if isinstance(node_errors, dict) else ():
        errors = entry.get("errors") if isinstance(entry, dict) else None
        for error in errors if isinstance(errors, list) else ():
            if isinstance(error, dict):
                lines.append(f"node {node_id} ({entry.get('class_type')}): {_told(error)}")
    if not lines:
        error = body.get("error") if isinstance(body, dict) else None
        lines = [_told(error) if isinstance(error, dict) else show(body)]
    more = f"; and {len(lines) - _MAX_REFUSALS} more" if len(lines) > _MAX_REFUSALS else ""
    return shorten("the server refused the prompt: " + "; ".join(lines[:_MAX_REFUSALS]) + more)


def _told(error: dict[str, Any]) -> str:
    message, details = str(error.get("message", "")), str(error.get("details", ""))
    return f"{message} ({details})" if details and details != message else message

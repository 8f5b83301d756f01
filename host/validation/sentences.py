"""The errors of validation as lines for people."""

from __future__ import annotations

from host.error_format import ErrorInfo, shorten
from host.validation.check_prompt import Validation

__all__ = ["error_line", "error_lines"]


def error_line(node_id: str, class_type: str, error: ErrorInfo) -> str:
    """Return an error of a node as one line, which names the node, its class and, if there is one, the input."""
    name = error["extra_info"].get("input_name")
    where = f"node {shorten(node_id, 80)} ({class_type})" + (f", input '{name}'" if name else "")
    details = "" if error["details"] in ("", name) else f" ({error['details']})"
    return f"{where}: {error['message']}{details}"


def error_lines(checked: Validation) -> list[str]:
    """Return every error of a prompt, each as one line. None for a prompt without errors."""
    lines = [
        error_line(node_id, entry["class_type"], error)
        for node_id, entry in checked.node_errors.items()
        for error in entry["errors"]
    ]
    if not lines and checked.error is not None:
        details = f" ({checked.error['details']})" if checked.error["details"] else ""
        lines = [f"{checked.error['message']}{details}"]
    return lines

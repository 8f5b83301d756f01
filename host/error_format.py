"""Errors in the shape that ComfyUI's clients read."""

from __future__ import annotations

from typing import Any, TypedDict

__all__ = ["ErrorInfo", "error_info", "qualified_name"]


class ErrorInfo(TypedDict):
    """One error of a prompt, as `POST /prompt` answers it."""

    type: str
    message: str
    details: str
    extra_info: dict[str, Any]


def error_info(error_type: str, message: str, details: str = "", extra_info: dict[str, Any] | None = None) -> ErrorInfo:
    """Return an error in ComfyUI's shape."""
    return {"type": error_type, "message": message, "details": details, "extra_info": extra_info or {}}


def qualified_name(cls: type) -> str:
    """Return a class's full name as error messages show it: built-in classes without their module."""
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"

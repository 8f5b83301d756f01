"""Errors in the shape that ComfyUI's clients read."""

from __future__ import annotations

from typing import Any, TypedDict

__all__ = ["ErrorInfo", "error_info", "qualified_name", "shorten", "show"]

_MAX_VALUE_CHARACTERS = 80  # of a given value, inside a message
_MAX_MESSAGE_CHARACTERS = 2000


class ErrorInfo(TypedDict):
    """One error of a prompt, as `POST /prompt` answers it."""

    type: str
    message: str
    details: str
    extra_info: dict[str, Any]


def error_info(error_type: str, message: str, details: str = "", extra_info: dict[str, Any] | None = None) -> ErrorInfo:
    """Return an error in ComfyUI's shape. Message and details quote what was sent, so their length is limited."""
    return {
        "type": error_type,
        "message": shorten(message),
        "details": shorten(details),
        "extra_info": extra_info or {},
    }


def show(value: Any, limit: int = _MAX_VALUE_CHARACTERS) -> str:
    """Return any value as an error message quotes it: its `repr`, at most `limit` characters of it. Never raises."""
    try:
        return shorten(repr(value), limit)
    except Exception:  # a broken __repr__, nested too deeply, or an integer with too many digits to print
        return f"a {type(value).__name__} that cannot be printed"


def shorten(text: str, limit: int = _MAX_MESSAGE_CHARACTERS) -> str:
    """Return the beginning of a text, with dots in place of the rest."""
    return text if len(text) <= limit else f"{text[:limit]}..."


def qualified_name(cls: type) -> str:
    """Return a class's full name as error messages show it: built-in classes without their module."""
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"

"""Reading JSON: untrusted texts within limits, and this host's own texts of any size."""

from __future__ import annotations

import codecs
import json
import math
import re
from typing import Any

from host.limits import MAX_JSON_DEPTH, MAX_JSON_VALUES
from host.strict_json.shapes import nests_deeper_than

__all__ = ["loads", "parse_untrusted"]

_READ_AT_ONCE = 128 << 10  # bytes or characters; the C reader takes a few milliseconds for them
_DECODED_AT_ONCE = 1 << 20  # bytes

# Each of these patterns ends after a limited number of characters: a match is not interrupted either.
_SPACES = re.compile(r"[ \t\n\r]{1,65536}")
_SHORT_TEXT = re.compile(r'[^"\\\x00-\x1f]{0,1024}"')
_PLAIN_PIECE = re.compile(r'[^"\\\x00-\x1f]{1,65536}')
_ESCAPED_PIECE = re.compile(
    r"(?:\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # one character in two parts, kept together
    r'|\\u[0-9a-fA-F]{4}|\\["\\/bfnrt]|[^"\\\x00-\x1f]){1,16384}'
)
_NUMBER = re.compile(r"(-?(?:0|[1-9][0-9]*))(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_WORD = re.compile(r"-?[A-Za-z]{1,8}")
_WORDS = {"null": None, "true": True, "false": False, "NaN": None, "Infinity": None, "-Infinity": None}


def parse_untrusted(text: bytes) -> Any:
    """Parse JSON that came with a request. NaN and Infinity, which Python clients write, are read as null.

    Raises:
        ValueError: The text is not JSON, nests deeper than `MAX_JSON_DEPTH`, or has more than `MAX_JSON_VALUES` values.
    """
    try:
        if len(text) > _READ_AT_ONCE:
            return _Reader(_decode(text), MAX_JSON_VALUES, MAX_JSON_DEPTH).document()
        value = json.loads(text, parse_constant=lambda name: None)
    except _LimitError:
        raise
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not valid JSON: {str(error)[:200]}") from error
    if nests_deeper_than(value, MAX_JSON_DEPTH):
        raise _too_deep(MAX_JSON_DEPTH)
    return value


def loads(text: str) -> Any:
    """Parse JSON that this host has written.

    Raises:
        ValueError: The text is not JSON.
    """
    return _Reader(text).document() if len(text) > _READ_AT_ONCE else json.loads(text)


class _LimitError(ValueError):
    """JSON that is valid so far, but exceeds a limit."""


def _too_deep(limit: float) -> _LimitError:
    return _LimitError(f"the JSON nests deeper than {limit} levels")


def _decode(text: bytes) -> str:
    decoder = codecs.getincrementaldecoder(json.detect_encoding(text))("surrogatepass")
    pieces = [decoder.decode(text[at : at + _DECODED_AT_ONCE]) for at in range(0, len(text), _DECODED_AT_ONCE)]
    return "".join([*pieces, decoder.decode(b"", final=True)])


class _Reader:
    """One JSON text, read in small steps. Values are counted as they are made.

    Methods take the position where something begins, and return it with the position after it.
    """

    def __init__(self, text: str, max_values: float = math.inf, max_depth: float = math.inf) -> None:
        self._text, self._max_values, self._max_depth = text, max_values, max_depth
        self._count = 0
        self._keys: dict[str, str] = {}  # equal keys share one string

    def document(self) -> Any:
        """Return the value of the whole text."""
        value, at = self._value(self._after_spaces(0), 0)
        at = self._after_spaces(at)
        if at < len(self._text):
            raise self._error("expected the end", at)
        return value

    def _error(self, message: str, at: int) -> json.JSONDecodeError:
        return json.JSONDecodeError(message, self._text, at)

    def _after_spaces(self, at: int) -> int:
        while match := _SPACES.match(self._text, at):
            at = match.end()
        return at

    def _value(self, at: int, depth: int) -> tuple[Any, int]:
        self._count += 1
        if self._count > self._max_values:
            raise _LimitError(f"the JSON has more than {self._max_values} values")
        first = self._text[at : at + 1]
        if first == '"':
            return self._string(at + 1)
        if first not in ("[", "{"):
            return self._scalar(at)
        if depth == self._max_depth:
            raise _too_deep(self._max_depth)
        return self._array(at + 1, depth + 1) if first == "[" else self._object(at + 1, depth + 1)

    def _array(self, at: int, depth: int) -> tuple[list[Any], int]:
        values: list[Any] = []
        at = self._after_spaces(at)
        if self._text.startswith("]", at):
            return values, at + 1
        while True:
            value, at = self._value(at, depth)
            values.append(value)
            is_last, at = self._separator(at, "]")
            if is_last:
                return values, at

    def _object(self, at: int, depth: int) -> tuple[dict[str, Any], int]:
        values: dict[str, Any] = {}
        at = self._after_spaces(at)
        if self._text.startswith("}", at):
            return values, at + 1
        while True:
            key, at = self._key(at)
            values[key], at = self._value(at, depth)
            is_last, at = self._separator(at, "}")
            if is_last:
                return values, at

    def _key(self, at: int) -> tuple[str, int]:
        """Read a key and its colon."""
        if not self._text.startswith('"', at):
            raise self._error("expected a key in double quotes", at)
        key, at = self._string(at + 1)
        at = self._after_spaces(at)
        if not self._text.startswith(":", at):
            raise self._error("expected ':'", at)
        return self._keys.setdefault(key, key), self._after_spaces(at + 1)

    def _separator(self, at: int, end: str) -> tuple[bool, int]:
        """Read a comma or the end of a list or an object; whether it is the end."""
        at = self._after_spaces(at)
        found = self._text[at : at + 1]
        if found == end:
            return True, at + 1
        if found != ",":
            raise self._error(f"expected ',' or '{end}'", at)
        return False, self._after_spaces(at + 1)

    def _string(self, at: int) -> tuple[str, int]:
        short = _SHORT_TEXT.match(self._text, at)
        if short is not None:
            return self._text[at : short.end() - 1], short.end()
        pieces = []
        while match := _PLAIN_PIECE.match(self._text, at) or _ESCAPED_PIECE.match(self._text, at):
            piece = match[0]
            pieces.append(json.loads(f'"{piece}"') if "\\" in piece else piece)
            at = match.end()
        if not self._text.startswith('"', at):
            raise self._error("expected the rest of a string, got its end, a control character or a wrong escape", at)
        return "".join(pieces), at + 1

    def _scalar(self, at: int) -> tuple[Any, int]:
        if number := _NUMBER.match(self._text, at):
            whole, fraction, exponent = number.groups()
            return (float(number[0]) if fraction or exponent else int(whole)), number.end()
        word = _WORD.match(self._text, at)
        if word is None or word[0] not in _WORDS:
            raise self._error("expected a value", at)
        return _WORDS[word[0]], word.end()

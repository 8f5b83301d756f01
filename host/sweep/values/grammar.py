"""The grammar of `--set NODE.INPUT=VALUES` and `--zip`: text in, lists of values' texts out. Reads no file.

VALUES is one value, a range `a..b` or `a..b:step`, a list `x,y,z` whose elements may be ranges, or `@FILE`. A quoted
element keeps its commas, dots and blanks. Ranges are counted before they are written out, and exact: 0.1..0.5:0.1 has
the five values that it seems to have.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Context, Decimal

from host.error_format import shorten, show

__all__ = ["Assignment", "GrammarError", "ValueList", "parse_assignment", "parse_file_option"]

_NUMBER = r"[+-]?\d{1,40}(?:\.\d{1,40})?"
_RANGE = re.compile(rf"\s*(?P<first>{_NUMBER})\.\.(?P<last>{_NUMBER})(?::(?P<step>{_NUMBER}))?\s*", re.ASCII)
_EXACT = Context(prec=200)  # more digits than two numbers of the grammar can need together
_MAX_QUOTED = 120  # characters of an option in an error
_MAX_ELEMENTS = 1_000_000  # in one list on the command line
_JSON = json.JSONDecoder()


class GrammarError(ValueError):
    """An option that does not follow the grammar. The message says what was expected, and its length is limited."""

    def __init__(self, message: str) -> None:
        super().__init__(shorten(message))


@dataclass(frozen=True)
class _Range:
    """Evenly spaced numbers, as whole multiples of 10 ** -places."""

    numbers: range
    places: int
    count: int

    def text(self, index: int) -> str:
        """Return a number as one would write it: without zeros at its end."""
        number = _EXACT.scaleb(Decimal(self.numbers[index]), -self.places)
        text = f"{number:f}"
        return text.rstrip("0").rstrip(".") if "." in text else text


@dataclass(frozen=True)
class ValueList:
    """The values' texts of one input, in order. Ranges are not written out until they are iterated.

    Attributes:
        parts: Texts and ranges.
        was_split: Whether an unquoted comma separated the values.
    """

    parts: tuple[str | _Range, ...]
    was_split: bool = False

    @property
    def count(self) -> int:
        """The number of values; may be far more than memory can hold."""
        return sum(1 if isinstance(part, str) else part.count for part in self.parts)

    def __iter__(self) -> Iterator[str]:
        for part in self.parts:
            if isinstance(part, str):
                yield part
            else:
                yield from (part.text(index) for index in range(part.count))


@dataclass(frozen=True)
class Assignment:
    """One option `NODE.INPUT=VALUES`.

    Attributes:
        option: The option as it is quoted in errors.
        target: NODE.INPUT.
        values: The values, or None if a file holds them.
        file: The file's name after `@`, or "".
    """

    option: str
    target: str
    values: ValueList | None
    file: str = ""


def parse_assignment(text: str, option: str = "--set") -> Assignment:
    """Read `NODE.INPUT=VALUES`.

    Args:
        text: The option's argument.
        option: The option, for errors.

    Raises:
        GrammarError: The text does not follow the grammar.
    """
    target, equals, values = text.partition("=")
    if not equals or "." not in target:
        hint = ", or @FILE with a column for each input" if option == "--set" else ""
        raise GrammarError(f"{option} expects NODE.INPUT=VALUE{hint}, got {show(text)}")
    quoted = shorten(f"{option} {text}", _MAX_QUOTED)
    if values.startswith("@"):
        return Assignment(quoted, target, None, _file_name(values, quoted))
    try:
        return Assignment(quoted, target, _parse_values(values))
    except GrammarError as error:
        raise GrammarError(f"{quoted}: {error}") from None


def parse_file_option(text: str) -> str | None:
    """Return the file of `--set @FILE`, whose columns name the inputs, or None if the text is no such option.

    Raises:
        GrammarError: There is no name after the `@`.
    """
    return _file_name(text, f"--set {shorten(text, _MAX_QUOTED)}") if text.startswith("@") else None


def _file_name(text: str, quoted: str) -> str:
    if len(text) < 2 or "\0" in text:
        raise GrammarError(f"{quoted}: expected a file's name after @; put a value that begins with @ in quotes")
    return text[1:]


def _parse_values(text: str) -> ValueList:
    parts: list[str | _Range] = []
    for element, is_quoted in _elements(text):
        if len(parts) == _MAX_ELEMENTS:
            raise GrammarError(f"expected at most {_MAX_ELEMENTS} values in a list; put them in a file, as @FILE")
        found = None if is_quoted else _parse_range(element)
        parts.append(element if found is None else found)
    return ValueList(tuple(parts), len(parts) > 1)


def _elements(text: str) -> Iterator[tuple[str, bool]]:
    """Yield the elements of a list, and whether each was quoted."""
    at = 0
    while True:
        element, at, is_quoted = _element(text, at)
        yield element, is_quoted
        if at >= len(text):
            return
        at += 1  # the comma


def _element(text: str, at: int) -> tuple[str, int, bool]:
    """Return the element that begins at `at`, where it ends, and whether it was quoted."""
    begin = at
    while text[begin : begin + 1].isspace():
        begin += 1
    if text[begin : begin + 1] in ("'", '"'):
        return _quoted_element(text, begin)
    if text[begin : begin + 1] in ("[", "{"):
        end = _json_end(text, begin)
        if end is not None:
            return text[begin:end], end, False
    end = text.find(",", at)
    end = len(text) if end < 0 else end
    element = text[at:end]
    is_whole = at == 0 and end == len(text)
    return (element if is_whole else element.strip()), end, False


def _quoted_element(text: str, begin: int) -> tuple[str, int, bool]:
    """Read a quoted element. A doubled quotation mark inside stands for one."""
    quote = text[begin]
    pieces, at = [], begin + 1
    while True:
        end = text.find(quote, at)
        if end < 0:
            raise GrammarError(f"expected a closing {quote} after {show(text[begin:])}")
        pieces.append(text[at:end])
        if text[end + 1 : end + 2] != quote:
            break
        pieces.append(quote)
        at = end + 2
    after = end + 1
    while text[after : after + 1].isspace():
        after += 1
    if text[after : after + 1] not in ("", ","):
        raise GrammarError(f"expected a comma or the end after a closing {quote}, got {show(text[after:])}")
    return "".join(pieces), after, True


def _json_end(text: str, begin: int) -> int | None:
    """Return where a JSON list or object ends that is a whole element: its commas do not split. None if it is none."""
    try:
        _, end = _JSON.raw_decode(text, begin)
    except (ValueError, RecursionError):
        return None
    while text[end : end + 1].isspace():
        end += 1
    return end if text[end : end + 1] in ("", ",") else None


def _parse_range(text: str) -> _Range | None:
    """Return the range that an element is, or None if it is none."""
    match = _RANGE.fullmatch(text)
    if match is None:
        return None
    first, last = Decimal(match["first"]), Decimal(match["last"])
    step = _step(text.strip(), first, last, match["step"])
    places = max(-min(int(number.as_tuple().exponent), 0) for number in (first, last, step))
    begin, end, stride = (int(_EXACT.scaleb(number, places)) for number in (first, last, step))
    count = (end - begin) // stride + 1
    return _Range(range(begin, begin + count * stride, stride), places, count)


def _step(text: str, first: Decimal, last: Decimal, given: str | None) -> Decimal:
    """Return a range's step: as given, or 1 towards its end."""
    if given is None:
        if _EXACT.remainder(_EXACT.subtract(last, first), Decimal(1)):
            raise GrammarError(f"{text} steps by 1 and would miss its end; give a step, as in {text}:0.1")
        return Decimal(1 if last >= first else -1)
    step = Decimal(given)
    if not step:
        raise GrammarError(f"{text}: expected a step other than 0")
    if first != last and (last > first) != (step > 0):
        sign = "positive" if last > first else "negative"
        raise GrammarError(f"{text}: expected a {sign} step from {first} to {last}, got {given}")
    return step

"""Files of values: a text file with a value a line, or a table (.csv, .jsonl) with a column for each input.

The files are untrusted: their size, rows and values are limited, and nothing in them is evaluated.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from host.error_format import shorten, show
from host.limits import MAX_SWEEP_JOBS, MAX_VALUE_CHARACTERS, MAX_VALUES_BYTES

__all__ = ["ValueFileError", "ValueTable", "read_table"]

_MAX_COLUMNS = 200
_ONLY = ""  # the column of a file without names


class ValueFileError(ValueError):
    """A file of values that cannot be used. The message names the file, and the line where there is one."""

    def __init__(self, message: str) -> None:
        super().__init__(shorten(message))


@dataclass(frozen=True)
class ValueTable:
    """The values' texts of a file by column.

    Attributes:
        columns: {name: values}, all of the same length, which is at least 1. A text file has one column without name.
    """

    columns: dict[str, tuple[str, ...]]

    def column(self, target: str) -> tuple[str, ...] | None:
        """Return the column for an input: called NODE.INPUT or INPUT, or the only one. None if there is none."""
        if len(self.columns) == 1:
            return next(iter(self.columns.values()))
        return self.columns.get(target) or self.columns.get(target.rpartition(".")[2])


def read_table(file: str) -> ValueTable:
    """Read a file of values. Its ending says what it is: .csv, .jsonl, or else a value on each line that is not empty.

    Raises:
        ValueFileError: The file is not there, too large, empty or malformed.
    """
    path = Path(file)
    text = _read_text(path)
    reader = {".csv": _read_csv, ".jsonl": _read_json_lines}.get(path.suffix.lower(), _read_lines)
    names, rows = reader(text, file)
    if not rows:
        raise ValueFileError(f"{file} holds no values")
    columns = {name: tuple(row[index] for row in rows) for index, name in enumerate(names)}
    return ValueTable(columns)


def _read_text(path: Path) -> str:
    try:
        size = path.stat().st_size
        if size > MAX_VALUES_BYTES:
            raise ValueFileError(f"{path} has {size >> 20} MiB; a file of values has at most {MAX_VALUES_BYTES >> 20}")
        with path.open("rb") as file:
            data = file.read(MAX_VALUES_BYTES + 1)
    except FileNotFoundError:
        raise ValueFileError(f"there is no file {path}") from None
    except (OSError, ValueError) as error:
        if isinstance(error, ValueFileError):
            raise
        raise ValueFileError(f"{path} cannot be read: {error}") from error
    if len(data) > MAX_VALUES_BYTES:  # a pipe or a device, which has no size
        raise ValueFileError(f"{path} has more than {MAX_VALUES_BYTES >> 20} MiB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueFileError(f"{path} is not UTF-8 text: byte {error.start} cannot be read; save it as UTF-8") from None


def _read_lines(text: str, file: str) -> tuple[list[str], list[list[str]]]:
    rows: list[list[str]] = []
    for number, line in enumerate(io.StringIO(text), 1):
        if value := line.strip():
            _check_value(value, file, number)
            rows.append([value])
            _check_rows(rows, file)
    return [_ONLY], rows


def _read_csv(text: str, file: str) -> tuple[list[str], list[list[str]]]:
    names: list[str] = []
    rows: list[list[str]] = []
    for number, cells in _csv_rows(text, file):
        if not names:
            names = [cell.strip() for cell in cells]
            _check_names(names, file)
            continue
        if len(cells) != len(names):
            raise ValueFileError(
                f"{file}, line {number}: expected {len(names)} values as in the first line, got {len(cells)}; put a "
                "value with commas in double quotes"
            )
        for cell in cells:
            _check_value(cell, file, number)
        rows.append(cells)
        _check_rows(rows, file)
    return names, rows


def _csv_rows(text: str, file: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows that are not empty, with the number of the line where each ends."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise ValueFileError(f"{file}, line {reader.line_num}: not valid CSV: {error}") from None
        if cells is None:
            return
        if any(cell.strip() for cell in cells):
            yield reader.line_num, cells


def _read_json_lines(text: str, file: str) -> tuple[list[str], list[list[str]]]:
    names: list[str] | None = None
    rows: list[list[str]] = []
    for number, line in enumerate(io.StringIO(text), 1):
        if not line.strip():
            continue
        record = _parse_line(line, file, number)
        if names is None:
            names = list(record)
            _check_names(names, file)
        if set(record) != set(names):
            differing = sorted(set(record) ^ set(names))
            raise ValueFileError(
                f"{file}, line {number}: expected the keys of the first line; {show(differing)} differ"
            )
        rows.append([_as_text(record[name], name, file, number) for name in names])
        _check_rows(rows, file)
    return names or [], rows


def _parse_line(line: str, file: str, number: int) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        place = f"{file}, line {number}, column {error.colno}"
        raise ValueFileError(f"{place}: not valid JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise ValueFileError(f"{file}, line {number}: not valid JSON: {shorten(str(error), 200)}") from None
    if not isinstance(value, dict) or not value:
        raise ValueFileError(
            f"{file}, line {number}: expected a JSON object with a key for each input, got {show(value)}"
        )
    return value


def _as_text(value: Any, name: str, file: str, number: int) -> str:
    """Return a JSON value as one would write it on the command line, where the input's type decides what it means."""
    if value is None:
        raise ValueFileError(f"{file}, line {number}: {show(name)} is null; expected a text, a number, true or false")
    text = value if isinstance(value, str) else json.dumps(value)
    _check_value(text, file, number)
    return text


def _check_names(names: list[str], file: str) -> None:
    if len(names) > _MAX_COLUMNS:
        raise ValueFileError(f"{file} has {len(names)} columns; at most {_MAX_COLUMNS} are possible")
    faulty = next((name for name in names if not name.strip() or names.count(name) > 1), None)
    if faulty is not None:
        raise ValueFileError(f"{file}: expected a first line with a different name for each column, got {show(faulty)}")


def _check_value(text: str, file: str, number: int) -> None:
    if len(text) > MAX_VALUE_CHARACTERS:
        raise ValueFileError(
            f"{file}, line {number}: a value has {len(text)} characters; at most {MAX_VALUE_CHARACTERS} are possible"
        )


def _check_rows(rows: list[list[str]], file: str) -> None:
    if len(rows) > MAX_SWEEP_JOBS:
        raise ValueFileError(f"{file} has more than {MAX_SWEEP_JOBS} values, which is the most jobs of a sweep")

"""The axes of a sweep: which inputs vary, over which texts, and which of them together."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

from host.error_format import shorten, show
from host.limits import MAX_SWEEP_CELLS, MAX_SWEEP_JOBS
from host.sweep.values.grammar import Assignment, GrammarError, ValueList, parse_assignment, parse_file_option
from host.sweep.values.value_files import ValueFileError, ValueTable, read_table

__all__ = ["AxisOption", "Column", "ValuesError", "read_axes"]

_TABLES = (".csv", ".jsonl")
_MAX_LABEL = 80


class ValuesError(ValueError):
    """Options that say no values, or too many. The message's length is limited."""

    def __init__(self, message: str) -> None:
        super().__init__(shorten(message))


@dataclass(frozen=True)
class Column:
    """The values of one input.

    Attributes:
        option: The option as errors quote it.
        target: NODE.INPUT as the user wrote it.
        values: The values' texts.
    """

    option: str
    target: str
    values: ValueList


@dataclass(frozen=True)
class AxisOption:
    """Inputs that vary together. All columns have the same number of values, at least 1."""

    columns: tuple[Column, ...]

    @property
    def count(self) -> int:
        """The number of values of each column."""
        return self.columns[0].values.count


def read_axes(options: Sequence[str | Sequence[str]]) -> list[AxisOption]:
    """Return the axes that options describe, with files read, in the order in which they were given.

    Args:
        options: Arguments of `--set` as strings and of `--zip` as lists of strings, in their order.

    Raises:
        ValuesError: An option does not follow the grammar, a file cannot be used, inputs that vary together have
            unequal numbers of values, or there are too many jobs.
    """
    files: dict[str, ValueTable] = {}
    axes: list[AxisOption] = []
    by_file: dict[str, int] = {}  # {real path: its axis}: inputs from one file vary together
    try:
        for option in options:
            if isinstance(option, str):
                _add_set(option, axes, files, by_file)
            else:
                axes.append(_zip(option, files))
    except (GrammarError, ValueFileError) as error:
        raise ValuesError(str(error)) from error
    _check_number_of_jobs(axes)
    return axes


def _add_set(option: str, axes: list[AxisOption], files: dict[str, ValueTable], by_file: dict[str, int]) -> None:
    """Add the axis of a `--set`, or its column to the axis of the same file."""
    whole_file = parse_file_option(option)
    if whole_file is not None:
        axes.append(_whole_table(whole_file, files))
        return
    assignment = parse_assignment(option)
    column = _column(assignment, files)
    key = os.path.realpath(assignment.file) if assignment.file else ""
    if key in by_file:
        at = by_file[key]
        axes[at] = AxisOption((*axes[at].columns, column))
        return
    if key:
        by_file[key] = len(axes)
    axes.append(AxisOption((column,)))


def _whole_table(file: str, files: dict[str, ValueTable]) -> AxisOption:
    """Return the axis of `--set @FILE`: every column is an input, every row one combination."""
    quoted = shorten(f"--set @{file}", _MAX_LABEL)
    if not file.lower().endswith(_TABLES):
        raise GrammarError(f"{quoted} expects a .csv or .jsonl file with a column for each NODE.INPUT; "
                           "for a file with a value on each line, write NODE.INPUT=@FILE")  # fmt: skip
    table = _read_once(file, files)
    for name in table.columns:
        if "." not in name:
            raise GrammarError(f"{quoted}: expected columns called NODE.INPUT, got {show(name)}")
    columns = tuple(Column(f"{quoted}, column {show(name)}", name, ValueList(values))
                    for name, values in table.columns.items())  # fmt: skip
    return AxisOption(columns)


def _zip(option: Sequence[str], files: dict[str, ValueTable]) -> AxisOption:
    """Return the axis of a `--zip`."""
    columns = tuple(_column(parse_assignment(text, "--zip"), files) for text in option)
    counts = {column.values.count for column in columns}
    if len(counts) > 1:
        each = ", ".join(f"{shorten(column.target, _MAX_LABEL)} has {column.values.count}" for column in columns)
        raise GrammarError(f"--zip expects the same number of values for each input; {each}")
    return AxisOption(columns)


def _column(assignment: Assignment, files: dict[str, ValueTable]) -> Column:
    if assignment.values is not None:
        return Column(assignment.option, assignment.target, assignment.values)
    table = _read_once(assignment.file, files)
    values = table.column(assignment.target)
    if values is None:
        raise GrammarError(
            f"{assignment.option}: {assignment.file} has no column called {show(assignment.target)} or "
            f"{show(assignment.target.rpartition('.')[2])}; it has {show(list(table.columns), 200)}"
        )
    return Column(assignment.option, assignment.target, ValueList(values))


def _read_once(file: str, files: dict[str, ValueTable]) -> ValueTable:
    key = os.path.realpath(file)
    if key not in files:
        files[key] = read_table(file)
    return files[key]


def _check_number_of_jobs(axes: Sequence[AxisOption]) -> None:
    jobs = math.prod(axis.count for axis in axes)
    cells = sum(axis.count * len(axis.columns) for axis in axes)
    if jobs > MAX_SWEEP_JOBS or cells > MAX_SWEEP_CELLS:
        each = " x ".join(f"{shorten(axis.columns[0].target, _MAX_LABEL)}: {axis.count:,}" for axis in axes)
        raise ValuesError(
            f"the options make {jobs:,} jobs ({each}); at most {MAX_SWEEP_JOBS:,} are possible, with at most "
            f"{MAX_SWEEP_CELLS:,} values"
        )

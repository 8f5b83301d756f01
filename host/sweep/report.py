"""What is left of a sweep: `sweep.json` beside the pictures, and a table for the terminal."""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from host.atomic_files import flush_to_disk, temporary_file
from host.error_format import shorten
from host.strict_json import dumps
from host.sweep.contract import Outcome, Record
from host.sweep.file_names import short_names, value_text
from host.sweep.plan import SweepPlan

__all__ = ["REPORT_NAME", "known_workers", "table", "write_report"]

REPORT_NAME = "sweep.json"
_FORMAT = 1
_MAX_REPORT_BYTES = 16 << 20  # of an earlier report that is read again
_TABLE_ROWS = 20  # jobs in the table
_LAST_ROWS = 3  # of them, the last ones
_MAX_FAILED_ROWS = 10  # failed jobs beside these
_MAX_CELL = 40  # characters


def write_report(
    folder: Path,
    sweep_id: str,
    plan: SweepPlan,
    outcome: Outcome,
    workers: Mapping[str, Any],
    records: Iterable[Record],
) -> Path:
    """Write `sweep.json`, job by job, so that a million of them need no memory.

    Args:
        folder: The sweep's folder.
        sweep_id: Its id.
        plan: Its plan.
        outcome: How it ended.
        workers: {worker: the environment in which it made pictures}.
        records: The results, by index. Jobs without one are "missing".
    """
    path = folder / REPORT_NAME
    with temporary_file(folder) as temporary:
        with temporary.open("w", encoding="utf-8") as file:
            _write(file, _head(sweep_id, plan, outcome, workers), _jobs(plan, records))
        flush_to_disk(temporary)
        os.replace(temporary, path)
    return path


def _head(sweep_id: str, plan: SweepPlan, outcome: Outcome, workers: Mapping[str, Any]) -> dict[str, Any]:
    axes = [
        [{"input": each.target, "node": each.node_id, "values": each.values} for each in axis.inputs]
        for axis in plan.axes
    ]
    return {
        "format": _FORMAT,
        "id": sweep_id,
        "workflow": plan.name,
        "complete": outcome.complete,
        "total": outcome.total,
        "succeeded": outcome.succeeded,
        "failed": outcome.failed,
        "axes": axes,
        "workers": dict(workers),
    }


def _write(file: TextIO, head: Mapping[str, Any], jobs: Iterator[dict[str, Any]]) -> None:
    file.write("{\n")
    for name, value in head.items():
        file.write(f" {dumps(name)}: {dumps(value)},\n")
    file.write(' "jobs": [')
    for number, job in enumerate(jobs):
        file.write(("," if number else "") + f"\n  {dumps(job)}")
    file.write("\n ]\n}\n")


def _jobs(plan: SweepPlan, records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    index = 0
    for record in records:
        while index < record.index:
            yield {"index": index, "values": plan.values(index), "status": "missing"}
            index += 1
        yield {
            "index": record.index,
            "values": plan.values(record.index),
            "status": record.status,
            "files": [{"name": file.name, "digest": file.digest} for file in record.files],
            "digest": record.digest,
            "seconds": round(record.seconds, 3),
            "worker": record.worker,
            "error": record.error,
        }
        index += 1
    for rest in range(index, len(plan)):
        yield {"index": rest, "values": plan.values(rest), "status": "missing"}


def known_workers(folder: Path) -> dict[str, Any]:
    """Return the workers that an earlier `sweep.json` of the sweep names, or none if there is none to read."""
    path = folder / REPORT_NAME
    try:
        if path.stat().st_size > _MAX_REPORT_BYTES:
            return {}
        found = json.loads(path.read_bytes()).get("workers")
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


# -- the table


def table(plan: SweepPlan, records: Iterable[Record], width: int) -> list[str]:
    """Return the lines of a table of the jobs: all of a few; of many the first and last, and the first that failed.

    Args:
        plan: The plan.
        records: The results by index.
        width: The width of the terminal in characters; longer lines are cut.
    """
    names = short_names([each.target for axis in plan.axes for each in axis.inputs])
    rows: list[list[str]] = [["job", *names, "status", "seconds", "worker", "file"]]
    left_out, failed = 0, 0
    for index, record in _each(plan, records):
        is_shown = len(plan) <= _TABLE_ROWS or index < _TABLE_ROWS - _LAST_ROWS or index >= len(plan) - _LAST_ROWS
        if not is_shown and record is not None and record.status == "error" and failed < _MAX_FAILED_ROWS:
            failed, is_shown = failed + 1, True
        if is_shown:
            rows += _gap(left_out, len(rows[0]))
            rows.append(_row(plan, index, record))
            left_out = 0
        else:
            left_out += 1
    return _aligned(rows, width)


def _each(plan: SweepPlan, records: Iterable[Record]) -> Iterator[tuple[int, Record | None]]:
    remaining = iter(records)
    record = next(remaining, None)
    for index in range(len(plan)):
        if record is not None and record.index == index:
            yield index, record
            record = next(remaining, None)
        else:
            yield index, None


def _gap(left_out: int, columns: int) -> list[list[str]]:
    return [["...", f"{left_out:,} more", *[""] * (columns - 2)]] if left_out else []


def _row(plan: SweepPlan, index: int, record: Record | None) -> list[str]:
    values = [_cell(value) for value in plan.values(index).values()]
    if record is None:
        return [str(index), *values, "missing", "", "", ""]
    files = [file.name for file in record.files]
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    last = record.error or "" if record.status == "error" else f"{files[0]}{more}" if files else ""
    status = "ok" if record.status == "success" else "failed"
    return [str(index), *values, status, f"{record.seconds:.2f}", record.worker, " ".join(last.split())]


def _cell(value: Any) -> str:
    text = "".join(letter if letter.isprintable() else " " for letter in value_text(value)[: 2 * _MAX_CELL])
    return shorten(text, _MAX_CELL)


def _aligned(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Align columns: numbers to the right, texts to the left."""
    columns = list(zip(*rows, strict=True))
    widths = [max(map(_columns_of, column)) for column in columns]
    is_number = [all(_is_number(cell) for cell in column[1:]) for column in columns]
    lines = []
    for row in rows:
        cells = []
        for cell, size, right in zip(row, widths, is_number, strict=True):
            padding = " " * (size - _columns_of(cell))
            cells.append(padding + cell if right else cell + padding)
        lines.append(_cut("  ".join(cells).rstrip(), width))
    return lines


def _is_number(cell: str) -> bool:
    return cell in ("", "...") or cell.endswith(" more") or cell.lstrip("-").replace(".", "", 1).isdigit()


def _columns_of(text: str) -> int:
    """Return how many columns of a terminal a text takes: letters of East Asia take two."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def _cut(line: str, width: int) -> str:
    if _columns_of(line) <= width:
        return line
    while line and _columns_of(line) > width - 3:
        line = line[:-1]
    return f"{line}..."

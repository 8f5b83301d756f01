"""The contact sheets of a plan: one for one or two axes, one for each combination of the others if there are more."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from host.atomic_files import flush_to_disk, temporary_file
from host.engines.picture_metadata import CONTACT_SHEET, replace_texts
from host.sweep.contact_sheet import Cell, Sheet, SheetTooLarge, draw_sheet
from host.sweep.contract import Record
from host.sweep.file_names import file_stem, short_names, value_text
from host.sweep.plan import Axis, SweepPlan

__all__ = ["MAX_SHEETS", "write_sheets"]

MAX_SHEETS = 24
_ONE_ROW = 8  # jobs of a single axis that stand in one row
_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
_MAX_LABEL = 300


def write_sheets(
    plan: SweepPlan,
    result: Callable[[int], Record | None],
    folder: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[Path], str]:
    """Write the contact sheets of a sweep into its folder: `sheet.png`, or `sheet_<values>.png` for each.

    Args:
        plan: The plan, with at least one axis.
        result: Returns the result of a job, or None if it has none yet.
        folder: The sweep's folder, with the jobs' files.
        progress: Called with how many of how many jobs are drawn.

    Returns:
        The files, and a sentence if there are none.
    """
    leading, shown = plan.axes[:-2], plan.axes[-2:]
    count = math.prod(len(axis) for axis in leading)
    if count > MAX_SHEETS:
        return (
            [],
            f"no contact sheet: {len(plan.axes)} axes would need {count} of them, and at most {MAX_SHEETS} are made",
        )
    size = math.prod(len(axis) for axis in shown)
    names = short_names([each.target for axis in plan.axes for each in axis.inputs])
    written: list[Path] = []
    for number in range(count):
        first = number * size
        fixed = {each.target: plan.values(first)[each.target] for axis in leading for each in axis.inputs}
        sheet = _sheet(plan, shown, names, ", ".join(_named(fixed, plan)))
        path = folder / (f"sheet_{file_stem(number, count, fixed)}.png" if leading else "sheet.png")

        def cell(place: int, first: int = first) -> Cell:
            progress(first + place, len(plan))
            return _cell(result(first + place), folder)

        try:
            picture = draw_sheet(sheet, cell)
        except SheetTooLarge as error:
            return written, f"no contact sheet: {error}"
        with temporary_file(folder) as temporary:
            temporary.write_bytes(_png(picture))
            flush_to_disk(temporary)
            os.replace(temporary, path)
        written.append(path)
    return written, ""


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return replace_texts(buffer.getvalue(), {CONTACT_SHEET: "of the pictures in this folder"})


def _named(values: dict[str, object], plan: SweepPlan) -> list[str]:
    every = [each.target for axis in plan.axes for each in axis.inputs]
    names = dict(zip(every, short_names(every), strict=True))
    return [f"{names[target]} = {_text(value)}" for target, value in values.items()]


def _sheet(plan: SweepPlan, shown: Sequence[Axis], names: Sequence[str], fixed: str) -> Sheet:
    """Return the labels of a sheet: the last axis along the top, the one before it along the left side."""
    short = dict(zip([each.target for axis in plan.axes for each in axis.inputs], names, strict=True))
    columns = shown[-1]
    name = _axis_name(columns, short)
    if len(shown) == 2:
        rows = shown[0]
        about = f"{len(rows)} x {len(columns)} jobs"
        return Sheet(
            plan.name, fixed or about, _labels(columns), _labels(rows), name, _axis_name(rows, short), (),
            len(columns), len(rows),
        )  # fmt: skip
    count = len(columns)
    subtitle = f"{count} values of {name}"
    if count <= _ONE_ROW:
        return Sheet(plan.name, subtitle, _labels(columns), (), name, "", (), count, 1)
    width = math.ceil(math.sqrt(count))
    return Sheet(plan.name, subtitle, (), (), "", "", _labels(columns), width, math.ceil(count / width))


def _axis_name(axis: Axis, short: dict[str, str]) -> str:
    return ", ".join(short[each.target] for each in axis.inputs)


def _labels(axis: Axis) -> tuple[str, ...]:
    return tuple("\n".join(_text(each.values[row]) for each in axis.inputs) for row in range(len(axis)))


def _text(value: object) -> str:
    return value_text(value)[:_MAX_LABEL].replace("\n", " ") or '""'


def _cell(record: Record | None, folder: Path) -> Cell:
    if record is None:
        return Cell(None, "missing")
    if record.status != "success":
        return Cell(None, "failed")
    picture = next((file.name for file in record.files if file.name.lower().endswith(_PICTURES)), None)
    return Cell(None, "no picture") if picture is None else Cell(folder / picture)

"""The contact sheet of a sweep: what is drawn where, and how large it may be."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from PIL import Image

from host.sweep import contact_sheet
from host.sweep.contact_sheet import Cell, Sheet, SheetTooLarge, draw_sheet
from host.sweep.contract import Record, SavedFile
from host.sweep.plan import Axis, SweepPlan, VaryingInput
from host.sweep.sheets import MAX_SHEETS, write_sheets
from tests.sweep.toy_host import node

KEY = "12345678-1234-5678-1234-567812345678"
WHITE = (255, 255, 255)


def axis(*inputs) -> Axis:
    return Axis(tuple(VaryingInput(target, *target.split("."), tuple(values)) for target, values in inputs))


def sweep(*axes: Axis) -> SweepPlan:
    prompt = {each.node_id: node("X") for each_axis in axes for each in each_axis.inputs}
    return SweepPlan("toys", prompt, axes, {}, (), KEY)


def colour(index: int) -> tuple[int, int, int]:
    """A colour of its own for each job, none of which the sheet uses itself."""
    return (40 + 97 * index % 150, 30 + 61 * index % 170, 20 + 41 * index % 200)


def results(folder: Path, size=(64, 48), failed=(), missing=(), textual=()):
    def result(index: int) -> Record | None:
        if index in missing:
            return None
        if index in failed:
            return Record(index, "error", error="it failed")
        names = [f"{index}.txt"] if index in textual else [f"{index}.txt", f"{index}.png", f"{index}_2.png"]
        Image.new("RGB", size, colour(index)).save(folder / f"{index}.png")
        return Record(index, "success", tuple(SavedFile(name, 1, "") for name in names))

    return result


def boxes(sheet: Image.Image, wanted: tuple[int, int, int]) -> tuple[int, int, int, int] | None:
    """Where a colour is."""
    mask = Image.new("1", sheet.size)
    pixels, out = sheet.load(), mask.load()
    for y in range(sheet.height):
        for x in range(sheet.width):
            out[x, y] = pixels[x, y] == wanted
    return mask.getbbox()


def test_every_job_is_in_its_row_and_column(tmp_path):
    plan = sweep(axis(("A.seed", [0, 1, 2])), axis(("A.cfg", [1.5, 3.0, 5.0, 7.5])))
    written, note = write_sheets(plan, results(tmp_path), tmp_path)
    assert ([path.name for path in written], note) == (["sheet.png"], "")
    with Image.open(written[0]) as file:
        sheet = file.convert("RGB")
    found = [boxes(sheet, colour(index)) for index in range(12)]
    assert all(box is not None and (box[2] - box[0], box[3] - box[1]) == (128, 96) for box in found)
    for index, box in enumerate(found):
        assert box[0] == found[index % 4][0] and box[1] == found[index - index % 4][1]
    assert found[0][0] < found[1][0] < found[2][0] < found[3][0]
    assert found[0][1] < found[4][1] < found[8][1]
    assert sorted(path.name for path in tmp_path.glob(".*")) == []


def has_ink(sheet: Image.Image, box: tuple[int, int, int, int]) -> bool:
    """Whether something dark is written in a region."""
    return sheet.crop(box).convert("L").getextrema()[0] < 100


def test_rows_and_columns_have_labels(tmp_path):
    plan = sweep(axis(("A.seed", [0, 1])), axis(("A.cfg", [1.5, 3.0])))
    (path,), _ = write_sheets(plan, results(tmp_path), tmp_path)
    with Image.open(path) as file:
        sheet = file.convert("RGB")
    for index in range(4):
        left, top, right, bottom = boxes(sheet, colour(index))
        if index < 2:
            assert has_ink(sheet, (left, top - 25, right, top - 2))
        if index % 2 == 0:
            assert has_ink(sheet, (0, top, left - 5, bottom))
    assert has_ink(sheet, (0, 0, sheet.width, 60))


def test_what_failed_is_missing_or_shows_nothing_is_marked(tmp_path):
    plan = sweep(axis(("A.seed", range(5))))
    (path,), _ = write_sheets(plan, results(tmp_path, failed=[1], missing=[2], textual=[3]), tmp_path)
    (tmp_path / "4.png").write_bytes(b"no picture")
    with Image.open(path) as file:
        sheet = file.convert("RGB")
    first = boxes(sheet, colour(0))
    step = boxes(sheet, colour(4))[0] - first[0]
    assert step % 4 == 0
    cells = [sheet.crop((first[0] + n * step // 4, first[1], first[2] + n * step // 4, first[3])) for n in range(5)]
    red, green, blue = cells[1].resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
    assert red > green + 8 and red > blue + 8
    for cell in cells[2:4]:
        average = cell.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
        assert max(average) - min(average) < 10 and average != WHITE
        assert has_ink(cell.convert("RGB"), (0, 0, *cell.size)) or cell.convert("L").getextrema()[0] < 180
    assert [boxes(sheet, colour(index)) for index in (1, 2, 3)] == [None] * 3


def test_a_file_that_is_no_picture_is_no_fault(tmp_path):
    plan = sweep(axis(("A.seed", range(2))))
    result = results(tmp_path)
    assert all(result(index) for index in range(2))
    (tmp_path / "0.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")

    def unreadable(index: int) -> Record:
        return Record(index, "success", (SavedFile(f"{index}.png", 1, ""),))

    (path,), note = write_sheets(plan, unreadable, tmp_path)
    with Image.open(path) as file:
        assert boxes(file.convert("RGB"), colour(1)) is not None and note == ""


def test_a_long_axis_is_broken_into_rows_with_captions(tmp_path):
    plan = sweep(axis(("A.seed", range(20))))
    (path,), _ = write_sheets(plan, results(tmp_path), tmp_path)
    with Image.open(path) as file:
        sheet = file.convert("RGB")
    tops = sorted({boxes(sheet, colour(index))[1] for index in range(20)})
    assert len(tops) == 4
    for index in range(20):
        left, _, right, bottom = boxes(sheet, colour(index))
        assert has_ink(sheet, (left, bottom + 3, right, bottom + 20))


def test_small_pictures_are_enlarged_and_stay_sharp(tmp_path):
    picture = Image.new("RGB", (2, 1), (200, 0, 0))
    picture.putpixel((1, 0), (0, 0, 200))
    picture.save(tmp_path / "p.png")
    sheet = Sheet("t", "s", ("1",), (), "x", "", (), 1, 1)
    drawn = draw_sheet(sheet, lambda place: Cell(tmp_path / "p.png"))
    red, blue = boxes(drawn, (200, 0, 0)), boxes(drawn, (0, 0, 200))
    assert red[2] == blue[0] and red[2] - red[0] == blue[2] - blue[0] == 48


def test_transparency_shows_paper(tmp_path):
    Image.new("RGBA", (64, 64), (0, 0, 0, 0)).save(tmp_path / "p.png")
    sheet = Sheet("t", "s", ("1",), (), "x", "", (), 1, 1)
    drawn = draw_sheet(sheet, lambda place: Cell(tmp_path / "p.png"))
    assert drawn.getpixel((drawn.width // 4, drawn.height - 60)) == WHITE


@pytest.mark.parametrize(("rows", "columns"), [(2, 60), (60, 2), (40, 40)])
def test_many_jobs_have_smaller_thumbnails(tmp_path, rows, columns):
    Image.new("RGB", (256, 256), (10, 20, 30)).save(tmp_path / "p.png")
    sheet = Sheet("t", "s", ("c",) * columns, ("r",) * rows, "x", "y", (), columns, rows)
    drawn = draw_sheet(sheet, lambda place: Cell(tmp_path / "p.png" if place < 2 else None, "missing"))
    assert max(drawn.size) <= contact_sheet._MAX_SIDE
    assert math.prod(drawn.size) <= contact_sheet._MAX_PIXELS
    box = boxes(drawn.crop((0, 0, drawn.width, 500)), (10, 20, 30))
    assert box is not None and box[3] - box[1] >= contact_sheet._MIN_THUMBNAIL


def test_too_many_jobs_have_no_sheet(tmp_path):
    with pytest.raises(SheetTooLarge, match="1000 x 1000 pictures"):
        draw_sheet(Sheet("t", "s", ("c",) * 1000, ("r",) * 1000, "", "", (), 1000, 1000), lambda place: Cell(None))
    plan = sweep(axis(("A.a", range(1000))), axis(("A.b", range(1000))))
    written, note = write_sheets(plan, lambda index: None, tmp_path)
    assert written == [] and note.startswith("no contact sheet: 1000 x 1000")


def test_more_axes_have_a_sheet_for_each_combination_of_the_first_ones(tmp_path):
    inner = (axis(("A.seed", [0, 1])), axis(("A.cfg", [1.0, 2.0])))
    plan = sweep(axis(("B.steps", [10, 20, 30])), *inner)
    written, note = write_sheets(plan, results(tmp_path), tmp_path)
    assert [path.name for path in written] == ["sheet_0_steps=10.png", "sheet_1_steps=20.png", "sheet_2_steps=30.png"]
    with Image.open(written[1]) as file:
        sheet = file.convert("RGB")
    assert all((boxes(sheet, colour(index)) is not None) == (4 <= index < 8) for index in range(12))
    plan = sweep(axis(("B.steps", range(MAX_SHEETS + 1))), *inner)
    assert write_sheets(plan, results(tmp_path), tmp_path)[1].startswith("no contact sheet: 3 axes would need 25")


def test_any_labels_are_drawn_within_the_sheet(tmp_path):
    texts = ["a very long prompt, " * 50, "", "\n\n\n", "日本語の長い文章" * 20, "x" * 1000, "\x00\x1b[31m"]
    plan = sweep(axis(("A.text", texts)), axis(("B." + "a" * 100, texts), ("C.other", texts)))
    (path,), note = write_sheets(plan, lambda index: None, tmp_path)
    with Image.open(path) as sheet:
        assert sheet.width < 3000 and sheet.height < 2000 and note == ""

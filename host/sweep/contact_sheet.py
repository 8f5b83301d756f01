"""The contact sheet of a sweep: a picture with a thumbnail of every job, and the values along its sides."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from host.pictures import PictureError, decoded_picture

__all__ = ["Cell", "Sheet", "SheetTooLarge", "draw_sheet"]

_MAX_SIDE = 10_000  # pixels of the whole sheet
_MAX_PIXELS = 16 << 20
_MAX_THUMBNAIL = 256
_MIN_THUMBNAIL = 32
_ENLARGED_TO = 96  # a smaller picture is enlarged by a whole factor to about this
_GAP, _MARGIN = 8, 28
_TITLE, _LABEL, _SMALL = 24, 15, 13  # sizes of the letters
_MAX_ROW_LABEL = 200  # pixels
_MAX_LINES = 3
_LINE = 1.3  # lines' distance in letter heights

_PAPER, _INK, _GREY, _RULE = "#ffffff", "#1b2030", "#737b8c", "#dfe3ea"
_EMPTY, _FAILED, _FAILED_INK = "#f3f5f8", "#fdecec", "#b42318"


class SheetTooLarge(ValueError):
    """The thumbnails would be too small to be of use."""


@dataclass(frozen=True)
class Cell:
    """What a sheet shows of one job.

    Attributes:
        picture: Its first picture, or None.
        mark: What is written in the place of a picture: "failed", "missing" or "no picture".
    """

    picture: Path | None
    mark: str = ""


@dataclass(frozen=True)
class Sheet:
    """What is drawn.

    Attributes:
        title: The heading.
        subtitle: The line below it.
        columns: The labels above the columns; () to write `captions` below the cells instead.
        rows: The labels left of the rows; () for none.
        column_name: What the columns' labels are values of.
        row_name: What the rows' labels are values of.
        captions: A label for each cell, in their order; () for none.
        width: The number of columns.
        height: The number of rows.
    """

    title: str
    subtitle: str
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    column_name: str
    row_name: str
    captions: tuple[str, ...]
    width: int
    height: int


@dataclass(frozen=True)
class _Layout:
    """Where everything is, in pixels: the size of a picture's box, and what is around the boxes."""

    box: tuple[int, int]
    left: int
    top: int
    caption: int
    size: tuple[int, int]

    def corner(self, column: int, row: int) -> tuple[int, int]:
        """Return the top left corner of a cell's box."""
        return (
            self.left + column * (self.box[0] + _GAP),
            self.top + row * (self.box[1] + _GAP + self.caption),
        )


def draw_sheet(sheet: Sheet, cell: Callable[[int], Cell]) -> Image.Image:
    """Draw a sheet.

    Args:
        sheet: The labels.
        cell: Returns the cell of a place, row by row. It is asked when a cell is drawn: not all are in memory.

    Raises:
        SheetTooLarge: There are too many cells for one picture.
    """
    count = len(sheet.captions) or sheet.width * sheet.height
    first = next((found for place in range(min(count, 64)) if (found := _size(cell(place).picture))), (1, 1))
    layout = _layout(sheet, first)
    canvas = Image.new("RGB", layout.size, _PAPER)
    draw = ImageDraw.Draw(canvas)
    _draw_headings(draw, sheet, layout)
    for place in range(count):
        row, column = divmod(place, sheet.width)
        x, y = layout.corner(column, row)
        _draw_cell(canvas, draw, cell(place), (x, y, x + layout.box[0], y + layout.box[1]))
        if sheet.captions:
            middle = (x + layout.box[0] / 2, y + layout.box[1] + 4)
            _write_lines(draw, sheet.captions[place], middle, layout.box[0], _SMALL, "ma", _INK)
    return canvas


# -- layout


def _layout(sheet: Sheet, picture: tuple[int, int]) -> _Layout:
    """Choose the largest thumbnails, up to the pictures' own size, with which the sheet stays within its limits."""
    for side in range(_largest_side(picture), _MIN_THUMBNAIL - 1, -4):
        layout = _layout_for(sheet, _fit(picture, side))
        width, height = layout.size
        if max(width, height) <= _MAX_SIDE and width * height <= _MAX_PIXELS:
            return layout
    raise SheetTooLarge(f"{sheet.width} x {sheet.height} pictures are too many for one contact sheet")


def _largest_side(picture: tuple[int, int]) -> int:
    side = max(picture)
    if side < _ENLARGED_TO:
        side *= max(1, round(_ENLARGED_TO / side))
    return min(side, _MAX_THUMBNAIL)


def _layout_for(sheet: Sheet, box: tuple[int, int]) -> _Layout:
    label = _widest(sheet.rows, _LABEL, _MAX_ROW_LABEL)
    name = _widest([sheet.row_name], _SMALL, _MAX_ROW_LABEL) if sheet.rows else 0
    left = _MARGIN + (max(label, name) + 14 if sheet.rows else 0)
    lines = max((len(_wrap(text, box[0], _LABEL)) for text in sheet.columns), default=0)
    top = _MARGIN + int(_TITLE * _LINE) + int(_SMALL * _LINE) + 18
    top += int(_SMALL * _LINE) + 6 + int(lines * _LABEL * _LINE) + 6 if sheet.columns else 0
    below = max((len(_wrap(text, box[0], _SMALL)) for text in sheet.captions), default=0)
    caption = int(below * _SMALL * _LINE) + 8 if below else 0
    across = left + sheet.width * (box[0] + _GAP) - _GAP + _MARGIN
    title = 2 * _MARGIN + max(_widest([sheet.title], _TITLE, 2000), _widest([sheet.subtitle], _SMALL, 2000))
    down = top + sheet.height * (box[1] + _GAP + caption) - _GAP + _MARGIN
    return _Layout(box, left, top, caption, (max(across, title), down))


def _fit(picture: tuple[int, int], side: int) -> tuple[int, int]:
    scale = side / max(picture)
    return (max(1, round(picture[0] * scale)), max(1, round(picture[1] * scale)))


def _size(path: Path | None) -> tuple[int, int] | None:
    if path is None:
        return None
    try:
        with decoded_picture(path) as picture:
            return picture.size
    except (PictureError, OSError):
        return None


# -- drawing


def _draw_headings(draw: ImageDraw.ImageDraw, sheet: Sheet, layout: _Layout) -> None:
    room = layout.size[0] - 2 * _MARGIN
    draw.text((_MARGIN, _MARGIN), _shorten(sheet.title, room, _TITLE), _INK, _font(_TITLE), anchor="la")
    below = _MARGIN + int(_TITLE * _LINE)
    draw.text((_MARGIN, below), _shorten(sheet.subtitle, room, _SMALL), _GREY, _font(_SMALL), anchor="la")
    width, bottom = layout.box[0], layout.top - 6
    for column, text in enumerate(sheet.columns):
        x = layout.corner(column, 0)[0] + width / 2
        height = len(_wrap(text, width, _LABEL)) * _LABEL * _LINE
        _write_lines(draw, text, (x, bottom - height), width, _LABEL, "ma", _INK)
    if sheet.columns:
        lines = max(len(_wrap(text, width, _LABEL)) for text in sheet.columns)
        y = bottom - lines * _LABEL * _LINE - _SMALL * _LINE - 4
        across = layout.size[0] - layout.left - _MARGIN
        draw.text((layout.left, y), _shorten(sheet.column_name, across, _SMALL), _GREY, _font(_SMALL), anchor="la")
        right = layout.corner(sheet.width - 1, 0)[0] + width
        line_y = y + _SMALL * _LINE + 1
        draw.line((layout.left, line_y, right, line_y), _RULE)
    if sheet.rows:
        name = _shorten(sheet.row_name, _MAX_ROW_LABEL, _SMALL)
        draw.text((layout.left - 14, bottom - _SMALL), name, _GREY, _font(_SMALL), anchor="ra")
    for row, text in enumerate(sheet.rows):
        lines = len(_wrap(text, _MAX_ROW_LABEL, _LABEL))
        y = layout.corner(0, row)[1] + layout.box[1] / 2 - lines * _LABEL * _LINE / 2
        _write_lines(draw, text, (layout.left - 14, y), _MAX_ROW_LABEL, _LABEL, "ra", _INK)


def _draw_cell(canvas: Image.Image, draw: ImageDraw.ImageDraw, cell: Cell, box: tuple[int, int, int, int]) -> None:
    left, top, right, bottom = box
    thumbnail = _thumbnail(cell.picture, (right - left, bottom - top))
    if thumbnail is not None:
        at = (left + (right - left - thumbnail.width) // 2, top + (bottom - top - thumbnail.height) // 2)
        canvas.paste(thumbnail, at)
        draw.rectangle((at[0] - 1, at[1] - 1, at[0] + thumbnail.width, at[1] + thumbnail.height), outline=_RULE)
        return
    mark = cell.mark or "no picture"
    paper, ink = (_FAILED, _FAILED_INK) if mark == "failed" else (_EMPTY, _GREY)
    draw.rectangle((left, top, right - 1, bottom - 1), paper, ink if mark == "failed" else _RULE)
    if mark == "failed":
        draw.line((left, top, right - 1, bottom - 1), "#f3c6c3")
        draw.line((left, bottom - 1, right - 1, top), "#f3c6c3")
    text = _shorten(mark, right - left - 4, _SMALL)
    middle = ((left + right) / 2, (top + bottom) / 2)
    reach = draw.textbbox(middle, text, _font(_SMALL), anchor="mm")
    draw.rectangle((reach[0] - 3, reach[1] - 2, reach[2] + 3, reach[3] + 2), paper)
    draw.text(middle, text, ink, _font(_SMALL), anchor="mm")


def _thumbnail(path: Path | None, room: tuple[int, int]) -> Image.Image | None:
    """Return a picture as it is shown, or None if it cannot be read."""
    if path is None:
        return None
    try:
        with decoded_picture(path) as picture:
            scale = min(room[0] / picture.width, room[1] / picture.height)
            size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
            # Few large pixels stay what they are; a photo made smaller is averaged.
            method = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.LANCZOS
            return _opaque(picture).resize(size, method, reducing_gap=3.0 if scale < 1 else None)
    except (PictureError, OSError, ValueError, MemoryError):
        return None


def _opaque(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):  # 16 bits: Pillow would clip the values at 255 instead of scaling them
        return picture.point(lambda value: value / 257.0).convert("L").convert("RGB")
    if "A" not in picture.getbands() and "transparency" not in picture.info:
        return picture.convert("RGB")
    visible = picture.convert("RGBA")
    paper = Image.new("RGBA", visible.size, _PAPER)
    return Image.alpha_composite(paper, visible).convert("RGB")


# -- text


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return Pillow's own font, so that sheets look the same on every machine."""
    return ImageFont.load_default(size)


def _length(text: str, size: int) -> float:
    return _font(size).getlength(text)


def _widest(texts: Sequence[str], size: int, limit: int) -> int:
    lines = (line for text in texts for line in _wrap(text, limit, size))
    return math.ceil(max((_length(line, size) for line in lines), default=0))


@lru_cache(maxsize=4096)
def _wrap(text: str, width: int, size: int) -> tuple[str, ...]:
    """Break a text into at most `_MAX_LINES` lines of a width in pixels. Its own line breaks stay."""
    lines: list[str] = []
    for paragraph in text[:400].split("\n"):
        line = ""
        for word in paragraph.split() or [""]:
            longer = f"{line} {word}" if line else word
            if line and _length(longer, size) > width:
                lines.append(line)
                line = word
            else:
                line = longer
        lines.append(line)
    if len(lines) > _MAX_LINES:
        lines = [*lines[: _MAX_LINES - 1], f"{lines[_MAX_LINES - 1]} ..."]
    return tuple(_shorten(line, width, size) for line in lines)


def _shorten(text: str, width: float, size: int) -> str:
    text = "".join(letter if letter.isprintable() else " " for letter in text[:400])
    if _length(text, size) <= width:
        return text
    low, high = 0, len(text)
    while low < high:  # the longest beginning that fits with its dots
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _length(f"{text[:middle]}...", size) <= width else (low, middle - 1)
    return f"{text[:low].rstrip()}..." if low else text[:1]


def _write_lines(
    draw: ImageDraw.ImageDraw, text: str, at: tuple[float, float], width: int, size: int, anchor: str, ink: str
) -> None:
    for number, line in enumerate(_wrap(text, width, size)):
        draw.text((at[0], at[1] + number * size * _LINE), line, ink, _font(size), anchor=anchor)

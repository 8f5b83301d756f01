"""The text chunks of a PNG: reading them, and replacing them without touching the pixels.

A finished picture has the chunk `prompt`, which a workflow editor opens, and the chunk `made_with`, which says in JSON
what it was made with. Both depend on nothing but the job and the pixels, so whoever makes the picture makes the same
bytes.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from host.pictures import PictureError, open_picture
from host.strict_json import dumps, parse_untrusted

__all__ = ["CONTACT_SHEET", "MADE_WITH", "PROMPT", "is_png", "made_with", "read_texts", "replace_texts"]

PROMPT = "prompt"
MADE_WITH = "made_with"
CONTACT_SHEET = "contact_sheet"  # on a picture that shows others, which carry their own prompts

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER = struct.Struct(">I4s")
_CHECKSUM_BYTES = 4
_MAX_CHUNKS = 1 << 20
_MAX_CHUNK_BYTES = (1 << 31) - 1
_TEXT_KINDS = (b"tEXt", b"zTXt", b"iTXt")
_MAX_MADE_WITH_BYTES = 1 << 20


class _Chunk(NamedTuple):
    """One chunk: its kind, where it begins and ends in the file, and the keyword of a text chunk, else None."""

    kind: bytes
    start: int
    end: int
    keyword: str | None


def is_png(data: bytes) -> bool:
    """Return whether a file says that it is a PNG."""
    return data.startswith(_SIGNATURE)


def read_texts(data: bytes) -> dict[str, str]:
    """Return the text chunks that stand before the pixels, by keyword. The pixels are not decoded.

    Raises:
        PictureError: The file is not a PNG, is damaged, or has more pixels than `host.limits` allows.
    """
    names = {chunk.keyword for chunk in _chunks(data)}
    with open_picture(io.BytesIO(data), ("PNG",)) as picture:
        return {name: str(text) for name, text in picture.info.items() if name in names and isinstance(text, str)}


def made_with(texts: Mapping[str, str]) -> dict[str, Any] | None:
    """Return what a picture says it was made with, or None if it says nothing that can be read.

    The picture is untrusted: only that it is a JSON object of limited size and depth is known.
    """
    text = texts.get(MADE_WITH, "")
    if len(text) > _MAX_MADE_WITH_BYTES:
        return None
    try:
        value = parse_untrusted(text.encode())
    except ValueError:  # also half a surrogate pair, which has no bytes
        return None
    return value if isinstance(value, dict) else None


def replace_texts(data: bytes, texts: Mapping[str, Any]) -> bytes:
    """Return a PNG with other text chunks of some keywords. Every other chunk stays as it is, byte for byte.

    Args:
        data: The PNG.
        texts: {keyword: value}. A value is stored as strict JSON in ASCII, before the pixels.

    Raises:
        PictureError: The file is not a PNG, or its chunks are damaged.
        ValueError: A keyword is none: 1 to 79 printable ASCII characters.
    """
    chunks = list(_chunks(data))
    first_pixels = next((chunk.start for chunk in chunks if chunk.kind == b"IDAT"), None)
    if first_pixels is None or chunks[0].kind != b"IHDR":
        raise PictureError("the PNG has no header or no pixels")
    added = b"".join(_text_chunk(keyword, dumps(value)) for keyword, value in texts.items())
    pieces = [data[: len(_SIGNATURE)]]
    for chunk in chunks:
        if chunk.start == first_pixels:
            pieces.append(added)
        if chunk.keyword not in texts:
            pieces.append(data[chunk.start : chunk.end])
    return b"".join(pieces)


def _chunks(data: bytes) -> Iterator[_Chunk]:
    """Yield the chunks up to the end chunk. Raises PictureError if the file is no PNG or is cut off."""
    if not is_png(data):
        raise PictureError("the file is not a PNG")
    at = len(_SIGNATURE)
    for _ in range(_MAX_CHUNKS):
        if at + _HEADER.size > len(data):
            raise PictureError("the PNG is cut off")
        size, kind = _HEADER.unpack_from(data, at)
        end = at + _HEADER.size + size + _CHECKSUM_BYTES
        if size > _MAX_CHUNK_BYTES or end > len(data) or not (kind.isalpha() and kind.isascii()):
            raise PictureError("a chunk of the PNG is damaged or cut off")
        yield _Chunk(kind, at, end, _keyword(data, at + _HEADER.size, size) if kind in _TEXT_KINDS else None)
        if kind == b"IEND":
            return
        at = end
    raise PictureError(f"the PNG has more than {_MAX_CHUNKS} chunks")


def _keyword(data: bytes, start: int, size: int) -> str:
    """Return the keyword of a text chunk: what stands before the first zero byte, at most 79 bytes."""
    return data[start : start + min(size, 80)].partition(b"\0")[0].decode("latin-1")


def _text_chunk(keyword: str, text: str) -> bytes:
    if not (1 <= len(keyword) <= 79 and keyword.isascii() and keyword.isprintable()):
        raise ValueError(f"a PNG keyword has 1 to 79 printable ASCII characters, got {keyword!r:.100}")
    content = keyword.encode("ascii") + b"\0" + text.encode("ascii")
    if len(content) > _MAX_CHUNK_BYTES:
        raise ValueError(f"the text {keyword} is too long for a PNG")
    checksum = zlib.crc32(content, zlib.crc32(b"tEXt"))
    return _HEADER.pack(len(content), b"tEXt") + content + struct.pack(">I", checksum)

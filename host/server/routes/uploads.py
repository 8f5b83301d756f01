"""Files in: pictures, masks, and the two other kinds that nodes read. Checked before they get a name."""

from __future__ import annotations

import asyncio
import filecmp
import json
import os
import struct
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import BodyPartReader, web
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from .file_routes import folder_of, locate, open_image
from .paths import inside, safe_name
from .state import HOST, MAX_UPLOAD_BYTES, Host
from .wire import problem, reply

__all__ = ["ROUTES"]

_MAX_PARTS = 32
_MAX_FIELD_BYTES = 64 * 1024
_MAX_HEADER_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class _Upload:
    """A file that has arrived under a temporary name, and the form's other fields."""

    file: Path
    name: str
    fields: dict[str, str]


async def upload_image(request: web.Request) -> web.Response:
    """Stores a file in a folder; a name that is taken by another content gets a number."""
    host = request.app[HOST]
    upload = await _receive(request)
    try:
        return await asyncio.to_thread(_store, host, upload, _check(upload))
    finally:
        upload.file.unlink(missing_ok=True)


async def upload_mask(request: web.Request) -> web.Response:
    """Stores the picture named by ``original_ref`` with the uploaded picture's transparency."""
    host = request.app[HOST]
    upload = await _receive(request)
    try:
        source = _original(host, upload.fields.get("original_ref", ""))
        await asyncio.to_thread(_apply_mask, source, upload.file)
        return await asyncio.to_thread(_store, host, upload, None)
    finally:
        upload.file.unlink(missing_ok=True)


async def _receive(request: web.Request) -> _Upload:
    """Reads the form to the end, the file to disk as it comes; 413 as soon as it is too large."""
    if not request.content_type.startswith("multipart/"):
        raise problem(400, "expected a multipart form with an 'image' file")
    folder = request.app[HOST].folders.temp
    folder.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=".", suffix=".upload")
    name, fields = "", {}
    try:
        with os.fdopen(handle, "wb") as file:
            reader = await request.multipart()
            for _ in range(_MAX_PARTS):
                part = await reader.next()
                if part is None:
                    break
                if not isinstance(part, BodyPartReader) or part.name is None:
                    raise problem(400, "expected named form fields")
                if part.name == "image" and part.filename is not None:
                    name = part.filename
                    await _copy(part, file)
                else:
                    fields[part.name] = (await _read_field(part)).decode()
        if not name:
            raise problem(400, "the form has no 'image' file with a name")
        return _Upload(Path(temporary), safe_name(name), fields)
    except (
        ValueError,
        AssertionError,
        RuntimeError,
        LookupError,
    ) as error:  # aiohttp's, for a malformed form
        os.unlink(temporary)
        raise problem(400, f"the form is malformed: {error}") from error
    except BaseException:
        os.unlink(temporary)
        raise


async def _copy(part: BodyPartReader, file: Any) -> None:
    size = 0
    while chunk := await part.read_chunk(1 << 16):
        size += len(chunk)
        if size > MAX_UPLOAD_BYTES:
            raise web.HTTPRequestEntityTooLarge(MAX_UPLOAD_BYTES, size)
        file.write(chunk)


async def _read_field(part: BodyPartReader) -> bytes:
    data = bytearray()
    while chunk := await part.read_chunk(1 << 12):
        data += chunk
        if len(data) > _MAX_FIELD_BYTES:
            raise web.HTTPRequestEntityTooLarge(_MAX_FIELD_BYTES, len(data))
    return bytes(data)


def _store(host: Host, upload: _Upload, check: Callable[[Path], None] | None) -> web.Response:
    """Checks the content, then moves it to its name."""
    if check is not None:
        check(upload.file)
    kind, subfolder = upload.fields.get("type") or "input", upload.fields.get("subfolder", "")
    folder = inside(folder_of(host, kind), subfolder)
    if folder.exists() and not folder.is_dir():
        raise problem(400, "subfolder is the name of a file")
    target = inside(folder, upload.name)
    if upload.fields.get("overwrite", "").lower() not in ("true", "1"):
        target = _free_name(target, upload.file)
    if target.is_dir():
        raise problem(400, "the name is that of a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        os.chmod(upload.file, 0o644)
        os.replace(upload.file, target)
    except OSError as error:
        raise problem(400, f"the file cannot be stored there: {error.strerror}") from error
    return reply({"name": target.name, "subfolder": subfolder, "type": kind})


def _free_name(target: Path, content: Path) -> Path:
    """``target``, or the first of ``name (1).png``, ``name (2).png``... that is free or holds the same bytes."""
    path, number = target, 0
    while path.exists() and not (path.is_file() and filecmp.cmp(path, content, shallow=False)):
        number += 1
        path = target.with_name(f"{target.stem} ({number}){target.suffix}")
    return path


def _check(upload: _Upload) -> Callable[[Path], None]:
    """The check for this kind of file; 415 for kinds that no node reads."""
    suffix = Path(upload.name).suffix.lower()
    if suffix not in _CHECKS:
        raise problem(415, f"files of type {suffix or '(none)'} are not accepted; accepted: {', '.join(_CHECKS)}")
    return _CHECKS[suffix]


def _check_image(path: Path) -> None:
    with open_image(path) as image:
        if image.format not in _FORMATS:
            raise problem(415, f"pictures of format {image.format} are not accepted")


def _check_json(path: Path) -> None:
    try:
        json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise problem(400, "the file is not JSON") from error


def _check_safetensors(path: Path) -> None:
    """A header's length in 8 bytes, then the header, a JSON object; the tensors are checked by who reads them."""
    with path.open("rb") as file:
        head = file.read(8)
        size = struct.unpack("<Q", head)[0] if len(head) == 8 else -1
        try:
            valid = 0 < size <= _MAX_HEADER_BYTES and isinstance(json.loads(file.read(size)), dict)
        except (ValueError, RecursionError):
            valid = False
    if not valid:
        raise problem(400, "the file is not a safetensors file")


_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "MPO")
_CHECKS: dict[str, Callable[[Path], None]] = {
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"), _check_image),
    ".json": _check_json,
    ".safetensors": _check_safetensors,
}


def _original(host: Host, text: str) -> Path:
    try:
        ref = json.loads(text)
        name, subfolder, kind = ref["filename"], ref.get("subfolder", ""), ref.get("type", "output")
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError) as error:
        raise problem(400, "original_ref must be an object with a filename") from error
    if not all(isinstance(value, str) for value in (name, subfolder, kind)):
        raise problem(400, "original_ref must hold strings")
    path = locate(host, name, subfolder, kind)
    if not path.is_file():
        raise problem(404, "original_ref names no file")
    return path


def _apply_mask(source: Path, mask: Path) -> None:
    """Puts the mask's transparency on the source's colours and texts; the result takes the mask's place."""
    _check_image(mask)
    with open_image(source) as original, open_image(mask) as drawn:
        texts = PngInfo()
        for key, text in getattr(original, "text", {}).items():
            texts.add_text(key, text)
        picture, alpha = original.convert("RGBA"), drawn.convert("RGBA").getchannel("A")
        if alpha.size != picture.size:
            alpha = alpha.resize(picture.size, Image.Resampling.BILINEAR)
        picture.putalpha(alpha)
        picture.save(mask, format="PNG", pnginfo=texts, compress_level=4)


ROUTES = [web.post("/upload/image", upload_image), web.post("/upload/mask", upload_mask)]

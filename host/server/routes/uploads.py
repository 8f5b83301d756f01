"""Uploading pictures, masks, and the two other types of file that nodes read. Their content is checked first."""

from __future__ import annotations

import asyncio
import json
import os
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import IO

from aiohttp import BodyPartReader, web
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from host.atomic_files import claim_name, flush_to_disk, temporary_file
from host.folders import Folders, plain_file_name, requested_path
from host.limits import MAX_BODY_BYTES, MAX_UPLOAD_BYTES
from host.pictures import UPLOAD_FORMATS
from host.server.json_http import http_error, json_response
from host.server.routes.view import alpha_of, locate, open_image
from host.server.state import HOST
from host.server.threads import entered_in_thread
from host.strict_json import parse_untrusted

__all__ = ["ROUTES"]

_OWNER_ONLY = 0o600  # until the content is checked
_MAX_PARTS = 32
_MAX_FIELD_BYTES = 64 * 1024
_MAX_HEADER_BYTES = 16 * 1024 * 1024

_parsing = threading.Lock()  # what is parsed from a file may take ten times its size


@dataclass(frozen=True)
class _Form:
    """An upload's form: the file's name and the other fields."""

    name: str
    fields: dict[str, str]


async def upload_image(request: web.Request) -> web.Response:
    """Store a file in a folder. If the name is taken by different content, the file gets a number."""
    folders = request.app[HOST].folders
    async with entered_in_thread(_temporary(folders)) as temporary:
        form = await _receive(request, temporary)
        return await asyncio.to_thread(_check_and_store, folders, form, temporary)


async def upload_mask(request: web.Request) -> web.Response:
    """Store the picture named by `original_ref` with the uploaded picture's transparency."""
    folders = request.app[HOST].folders
    async with entered_in_thread(_temporary(folders)) as temporary:
        form = await _receive(request, temporary)
        return await asyncio.to_thread(_mask_and_store, folders, form, temporary)


# -- receiving


@contextmanager
def _temporary(folders: Folders) -> Iterator[Path]:
    """Create the file that receives an upload, for the block."""
    folders.temp.mkdir(parents=True, exist_ok=True)
    with temporary_file(folders.temp, ".upload", _OWNER_ONLY) as path:
        yield path


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    with path.open("wb") as file:
        yield file


async def _receive(request: web.Request, temporary: Path) -> _Form:
    """Read the form to its end, with the file streamed to disk; 413 as soon as it is too large."""
    if not request.content_type.startswith("multipart/"):
        raise http_error(400, "expected a multipart form with an 'image' file")
    try:
        async with entered_in_thread(_opened(temporary)) as file:
            form = await _read_parts(request, file)
        if not form.name:
            raise http_error(400, "the form has no 'image' file with a name")
        plain_file_name(form.name)
        return form
    except (ValueError, AssertionError, RuntimeError, LookupError) as error:  # aiohttp raises them for malformed forms
        raise http_error(400, f"the form is malformed: {error}") from error


async def _read_parts(request: web.Request, file: IO[bytes]) -> _Form:
    name, fields = "", {}
    reader = await request.multipart()
    for _ in range(_MAX_PARTS):
        part = await reader.next()
        if part is None:
            break
        if not isinstance(part, BodyPartReader) or part.name is None:
            raise http_error(400, "expected named form fields")
        if part.name == "image" and part.filename is not None:
            name = part.filename
            await _copy(part, file)
        else:
            fields[part.name] = (await _read_field(part)).decode()
    return _Form(name, fields)


async def _copy(part: BodyPartReader, file: IO[bytes]) -> None:
    size = 0
    while chunk := await part.read_chunk(1 << 16):
        size += len(chunk)
        if size > MAX_UPLOAD_BYTES:
            raise web.HTTPRequestEntityTooLarge(MAX_UPLOAD_BYTES, size)
        await asyncio.to_thread(file.write, chunk)


async def _read_field(part: BodyPartReader) -> bytes:
    data = bytearray()
    while chunk := await part.read_chunk(1 << 12):
        data += chunk
        if len(data) > _MAX_FIELD_BYTES:
            raise web.HTTPRequestEntityTooLarge(_MAX_FIELD_BYTES, len(data))
    return bytes(data)


# -- storing


def _check_and_store(folders: Folders, form: _Form, temporary: Path) -> web.Response:
    suffix = Path(form.name).suffix.lower()
    if suffix not in _CHECKS:
        raise http_error(415, f"files of type {suffix or '(none)'} are not accepted; accepted: {', '.join(_CHECKS)}")
    _CHECKS[suffix](temporary)
    return _store(folders, form, temporary)


def _mask_and_store(folders: Folders, form: _Form, temporary: Path) -> web.Response:
    _apply_mask(_original(folders, form.fields.get("original_ref", "")), temporary)
    return _store(folders, form, temporary)


def _store(folders: Folders, form: _Form, temporary: Path) -> web.Response:
    """Move the file to its name."""
    folder_type, subfolder = form.fields.get("type") or "input", form.fields.get("subfolder", "")
    folder = requested_path(folders.of_type(folder_type), subfolder)
    if folder.exists() and not folder.is_dir():
        raise http_error(400, "subfolder is the name of a file")
    target = requested_path(folder, form.name)
    overwrite = form.fields.get("overwrite", "").lower() in ("true", "1")
    if overwrite and target.is_dir():
        raise http_error(400, "the name is that of a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        os.chmod(temporary, 0o644)
        flush_to_disk(temporary)
        if overwrite:
            os.replace(temporary, target)
        else:
            target = claim_name(temporary, _numbered(target))
    except OSError as error:
        raise http_error(400, f"the file cannot be stored there: {error.strerror}") from error
    return json_response({"name": target.name, "subfolder": subfolder, "type": folder_type})


def _numbered(target: Path) -> Iterator[Path]:
    """Yield `target`, then `name (1).png`, `name (2).png`, ... next to it."""
    yield target
    for number in count(1):
        yield target.with_name(f"{target.stem} ({number}){target.suffix}")


# -- checking the content


def _check_image(path: Path) -> None:
    with open_image(path, UPLOAD_FORMATS):
        pass


def _check_json(path: Path) -> None:
    size = path.stat().st_size
    if size > MAX_BODY_BYTES:
        raise web.HTTPRequestEntityTooLarge(MAX_BODY_BYTES, size)
    try:
        with _parsing:
            parse_untrusted(path.read_bytes())
    except ValueError as error:
        raise http_error(400, f"the file cannot be accepted: {error}") from error


def _check_safetensors(path: Path) -> None:
    """Check the header: its length in 8 bytes, then a JSON object. Whoever reads the file checks the tensors."""
    with path.open("rb") as file:
        head = file.read(8)
        size = struct.unpack("<Q", head)[0] if len(head) == 8 else -1
        try:
            is_valid = 0 < size <= _MAX_HEADER_BYTES and isinstance(parse_untrusted(file.read(size)), dict)
        except ValueError:
            is_valid = False
    if not is_valid:
        raise http_error(400, "the file is not a safetensors file")


_CHECKS: dict[str, Callable[[Path], None]] = {
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"), _check_image),
    ".json": _check_json,
    ".safetensors": _check_safetensors,
}


# -- masks


def _original(folders: Folders, text: str) -> Path:
    """Return the picture that an upload's `original_ref` names."""
    try:
        reference = json.loads(text)
        name = reference["filename"]
        subfolder, folder_type = reference.get("subfolder", ""), reference.get("type", "output")
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError) as error:
        raise http_error(400, "original_ref must be an object with a filename") from error
    if not all(isinstance(value, str) for value in (name, subfolder, folder_type)):
        raise http_error(400, "original_ref must hold strings")
    path = locate(folders, name, subfolder, folder_type)
    if not path.is_file():
        raise http_error(404, "original_ref names no file")
    return path


def _apply_mask(source: Path, mask: Path) -> None:
    """Replace the mask file by the source's picture and metadata with the mask's transparency."""
    alpha = _drawn_alpha(mask)
    with open_image(source) as original:
        metadata = PngInfo()
        for key, text in original.info.items() if original.format == "PNG" else ():
            if isinstance(key, str) and isinstance(text, str):
                metadata.add_text(key, text)
        picture = original.convert("RGBA")
        if alpha.size != picture.size:
            alpha = alpha.resize(picture.size, Image.Resampling.BILINEAR)
        picture.putalpha(alpha)
        picture.save(mask, format="PNG", pnginfo=metadata, compress_level=4)


def _drawn_alpha(mask: Path) -> Image.Image:
    """Return the drawn transparency alone, so that the rest of the picture is not in memory beside the source."""
    with open_image(mask, UPLOAD_FORMATS) as drawn:
        return alpha_of(drawn)


ROUTES = [web.post("/upload/image", upload_image), web.post("/upload/mask", upload_mask)]

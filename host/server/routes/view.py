"""Downloading pictures: the files of the input, output and temp folders."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aiohttp import web
from PIL import Image

from host.folders import Folders, requested_path, split_annotation
from host.pictures import PictureError, decoding_slot, open_picture
from host.server.file_responses import serve_file
from host.server.json_http import http_error, json_response
from host.server.state import HOST
from host.server.threads import in_thread

__all__ = ["ROUTES", "locate", "open_image"]

_MAX_SIDE = {"webp": 16_383, "jpeg": 65_500}  # the formats of previews, and the most pixels that each can have in a row


def locate(folders: Folders, name: str, subfolder: str, folder_type: str) -> Path:
    """Return the path of a file reference; a name may be annotated with its folder, as in `x.png [temp]`."""
    name, folder_type = split_annotation(name, folder_type)
    if not name:
        raise http_error(400, "filename is missing")
    return requested_path(folders.of_type(folder_type), subfolder, name)


@contextmanager
def open_image(path: Path, formats: tuple[str, ...] | None = None) -> Iterator[Image.Image]:
    """Open and decode a picture, for the block.

    Raises:
        web.HTTPException: 400 for a file that is not a picture in these formats, is truncated, or has too many pixels.
    """
    try:
        picture = open_picture(path) if formats is None else open_picture(path, formats)
    except PictureError as error:
        raise http_error(400, str(error)) from error
    with picture, decoding_slot(picture):
        try:
            picture.load()
        except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
            raise http_error(400, "the file is not a picture that can be decoded") from error
        yield picture


@in_thread
def view(request: web.Request) -> web.StreamResponse:
    """Return a file, a small preview of it (`preview=webp;90`), or some of its channels (`channel=rgb|a`)."""
    query, folders = request.query, request.app[HOST].folders
    path = locate(folders, query.get("filename", ""), query.get("subfolder", ""), query.get("type", "output"))
    if not path.is_file():
        raise http_error(404, "there is no such file")
    channel = query.get("channel", "")
    if "preview" in query:
        return _preview(path, query["preview"], channel)
    if channel in _CHANNELS:
        return _channel(path, channel)
    return serve_file(path)


def _preview(path: Path, requested: str, channel: str) -> web.Response:
    """Return a preview in the requested format and quality, e.g. `webp;90`."""
    image_format, *rest = requested.split(";")
    if image_format not in _MAX_SIDE or "a" in channel:
        image_format = "webp"
    quality = int(rest[-1][:3]) if rest and rest[-1].isascii() and rest[-1].isdigit() else 90
    with open_image(path) as image:
        limit = _MAX_SIDE[image_format]
        if max(image.size) > limit:
            image.thumbnail((limit, limit))
        needs_rgb = image_format == "jpeg" or channel == "rgb" or image.mode not in _WEBP_MODES
        return _encode(image.convert("RGB") if needs_rgb else image, image_format, quality=min(max(quality, 1), 100))


def _channel(path: Path, channel: str) -> web.Response:
    with open_image(path) as image:
        return _encode(_CHANNELS[channel](image), "png")


def _encode(image: Image.Image, image_format: str, quality: int = 90) -> web.Response:
    buffer = io.BytesIO()
    image.save(buffer, format=image_format, quality=quality)
    return web.Response(body=buffer.getvalue(), content_type=f"image/{image_format}")


def _alpha_only(image: Image.Image) -> Image.Image:
    """Return the picture's transparency as the alpha of an otherwise black picture."""
    alpha = Image.new("RGBA", image.size)
    alpha.putalpha(image.convert("RGBA").getchannel("A"))
    return alpha


def _without_alpha(image: Image.Image) -> Image.Image:
    return image.convert("RGBA").convert("RGB")


_WEBP_MODES = ("RGB", "RGBA", "L")
_CHANNELS = {"rgb": _without_alpha, "a": _alpha_only}


@in_thread
def list_files(request: web.Request) -> web.Response:
    """Return the visible files of a folder, newest first, each annotated with the folder."""
    folder_type = request.match_info["kind"]
    folder = request.app[HOST].folders.of_type(folder_type)
    entries = folder.iterdir() if folder.is_dir() else ()
    files = [entry for entry in entries if entry.is_file() and not entry.name.startswith(".")]
    files.sort(key=lambda entry: -entry.stat().st_mtime)
    return json_response([f"{entry.name} [{folder_type}]" for entry in files])


ROUTES = [web.get("/view", view), web.get("/internal/files/{kind}", list_files)]

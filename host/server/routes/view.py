"""Downloading pictures: the files of the input, output and temp folders."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

from aiohttp import web
from aiohttp.payload import IOBasePayload
from PIL import Image

from host.folders import Folders, requested_path, split_annotation
from host.pictures import READ_FORMATS, PictureError, decoded_picture
from host.server.file_responses import serve_file
from host.server.json_http import http_error, json_response
from host.server.state import HOST
from host.server.threads import in_thread

__all__ = ["ROUTES", "alpha_of", "locate", "open_image"]

_MAX_SIDE = {"webp": 16_383, "jpeg": 65_500}  # the formats of previews, and the most pixels that each can have in a row
_LARGE_PIXELS = 4 << 20
_METHOD, _FAST_METHOD = 4, 2  # of WebP; from 3 on, its encoder holds all of a large picture's symbols in memory


def locate(folders: Folders, name: str, subfolder: str, folder_type: str) -> Path:
    """Return the path of a file reference; a name may be annotated with its folder, as in `x.png [temp]`."""
    name, folder_type = split_annotation(name, folder_type)
    if not name:
        raise http_error(400, "filename is missing")
    return requested_path(folders.of_type(folder_type), subfolder, name)


@contextmanager
def open_image(path: Path, formats: tuple[str, ...] = READ_FORMATS) -> Iterator[Image.Image]:
    """Open and decode a picture, for the block.

    Raises:
        web.HTTPException: 400 for a file that is not a picture in these formats, is truncated, or has too many pixels.
    """
    try:
        with decoded_picture(path, formats) as picture:
            yield picture
    except PictureError as error:
        raise http_error(400, str(error)) from error


@in_thread
def view(request: web.Request) -> web.StreamResponse:
    """Return a file, a small preview of it (`preview=webp;90`), or some of its channels (`channel=rgb|a`)."""
    query, folders = request.query, request.app[HOST].folders
    path = locate(folders, query.get("filename", ""), query.get("subfolder", ""), query.get("type", "output"))
    if not path.is_file():
        raise http_error(404, "there is no such file")
    channel = query.get("channel", "")
    if "preview" in query:
        return _preview(folders, path, query["preview"], channel)
    if channel in _CHANNELS:
        return _channel(folders, path, channel)
    return serve_file(path)


def _preview(folders: Folders, path: Path, requested: str, channel: str) -> web.Response:
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
        picture = image.convert("RGB") if needs_rgb else image
        return _encode(folders, picture, image_format, quality=min(max(quality, 1), 100))


def _channel(folders: Folders, path: Path, channel: str) -> web.Response:
    with open_image(path) as image:
        return _encode(folders, _CHANNELS[channel](image), "png")


def _encode(folders: Folders, image: Image.Image, image_format: str, quality: int = 90) -> web.Response:
    """Return the picture as a response. It lies in an unnamed file, because clients may be many, and slow to read."""
    is_large = image.width * image.height > _LARGE_PIXELS
    file = TemporaryFile(dir=folders.temp)
    try:
        image.save(file, format=image_format, quality=quality, method=_FAST_METHOD if is_large else _METHOD)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return web.Response(body=IOBasePayload(file, disposition=""), content_type=f"image/{image_format}")


def _alpha_only(image: Image.Image) -> Image.Image:
    """Return the picture's transparency as the alpha of an otherwise black picture."""
    picture = Image.new("RGBA", image.size)
    picture.putalpha(alpha_of(image))
    return picture


def alpha_of(image: Image.Image) -> Image.Image:
    """Return a picture's opacity, 255 where nothing is transparent, as a picture of one channel."""
    return (image if "A" in image.getbands() else image.convert("RGBA")).getchannel("A")


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

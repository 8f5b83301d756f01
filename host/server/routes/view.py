"""Pictures out: the files of the input, output and temporary folders."""

from __future__ import annotations

import asyncio
import io
import warnings
from pathlib import Path

from aiohttp import web
from PIL import Image

from .files import serve_file
from .paths import inside
from .state import HOST, Host
from .wire import problem, reply

__all__ = ["ROUTES", "folder_of", "locate", "open_image"]

_KINDS = ("input", "output", "temp")
_PREVIEWS = ("webp", "jpeg")
MAX_PIXELS = 64 * 1024 * 1024


def folder_of(host: Host, kind: str) -> Path:
    """The folder behind a file reference's ``type``; 400 for an unknown one."""
    if kind not in _KINDS:
        raise problem(400, f"type must be one of {', '.join(_KINDS)}")
    return getattr(host.folders, kind)


def locate(host: Host, name: str, subfolder: str, kind: str) -> Path:
    """The path of a file reference; a name may carry its folder itself, as in ``x.png [temp]``."""
    for annotated in _KINDS:
        if name.endswith(f" [{annotated}]"):
            name, kind = name.removesuffix(f" [{annotated}]"), annotated
    if not name:
        raise problem(400, "filename is missing")
    return inside(folder_of(host, kind), subfolder, name)


def open_image(path: Path) -> Image.Image:
    """The decoded picture; 400 for a file that is none or is cut off, or that would unpack to too many pixels."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path)
        if image.width * image.height > MAX_PIXELS:
            image.close()
            raise problem(400, f"the picture has more than {MAX_PIXELS} pixels")
        image.load()
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise problem(400, "the file is not a picture that can be decoded") from error
    return image


async def view(request: web.Request) -> web.StreamResponse:
    """A file as it is, as a small preview (``preview=webp;90``), or one part of its channels (``channel=rgb|a``)."""
    query = request.query
    path = locate(request.app[HOST], query.get("filename", ""), query.get("subfolder", ""), query.get("type", "output"))
    if not path.is_file():
        raise problem(404, "there is no such file")
    channel = query.get("channel", "")
    if "preview" in query:
        return await asyncio.to_thread(_preview, path, query["preview"], channel)
    if channel in _CHANNELS:
        return await asyncio.to_thread(_channel, path, channel)
    return serve_file(path)


def _preview(path: Path, wish: str, channel: str) -> web.Response:
    kind, *rest = wish.split(";")
    if kind not in _PREVIEWS or "a" in channel:
        kind = "webp"
    quality = int(rest[-1][:3]) if rest and rest[-1].isascii() and rest[-1].isdigit() else 90
    with open_image(path) as image:
        plain = image.convert("RGB") if kind == "jpeg" or channel == "rgb" or image.mode not in _WEBP else image
        return _encoded(plain, kind, quality=min(max(quality, 1), 100))


def _channel(path: Path, channel: str) -> web.Response:
    with open_image(path) as image:
        return _encoded(_CHANNELS[channel](image), "png")


def _encoded(image: Image.Image, kind: str, quality: int = 90) -> web.Response:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, quality=quality)
    return web.Response(body=buffer.getvalue(), content_type=f"image/{kind}")


def _alpha(image: Image.Image) -> Image.Image:
    """The transparency alone, as the alpha of an otherwise black picture."""
    alpha = Image.new("RGBA", image.size)
    alpha.putalpha(image.convert("RGBA").getchannel("A"))
    return alpha


def _opaque(image: Image.Image) -> Image.Image:
    return image.convert("RGBA").convert("RGB")


_WEBP = ("RGB", "RGBA", "L")
_CHANNELS = {"rgb": _opaque, "a": _alpha}


async def list_files(request: web.Request) -> web.Response:
    """The visible files of a folder, newest first, with the folder's name behind each."""
    kind = request.match_info["kind"]
    folder = folder_of(request.app[HOST], kind)
    entries = folder.iterdir() if folder.is_dir() else ()
    files = [entry for entry in entries if entry.is_file() and not entry.name.startswith(".")]
    files.sort(key=lambda entry: -entry.stat().st_mtime)
    return reply([f"{entry.name} [{kind}]" for entry in files])


ROUTES = [web.get("/view", view), web.get("/internal/files/{kind}", list_files)]

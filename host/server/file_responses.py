"""Files written so that a crash leaves the old one or the new one, and served so that a browser runs none of them."""

from __future__ import annotations

import mimetypes
import os
import tempfile
from pathlib import Path

from aiohttp import web

from .wire import problem

__all__ = ["file_info", "serve_file", "write_file"]

# Everything else is downloaded, never shown: html, svg, css and scripts from a user's folder would run as our page.
_SHOWN = (
    "image/png",
    "image/jpeg",
    "image/webp",
    "image/gif",
    "image/bmp",
    "image/avif",
    "text/plain",
    "application/json",
    "audio/",
    "video/",
)


def write_file(path: Path, data: bytes) -> None:
    """Writes ``data`` under a temporary name beside ``path``, then takes its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def serve_file(path: Path, *, download: bool = False) -> web.FileResponse:
    """The file with a type that no browser runs; ``download`` keeps it from being shown. 404 if there is none."""
    if not path.is_file():
        raise problem(404, "there is no such file")
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    shown = kind.startswith(_SHOWN)
    name = path.name.encode("ascii", "replace").decode().replace('"', "_").replace("\\", "_")
    return web.FileResponse(
        path,
        headers={
            "Content-Type": kind if shown else "application/octet-stream",
            "Content-Disposition": f'{"inline" if shown and not download else "attachment"}; filename="{name}"',
            "Cache-Control": "no-cache",
        },
    )


def file_info(path: Path, root: Path) -> dict[str, object]:
    """What lists say of a file: its path below ``root``, size in bytes, and times in milliseconds since 1970."""
    stat = path.stat()
    return {
        "path": path.relative_to(root).as_posix(),
        "size": stat.st_size,
        "modified": int(stat.st_mtime * 1000),
        "created": int(stat.st_ctime * 1000),
    }

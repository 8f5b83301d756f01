"""Files as responses: served with types that no browser executes, and described for lists."""

from __future__ import annotations

import mimetypes
from pathlib import Path

from aiohttp import web

from host.server.json_http import http_error

__all__ = ["file_info", "serve_file"]

# Every other type is only downloaded: HTML, SVG, CSS and scripts from a user's folder would run as part of our page.
_SHOWN_TYPES = (
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


def serve_file(path: Path, *, download: bool = False) -> web.FileResponse:
    """Return the file with a type that no browser executes.

    Args:
        path: The file.
        download: Whether the browser should save the file instead of showing it.

    Raises:
        web.HTTPException: 404 if there is no such file.
    """
    if not path.is_file():
        raise http_error(404, "there is no such file")
    content_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    is_shown = content_type.startswith(_SHOWN_TYPES)
    name = path.name.encode("ascii", "replace").decode().replace('"', "_").replace("\\", "_")
    return web.FileResponse(
        path,
        headers={
            "Content-Type": content_type if is_shown else "application/octet-stream",
            "Content-Disposition": f'{"inline" if is_shown and not download else "attachment"}; filename="{name}"',
            "Cache-Control": "no-cache",
        },
    )


def file_info(path: Path, root: Path) -> dict[str, object]:
    """Return a file's entry in a list: its path below `root`, size in bytes, and times in milliseconds since 1970."""
    stat = path.stat()
    return {
        "path": path.relative_to(root).as_posix(),
        "size": stat.st_size,
        "modified": int(stat.st_mtime * 1000),
        "created": int(stat.st_ctime * 1000),
    }

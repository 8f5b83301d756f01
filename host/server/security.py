"""Access control: programs on this machine and the host's own page may call the host, other web sites may not.

Two attacks matter to a server on 127.0.0.1. A page of another site can send requests to it (cross-site requests), and
that site's name can be re-pointed to 127.0.0.1, so that the browser treats both as one site (DNS rebinding). The first
is visible in `Origin` and `Sec-Fetch-Site`, the second in `Host`. Programs send neither `Origin` nor `Sec-Fetch-*`
and pass. The content type of a request proves nothing, because many legitimate clients send none.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import socket
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.http import HttpProcessingError
from aiohttp.typedefs import Handler, Middleware

from host.folders import FolderError
from host.server.json_http import http_error, json_response

__all__ = ["answer_errors", "own_names", "same_site_only"]

log = logging.getLogger(__name__)

_PORTS = {"http": 80, "https": 443}
# Statuses for errors of the file system: an impossible name, a forbidden file, one that was just deleted, a full disk.
_FILE_ERROR_STATUS = {
    **dict.fromkeys((errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EINVAL), 400),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), 403),
    errno.ENOENT: 404,
    errno.ENOSPC: 507,
}
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "same-origin",
}


def own_names(listen: str, allowed: Iterable[str], data: Path) -> set[str]:
    """Return the names under which browsers may call: the allowed ones, and this machine's if others can reach it.

    Args:
        listen: The address to listen on. Any but this machine's own is warned of.
        allowed: Further names.
        data: The folder that everybody who reaches the host can read and write.
    """
    names = {*allowed, listen}
    if not _is_loopback(listen):
        log.warning(
            "listening on %s: everybody who reaches this machine can run prompts, and read and write its files "
            "in %s; there is no password",
            listen,
            data,
        )
        names |= {socket.gethostname(), socket.getfqdn()}
    return names


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def same_site_only(names: Iterable[str]) -> Middleware:
    """Return middleware that refuses requests from other sites.

    Args:
        names: Host names, besides `localhost` and any numeric address, under which this host may be called.
    """
    allowed = {name.lower() for name in names}

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        reason = _refusal(request, allowed)
        if reason:
            log.warning("refused %s %r: %s", request.method, request.path[:200], reason)
            raise http_error(403, reason)
        return await handler(request)

    return check


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every failure into its status, and add headers that stop browsers from guessing content types."""
    try:
        response = await handler(request)
    except web.HTTPException as error:
        error.headers.update(_HEADERS)
        raise
    except (FolderError, UnicodeError, web.RequestPayloadError, HttpProcessingError) as error:
        response = _json_error(400, str(error))
    except (ConnectionError, TimeoutError, asyncio.TimeoutError) as error:  # nobody reads the response any more
        log.debug("%s %r: the client disconnected: %r", request.method, request.path[:200], error)
        response = _json_error(400, "the request ended early")
    except sqlite3.Error as error:
        response = _store_error(request, error)
    except OSError as error:
        status = _FILE_ERROR_STATUS.get(error.errno or 0, 500)
        if status == 500:
            log.exception("%s %r failed", request.method, request.path[:200])
        response = _json_error(status, error.strerror or "the file system refused")
    except Exception:
        log.exception("%s %r failed", request.method, request.path[:200])
        response = _json_error(500, "the host failed on this request; its log says why")
    if not response.prepared:
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
    return response


def _store_error(request: web.Request, error: sqlite3.Error) -> web.Response:
    """Return 503 while another program holds the job store, 507 if the disk is full."""
    log.warning("%s %r: the job store cannot be used: %s", request.method, request.path[:200], error)
    if "full" in str(error):
        return _json_error(507, "the disk is full; the request was not stored")
    return _json_error(503, f"the job store cannot be used now ({error}); try again")


def _json_error(status: int, message: str) -> web.Response:
    return json_response({"error": message}, status)


def _refusal(request: web.Request, allowed: set[str]) -> str | None:
    """Return why a request is refused, or None."""
    host = request.headers.get("Host", "")
    if host and not _is_own_name(host, allowed):
        return "the Host header names another machine; start with --allow-host NAME to serve under that name"
    origin = request.headers.get("Origin")
    if origin is not None and not _same_origin(origin, host):
        return "the request comes from another web site"
    if request.headers.get("Sec-Fetch-Site") == "cross-site" and not _is_link_to_the_page(request):
        return "the request comes from another web site"
    return None


def _is_link_to_the_page(request: web.Request) -> bool:
    """Return whether a user followed a link to the editor from another page, which is harmless."""
    return (
        request.method == "GET"
        and request.path == "/"
        and request.headers.get("Sec-Fetch-Mode") == "navigate"
        and request.headers.get("Sec-Fetch-Dest") == "document"
    )


def _is_own_name(host: str, allowed: set[str]) -> bool:
    """Return whether a Host header names this host.

    Numeric addresses cannot be re-pointed and `localhost` is never resolved by DNS; other names must be allowed.
    """
    name = _netloc(f"//{host}", 80)[0]
    if name == "localhost" or name.endswith(".localhost") or name in allowed:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _same_origin(origin: str, host: str) -> bool:
    try:
        scheme = urlsplit(origin).scheme
    except ValueError:
        return False
    if scheme not in _PORTS:  # "null": a sandboxed frame or a local file
        return False
    return _netloc(origin, _PORTS[scheme]) == _netloc(f"//{host}", _PORTS[scheme])


def _netloc(url: str, default_port: int) -> tuple[str, int]:
    """Return the name and port of `url`; for a malformed one an impossible pair, which matches nothing allowed."""
    try:
        parts = urlsplit(url)
        return (parts.hostname or "").lower().rstrip("."), parts.port or default_port
    except ValueError:
        return "", -1

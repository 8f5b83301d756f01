"""Start, serve, stop: one host on one data directory."""

from __future__ import annotations

import asyncio
import importlib.util
import ipaddress
import logging
import signal
import socket
import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from aiohttp import web

from host import context
from host.execution.executor import Executor
from host.folders import Folders, default_folders
from host.registry import Registry

from .app import make_app
from .hub import Hub
from .info_routes import FEATURES
from .logs import LogBuffer
from .state import Host
from .store import JobStore
from .worker import Worker

__all__ = ["ServeError", "Settings", "serve"]

log = logging.getLogger(__name__)

_STOP_SECONDS = 5.0
_TEMP_DAYS = 7
_MAX_FILES = 65_536


class ServeError(Exception):
    """Why the host cannot start, as a sentence for the terminal."""


@dataclass(frozen=True)
class Settings:
    """Where and how to serve.

    Attributes:
        data: the folder that holds input, output, temp, user and the job store.
        port: the port, 0 for a free one.
        listen: the address to listen on.
        allowed_names: further host names under which browsers may call this host.
        opening: the workflow with which an empty editor opens.
    """

    data: Path
    port: int = 8188
    listen: str = "127.0.0.1"
    allowed_names: Sequence[str] = field(default_factory=tuple)
    opening: Path | None = None


def serve(registry: Registry, settings: Settings, out: IO[str] = sys.stdout) -> None:
    """Serves until SIGINT or SIGTERM; writes the address to ``out`` once requests are answered.

    Args:
        registry: the nodes, with their packs loaded: their routes are served too.

    Raises:
        ServeError: when the address or the data directory is taken.
    """
    asyncio.run(_serve(registry, settings, out))


async def _serve(registry: Registry, settings: Settings, out: IO[str]) -> None:
    _allow_many_connections()
    async with AsyncExitStack() as stack:
        folders = _make_folders(settings.data)
        stack.enter_context(_lock(settings.data))
        _drop_old_files(folders.temp)
        context.use_folders(folders)
        host = _assemble(registry, folders, settings, stack.enter_context(_log_buffer()))
        runner = web.AppRunner(make_app(host, _names(settings)), access_log=None, shutdown_timeout=_STOP_SECONDS)
        stack.push_async_callback(_stop, host, runner)
        await runner.setup()
        address = await _listen(runner, settings)
        stop = _stop_event()
        host.worker.start()
        out.write(f"The visual editor and the API are at {address}\n")
        out.flush()
        await stop.wait()
        log.info("stopping")


def _make_folders(data: Path) -> Folders:
    folders = default_folders(data)
    try:
        for folder in (folders.input, folders.output, folders.temp, folders.user / "default"):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ServeError(f"the data directory {data} cannot be used: {error.strerror}; choose another with "
                         "--data-directory") from error  # fmt: skip
    return folders


def _drop_old_files(folder: Path) -> None:
    """Temporary pictures are part of the history that the page shows: they stay for some days."""
    oldest = time.time() - _TEMP_DAYS * 86400
    for path in folder.rglob("*"):
        if path.is_file() and path.lstat().st_mtime < oldest:
            path.unlink()


def _allow_many_connections() -> None:
    """Idle connections of one client must not use up the files that the others need."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@contextmanager
def _log_buffer() -> Iterator[LogBuffer]:
    """Keeps what anybody logs, for the page's log panel."""
    buffer, root = LogBuffer(), logging.getLogger()
    root.addHandler(buffer)
    try:
        yield buffer
    finally:
        root.removeHandler(buffer)


def _lock(data: Path) -> IO[str]:
    """Two hosts on one job store would run its jobs twice. The lock goes with the process, however it ends."""
    file = (data / "user" / "host.lock").open("w")
    try:
        import fcntl
    except ImportError:  # Windows has another way, and one person on one machine
        return file
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise ServeError(
            f"another host uses the data directory {data}; stop it, or choose another with --data-directory"
        ) from error
    return file


def _assemble(registry: Registry, folders: Folders, settings: Settings, logs: LogBuffer) -> Host:
    loop = asyncio.get_running_loop()

    def post(call: Any, *args: Any) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(call, *args)

    hub = Hub(FEATURES)
    store = _open_store(folders.user / "jobs.sqlite3")
    worker = Worker(store, Executor(registry), hub, post)
    hub.greeting = worker.greeting
    logs.listener = lambda lines: post(hub.publish_log, lines)
    return Host(registry, folders, store, worker, hub, logs, _frontend(), settings.opening)


def _open_store(path: Path) -> JobStore:
    try:
        return JobStore(path)
    except sqlite3.DatabaseError as error:
        raise ServeError(
            f"the job store {path} cannot be used: {error}; move it away to start with an empty queue and history"
        ) from error


def _frontend() -> Path | None:
    spec = importlib.util.find_spec("comfyui_frontend_package")
    if spec is None or not spec.submodule_search_locations:
        log.warning(
            "the visual editor is not installed (pip install comfyui-frontend-package==1.58.1); only the API is served"
        )
        return None
    return Path(spec.submodule_search_locations[0]) / "static"


def _names(settings: Settings) -> set[str]:
    """Names under which a browser may call: those allowed, and this machine's where it can be called from outside."""
    names = {*settings.allowed_names, settings.listen}
    if not _is_loopback(settings.listen):
        log.warning(
            "listening on %s: everybody who reaches this machine can run prompts, read and write its files "
            "in %s; there is no password",
            settings.listen,
            settings.data,
        )
        names |= {socket.gethostname(), socket.getfqdn()}
    return names


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


async def _listen(runner: web.AppRunner, settings: Settings) -> str:
    site = web.TCPSite(runner, settings.listen, settings.port)
    try:
        await site.start()
    except OSError as error:
        raise ServeError(
            f"cannot listen on {settings.listen} port {settings.port}: {error.strerror}; choose another "
            "with --port (0 takes a free one)"
        ) from error
    name, port = runner.addresses[0][:2]
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


def _stop_event() -> asyncio.Event:
    """Set by SIGINT and SIGTERM. A second signal ends the process at once."""
    event = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop(number: int) -> None:
        event.set()
        loop.remove_signal_handler(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, stop, number)
        except NotImplementedError:  # Windows: Ctrl-C raises KeyboardInterrupt instead
            pass
    return event


async def _stop(host: Host, runner: web.AppRunner) -> None:
    """Pages first, so that they look for the next host at once; then the running job goes back into the queue."""
    await host.hub.close()
    await asyncio.to_thread(host.worker.stop, _STOP_SECONDS)
    await runner.cleanup()
    host.store.close()

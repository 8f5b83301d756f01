"""Starting, serving and stopping: one host on one data directory."""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import logging
import os
import signal
import socket
import sqlite3
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from aiohttp import web

from host import context
from host.atomic_files import delete_left_over
from host.engines.stamping import StampingExecutor
from host.folders import Folders, default_folders
from host.limits import MAX_HEADER_SECONDS
from host.packs import Registry
from host.server.app import frontend_folder, make_app
from host.server.jobs.crew import Crew
from host.server.jobs.store import JobStore
from host.server.jobs.worker import Worker
from host.server.log_buffer import LogBuffer, record_logs
from host.server.memory import return_large_blocks
from host.server.routes.system import FEATURES
from host.server.security import own_names
from host.server.state import Host
from host.server.websockets import WebSockets
from host.workers.contract import Pool

__all__ = ["ServeError", "Settings", "serve"]

log = logging.getLogger(__name__)

_STOP_SECONDS = 5.0
_TEMP_DAYS = 7
_MAX_OPEN_FILES = 65_536


class ServeError(Exception):
    """The host cannot start. The message is shown to the user."""


@dataclass(frozen=True)
class Settings:
    """Where and how to serve.

    Attributes:
        data: The folder that holds input, output, temp, user and the job store.
        port: The port, 0 for a free one.
        listen: The address to listen on.
        allowed_names: Further host names under which browsers may call this host.
        opening: The workflow with which an empty editor opens.
    """

    data: Path
    port: int = 8188
    listen: str = "127.0.0.1"
    allowed_names: Sequence[str] = field(default_factory=tuple)
    opening: Path | None = None


def serve(registry: Registry, settings: Settings, out: IO[str] = sys.stdout, *, pool: Pool | None = None) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        registry: The nodes, with their packs loaded, so that the packs' routes are served too.
        settings: Where and how to serve.
        out: Receives the host's address as soon as requests are answered.
        pool: Workers elsewhere that run the prompts; None to run them in this process.

    Raises:
        ServeError: The address or the data directory is in use.
    """
    if asyncio.run(_serve(registry, settings, out, pool)):
        _end_process(out)


def _end_process(out: IO[str]) -> None:
    """End the process while a node still runs. Its job is on disk, and the next start runs it again.

    Python's own way out would tear down the modules that the node's thread is using, which aborts the process.
    """
    log.warning("a node did not stop in time; it is ended with the host")
    logging.shutdown()
    for stream in (out, sys.stdout, sys.stderr):
        stream.flush()
    os._exit(0)


async def _serve(registry: Registry, settings: Settings, out: IO[str], pool: Pool | None) -> bool:
    """Serve until a signal. Returns whether a node is still running."""
    _raise_file_limit()
    return_large_blocks()
    async with AsyncExitStack() as stack:
        folders = _make_folders(settings.data)
        stack.enter_context(_lock(settings.data))
        for folder in (folders.input, folders.output, folders.temp, folders.user):
            delete_left_over(folder)
        _delete_old_files(folders.temp)
        context.use_folders(folders)
        host = _assemble(registry, folders, settings, stack.enter_context(record_logs()), pool)
        runner = web.AppRunner(
            make_app(host, own_names(settings.listen, settings.allowed_names, settings.data)),
            access_log=None,
            shutdown_timeout=_STOP_SECONDS,
            keepalive_timeout=MAX_HEADER_SECONDS,
        )
        stack.push_async_callback(_stop, host, runner)
        await runner.setup()
        _exclude_from_garbage_collection()
        address, *elsewhere = await _listen(runner, settings)
        stop = _stop_event()
        host.worker.start()
        out.write(f"The visual editor and the API are at {address}\n")
        out.writelines(f"Other machines reach them at {other}\n" for other in elsewhere)
        out.flush()
        await stop.wait()
        log.info("stopping")
    return host.worker.is_running()


def _exclude_from_garbage_collection() -> None:
    """Leave what is loaded by now out of later collections: walking torch's objects stops every thread for long."""
    gc.collect()
    gc.freeze()


# -- the data directory


def _make_folders(data: Path) -> Folders:
    folders = default_folders(data)
    try:
        for folder in (folders.input, folders.output, folders.temp, folders.user / "default"):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(data, error) from error
    return folders


def _unusable(data: Path, error: OSError) -> ServeError:
    return ServeError(
        f"the data directory {data} cannot be used: {error.strerror}; choose another with --data-directory"
    )


def _delete_old_files(folder: Path) -> None:
    """Delete old temporary pictures. They stay for some days, because the page's history shows them."""
    oldest = time.time() - _TEMP_DAYS * 86400
    for path in folder.rglob("*"):
        try:
            if path.is_file() and path.lstat().st_mtime < oldest:
                path.unlink()
        except OSError as error:
            log.warning("the old file %s cannot be deleted: %s", path, error.strerror)


def _lock(data: Path) -> IO[str]:
    """Lock the data directory: two hosts on one job store would run its jobs twice.

    The lock is released when the process ends, however it ends.
    """
    try:
        file = (data / "user" / "host.lock").open("w")
    except OSError as error:
        raise _unusable(data, error) from error
    try:
        import fcntl
    except ImportError:  # Windows has no such locks
        return file
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise ServeError(
            f"another host uses the data directory {data}; stop it, or choose another with --data-directory"
        ) from error
    return file


# -- the host's parts


def _assemble(registry: Registry, folders: Folders, settings: Settings, logs: LogBuffer, pool: Pool | None) -> Host:
    loop = asyncio.get_running_loop()

    def post(call: Any, *args: Any) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(call, *args)

    websockets = WebSockets(FEATURES)
    store = _open_store(folders.user / "jobs.sqlite3")
    worker: Worker | Crew
    if pool is None:
        worker = Worker(store, StampingExecutor(registry), websockets, post)
    else:
        worker = Crew(pool, store, registry, folders, websockets, post)
    websockets.status, websockets.greeting = worker.status, worker.greeting
    logs.listener = lambda lines: post(websockets.publish_log, lines)
    return Host(registry, folders, store, worker, websockets, logs, frontend_folder(), settings.opening)


def _open_store(path: Path) -> JobStore:
    try:
        return JobStore(path)
    except (sqlite3.DatabaseError, OSError) as error:
        raise ServeError(
            f"the job store {path} cannot be used: {error}; move it away to start with an empty queue and history"
        ) from error


# -- the network


def _raise_file_limit() -> None:
    """Allow many open files, so that one client's idle connections cannot block the others."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _listen(runner: web.AppRunner, settings: Settings) -> list[str]:
    """Start to listen. Returns URLs of the host: for this machine first, then for others if they can reach it."""
    site = web.TCPSite(runner, settings.listen, settings.port)
    try:
        await site.start()
    except OSError as error:
        raise ServeError(
            f"cannot listen on {settings.listen} port {settings.port}: {error.strerror}; choose another "
            "with --port (0 takes a free one)"
        ) from error
    name, port = runner.addresses[0][:2]
    return _reachable_at(name, port)


def _reachable_at(name: str, port: int) -> list[str]:
    """Return URLs of a socket that can be opened: for this machine, and for others if it listens everywhere.

    Args:
        name: The numeric address that the socket is bound to.
        port: Its port.
    """
    address = ipaddress.ip_address(name)
    hosts = [name]
    if address.is_unspecified:
        hosts = ["127.0.0.1", _address_in_network()] if address.version == 4 else ["::1", socket.gethostname()]
    return [f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}" for host in hosts]


def _address_in_network() -> str:
    """Return this machine's address as other machines see it, or its name if it is in no network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address for documents; only a route is chosen, nothing is sent
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostname()


# -- stopping


def _stop_event() -> asyncio.Event:
    """Return an event that SIGINT and SIGTERM set. A second signal ends the process at once."""
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
    """Stop serving. Pages are disconnected first, so that they reconnect early; then the running job is put back."""
    await host.websockets.close()
    await asyncio.to_thread(host.worker.stop, _STOP_SECONDS)
    await runner.cleanup()
    host.store.close()

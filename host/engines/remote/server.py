"""A running server as an engine: what `contract.Engine` asks for, in requests of ComfyUI's protocol."""

from __future__ import annotations

import concurrent.futures
import logging
import queue
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from host.engines.contract import Emit, EngineError, EngineLost, Job, JobResult, OutputFile
from host.engines.digests import job_digest
from host.engines.environment import describe
from host.engines.output_files import NamedFile, finished_file, named_files, renumbered
from host.engines.remote.client import Answer, Client, Unreachable
from host.engines.remote.history import HistoryEntry
from host.engines.remote.job_run import JobRun, Refused
from host.error_format import shorten, show
from host.execution.shown_files import ShownFile
from host.folders import FolderError, plain_file_name, split_annotation

__all__ = ["RemoteServer"]

log = logging.getLogger(__name__)

_MAX_FILES = 10_000  # of one job
_MAX_JOB_BYTES = 2 << 30  # of all files of one job
_RETURN_SECONDS = 120.0  # how long a server that was lost may take to come back
_RETRY_SECONDS = 0.5
_MAX_DEVICES = 64
_MAX_NAME_CHARACTERS = 200
# "cuda:0 NVIDIA H100 80GB HBM3 : cudaMallocAsync": the number and the allocator are no part of the device's name.
_DEVICE = re.compile(r"^(?:(?:cuda|xpu|mps|npu|mlu|privateuseone)(?::\d+)? )?(.*?)(?: : \w+)?$")


class RemoteServer:
    """Runs jobs on a server. The methods are those of `contract.Engine`, and raise what it says.

    Args:
        client: The connection. `close` closes it.
        is_alive: Tells whether the server's process lives; always true for one that is not ours.
        known: What is known of the environment without asking the server: arguments of `environment.describe`.
        is_ours: Whether the server can be started again if it has not the files that it names.

    Attributes:
        last_files: The files that the last job named, under the server's own names.
    """

    def __init__(
        self,
        client: Client,
        is_alive: Callable[[], bool] = lambda: True,
        known: Mapping[str, Any] | None = None,
        *,
        is_ours: bool = False,
    ) -> None:
        self._client, self._is_alive, self._known, self._is_ours = client, is_alive, dict(known or {}), is_ours
        self.last_files: list[ShownFile] = []
        self._environment: dict[str, Any] | None = None
        self._running: JobRun | None = None
        self._given_up: JobRun | None = None  # a job that the server may still run
        self._was_lost = False

    # -- what it is

    def check(self) -> None:
        """Check that the server answers and is one. Raises EngineError."""
        self._described()

    def environment(self) -> dict[str, Any]:
        """Return what pictures are made with."""
        return self._described()

    def command_line(self) -> list[str]:
        """Return the arguments that the server says it was started with; none if it does not answer yet."""
        try:
            body = self._client.call(self._client.get("/system_stats")).body
        except (Unreachable, EngineError):
            return []
        system = body.get("system") if isinstance(body, dict) else None
        argv = system.get("argv") if isinstance(system, dict) else None
        return [argument for argument in argv if isinstance(argument, str)] if isinstance(argv, list) else []

    def object_info(self) -> dict[str, dict[str, Any]]:
        """Return the node classes. They are not checked beyond being objects: see `object_info.registry_from`."""
        body = self._ask(self._client.get("/object_info")).body
        if not isinstance(body, dict) or not body:
            raise self._no_server("its /object_info is no list of node classes")
        return {name: info for name, info in body.items() if isinstance(info, dict)}

    def _described(self) -> dict[str, Any]:
        if self._environment is None:
            body = self._ask(self._client.get("/system_stats")).body
            system = body.get("system") if isinstance(body, dict) else None
            devices = body.get("devices") if isinstance(body, dict) else None
            if not isinstance(system, dict) or not isinstance(devices, list):
                raise self._no_server("its /system_stats does not describe a system and its devices")
            libraries = {"python": _version(system, "python_version"), "torch": _version(system, "pytorch_version")}
            self._environment = describe(
                "comfyui",
                _version(system, "comfyui_version"),
                [_device_name(device) for device in devices[:_MAX_DEVICES]],
                libraries={name: version for name, version in libraries.items() if version},
                **self._known,
            )
        return self._environment

    def _no_server(self, reason: str) -> EngineError:
        return EngineError(
            f"{self._client.address} answers, but it is not a ComfyUI: {reason}; is the port that of another program?"
        )

    # -- input files

    def put_inputs(self, files: Mapping[str, bytes]) -> None:
        """Upload files that the server does not have yet; one with another content is replaced."""
        for annotated, data in files.items():
            name, folder_type = split_annotation(annotated, "input")
            path = PurePosixPath(name)
            subfolder = "" if path.parent == PurePosixPath() else str(path.parent)
            try:
                plain_file_name(path.name)
            except FolderError as error:
                raise EngineError(f"the input file {show(annotated)} cannot be uploaded: {error}") from error
            place = {"subfolder": subfolder, "type": folder_type}
            there = self._stored(path.name, place, len(data))
            if there == data:
                continue
            if there is not None:
                log.warning("%s on %s is replaced by the file of this machine", annotated, self._client.address)
            answer = self._ask(self._client.upload("/upload/image", path.name, data, {**place, "overwrite": "true"}))
            self._check_upload(annotated, path.name, answer)

    def _stored(self, name: str, place: Mapping[str, str], size: int) -> bytes | None:
        """Return the file of that name, b"" if it is larger than `size`, or None if there is none."""
        try:
            return self._ask(self._client.download("/view", {"filename": name, **place}, limit=size))
        except EngineError:
            return b""

    def _check_upload(self, annotated: str, name: str, answer: Answer) -> None:
        stored = answer.body.get("name") if isinstance(answer.body, dict) else None
        if answer.status != 200 or stored != name:
            reason = f"it answers {answer.status}" if stored is None else f"it calls the file {show(stored)}"
            raise EngineError(
                f"the input file {show(annotated)} cannot be uploaded to {self._client.address}: {reason}"
                f"{'' if answer.body is None or stored else ' ' + show(answer.body, 300)}"
            )

    # -- jobs

    def run(self, job: Job, emit: Emit, models: Mapping[str, Any] | None = None) -> JobResult:
        """Run a job, and block until it ended.

        Args:
            job: The job.
            emit: Receives its events, in this thread.
            models: What is known of the model files that the job reads, for the environment of its pictures.
        """
        self._withdraw()
        facts = {**self._described(), **({"models": dict(models)} if models else {})}
        events: queue.SimpleQueue[tuple[str, dict[str, Any]] | None] = queue.SimpleQueue()
        self._running = run = JobRun(self._client, job, events, self._is_alive)
        started = time.perf_counter()
        work = self._client.submit(self._work(run, job, facts))
        work.add_done_callback(lambda _: events.put(None))
        try:
            while (event := events.get()) is not None:
                emit(*event)
            entry, files = work.result()
        except Refused as error:
            return JobResult("error", {}, (), job_digest(()), str(error), time.perf_counter() - started)
        except concurrent.futures.CancelledError:
            raise EngineLost(f"the connection to {self._client.address} was closed") from None
        except BaseException as error:  # also a second Ctrl-C
            self._given_up, self._was_lost = run, isinstance(error, EngineLost)
            work.cancel()
            raise
        finally:
            self._running = None
        seconds = time.perf_counter() - started if entry.seconds is None else entry.seconds
        status, problem = entry.status, entry.error
        if status == "success" and isinstance(files, str):
            status, problem = "error", files
        files, outputs = renumbered(() if isinstance(files, str) else files, entry.outputs)
        return JobResult(status, outputs, files, job_digest(files), problem, seconds, entry.meta, entry.messages)

    def interrupt(self) -> None:
        """Stop the running job, if there is one."""
        run = self._running
        if run is not None:
            with suppress(Unreachable):  # it was closed meanwhile
                self._client.submit(run.cancel())

    def close(self) -> None:
        """Take a job that may still run from the server, and disconnect. May be called more than once."""
        if self._client.is_closed:
            return
        self._given_up = self._running or self._given_up
        self._withdraw()
        self._client.close()

    async def _work(
        self, run: JobRun, job: Job, facts: Mapping[str, Any]
    ) -> tuple[HistoryEntry, tuple[OutputFile, ...] | str]:
        """Run a job and fetch its files. What cannot be fetched is a sentence in their place."""
        entry = await run.execute()
        named = list(named_files(entry.outputs, job.prompt, entry.meta))
        if len(named) > _MAX_FILES:
            return entry, f"the server names {len(named)} files of one job; at most {_MAX_FILES} are fetched"
        self.last_files = [each.file for each in named]
        files, size = [], 0
        for each in named:
            data = await self._fetch(each)
            if data is None:
                problem = f"node {each.node_id} names the file {show(each.file.filename)}, which the server has not"
                if self._is_ours:  # it was deleted after it was cached; a new server makes it again
                    raise EngineLost(problem)
                return entry, problem
            size += len(data)
            if size > _MAX_JOB_BYTES:
                return entry, f"the files of one job have more than {_MAX_JOB_BYTES >> 30} GiB"
            file = finished_file(each, data, job, facts)
            files.append(replace(file, filename=_plain_name(file.filename), subfolder=shorten(file.subfolder, 1024)))
        return entry, tuple(files)

    async def _fetch(self, named: NamedFile) -> bytes | None:
        query = {"filename": named.file.filename, "subfolder": named.file.subfolder, "type": named.file.type}
        try:
            return await self._client.download("/view", query)
        except Unreachable as error:
            raise EngineLost(f"{self._client.address} does not give out its files any more: {error}") from error

    def _withdraw(self) -> None:
        """Take a job that was given up from the server: nobody waits for it."""
        run, self._given_up = self._given_up, None
        if run is not None and self._is_alive():
            with suppress(Unreachable):  # nothing can be taken from a server that is gone
                self._client.call(run.send_cancel())

    # -- requests

    def _ask(self, work: Any) -> Any:
        """Return the answer to a request that may be repeated; wait for a server that was lost to come back."""
        try:
            return self._client.call(work)
        except Unreachable as error:
            if not self._is_alive():
                raise EngineLost(f"{self._client.address} does not answer: {error}") from error
            raise EngineError(
                f"nothing answers at {self._client.address}: {error}; start ComfyUI there, or correct the address"
            ) from error

    def wait_until_back(self) -> None:
        """After the server was lost, wait until it answers again. Raises EngineError if it does not in time."""
        end = time.monotonic() + _RETURN_SECONDS
        while self._was_lost:
            try:
                self._client.call(self._client.get("/system_stats"))
                self._was_lost, self._environment = False, None  # it may be another version now
            except Unreachable as error:
                if time.monotonic() > end:
                    raise EngineError(f"{self._client.address} did not come back: {error}") from error
                time.sleep(_RETRY_SECONDS)


def _plain_name(name: str) -> str:
    """Return a file's name without the folders that a node, or a server on Windows, may have put before it."""
    return PurePosixPath(name.replace("\\", "/")).name[-_MAX_NAME_CHARACTERS:] or "file"


def _version(system: Mapping[str, Any], key: str) -> str:
    """Return a version without what the builder adds, as in "3.11.7 (main, ...) [GCC 12.2.0]"."""
    value = system.get(key)
    return shorten(value.split()[0], _MAX_NAME_CHARACTERS) if isinstance(value, str) and value.split() else ""


def _device_name(device: Any) -> str:
    name = device.get("name") if isinstance(device, dict) else None
    match = _DEVICE.match(shorten(name, _MAX_NAME_CHARACTERS)) if isinstance(name, str) else None
    return match[1] if match else "unknown"

"""The engine that runs jobs in this process, with the nodes of this project or of other packs.

All its files are in its own folder, so that two engines on one machine never see each other's. `input/` holds what
`put_inputs` was given and nothing else: a job depends on no file that happens to lie on the machine that runs it, and
whoever hands out jobs puts the files that they read.

Every job finds `output/` as `put_inputs` left it, so files have the same names whatever ran before. That is why nodes
that write files are never cached here; what they depend on is.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from host import context, folders
from host.atomic_files import without_flushing, write_file
from host.engines.contract import Emit, EngineError, Job, JobResult, OutputFile
from host.engines.digests import job_digest
from host.engines.environment import describe_process
from host.engines.output_files import NamedFile, finished_file, named_files, renumbered, unnamed_files
from host.engines.spec import EngineSpec
from host.error_format import show
from host.execution.executor import Executor, RunResult
from host.folders import FolderError, default_folders, requested_path, split_annotation
from host.packs import PackError, load_packs
from host.validation import Validation, validate

__all__ = ["EmbeddedEngine"]


class EmbeddedEngine:
    """Runs jobs with `host.execution` in this process; see `contract.Engine` for the methods.

    Threads, and what `exact` switches off, are settings of the whole process: an engine is meant to be its only one.

    Args:
        spec: Packs, threads and `exact`; the rest plays no role here.
        folder: A private folder. The caller makes and deletes it.
        name: What the user calls the engine.

    Raises:
        EngineError: A pack cannot be loaded.
    """

    def __init__(self, spec: EngineSpec, folder: Path, name: str) -> None:
        self.name = name
        self._spec = spec
        self._packs = [Path(pack) for pack in spec.packs] or [folders.ROOT]
        self._folders = default_folders(folder)
        self._put: set[Path] = set()  # files of `put_inputs`, which no job made
        self._cancel: threading.Event | None = None  # of the running job
        for path in (self._folders.input, self._folders.output, self._folders.temp):
            path.mkdir(parents=True, exist_ok=True)
        _configure(spec)
        try:
            with self._own_folders():
                self._registry = load_packs(self._packs)
        except PackError as error:
            raise EngineError(str(error)) from error
        self._executor = Executor(self._registry)

    def environment(self) -> dict[str, Any]:
        """Return what pictures are made with."""
        return self._environment

    @cached_property
    def _environment(self) -> dict[str, Any]:
        return describe_process(self._packs, exact=self._spec.exact)

    def object_info(self) -> dict[str, dict[str, Any]]:
        """Return the node classes as `GET /object_info` does."""
        with self._own_folders():
            return self._registry.all_object_info()

    def put_inputs(self, files: Mapping[str, bytes]) -> None:
        """Put files into the input folder, or, for a name such as "x.png [output]", into that folder.

        Raises:
            EngineError: A name leads out of its folder. No file is written then.
        """
        try:
            paths = {}
            for name, data in files.items():
                plain, folder_type = split_annotation(name, "input")
                paths[self._path(folder_type, plain)] = data
        except FolderError as error:
            raise EngineError(f"an input file cannot be put: {error}") from error
        for path, data in paths.items():
            write_file(path, data)
            self._put.add(path)

    def run(self, job: Job, emit: Emit) -> JobResult:
        """Run a job, and block until it ended.

        The caller has validated the prompt. If it cannot be run here all the same, the result is an error.
        """
        started, cancel = time.perf_counter(), threading.Event()
        self._cancel = cancel
        try:
            with self._own_folders(), without_flushing():  # the files are in the result before they are deleted
                checked = validate(job.prompt, self._registry, job.targets)
                if not checked.ok:
                    return _refused(checked, time.perf_counter() - started)
                result = self._executor.run(checked.prompt, job.id, checked.outputs, job.extra_data, emit, cancel)
                files, outputs = renumbered(list(self._collect(job, result)), result.outputs)
        finally:
            self._cancel = None
        return JobResult(
            result.status,
            outputs,
            files,
            job_digest(files),
            _sentence(result),
            time.perf_counter() - started,
            result.meta,
            list(result.messages),
        )

    def interrupt(self) -> None:
        """Stop the running job between two steps, if there is one."""
        cancel = self._cancel  # read once and without a lock: a signal may come at any place of `run`
        if cancel is not None:
            cancel.set()

    def close(self) -> None:
        """Drop what is cached: models above all. The folder is the caller's."""
        self.interrupt()
        self._executor.free()

    @contextmanager
    def _own_folders(self) -> Iterator[None]:
        before = context.use_folders(self._folders)
        try:
            yield
        finally:
            context.use_folders(before)

    def _path(self, folder_type: str, *parts: str) -> Path:
        path = requested_path(self._folders.of_type(folder_type), *parts)
        if path == self._folders.of_type(folder_type).resolve():
            raise FolderError(f"expected a file name, got {show(parts)}")
        return path

    def _collect(self, job: Job, result: RunResult) -> Iterator[OutputFile]:
        """Yield the files that the job wrote, then delete them.

        Files in `temp/` that the outputs name stay: cached nodes in the middle of a graph show them again.
        """
        named: list[tuple[Path, NamedFile]] = []
        for entry in named_files(result.outputs, job.prompt, result.meta):
            try:
                named.append((self._path(entry.file.type, entry.file.subfolder, entry.file.filename), entry))
            except FolderError:
                continue  # a node's own idea of a reference
        output, known = self._folders.output.resolve(), {*self._put, *(path for path, _ in named)}
        named += unnamed_files(output, (path for path in _files_below(output) if path not in known))
        for path, entry in named:
            if path.is_file():
                yield finished_file(entry, path.read_bytes(), job, self._environment)
        self._executor.forget_written()
        self._clean(output, self._put)
        self._clean(self._folders.temp.resolve(), known)

    def _clean(self, folder: Path, kept: set[Path]) -> None:
        """Delete the files below a folder that are not to be kept, and the folders without any."""
        for path in _files_below(folder):
            if path not in kept:
                path.unlink(missing_ok=True)
        for path in folder.iterdir():
            if path.is_dir() and not any(other.is_relative_to(path) for other in kept):
                shutil.rmtree(path, ignore_errors=True)


def _files_below(folder: Path) -> list[Path]:
    """Return the files below a folder. Hidden ones are being written, and links are followed by nobody."""
    files = (path for path in folder.rglob("*") if not path.name.startswith("."))
    return [path for path in files if path.is_file() and not path.is_symlink()]


def _configure(spec: EngineSpec) -> None:
    torch.set_num_threads(max(1, spec.threads))
    if spec.exact:
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True


def _refused(checked: Validation, seconds: float) -> JobResult:
    """Return the result of a prompt that cannot be run here, although it could where it was checked."""
    sentences = [checked.error["message"]] if checked.error is not None else []
    for node_id, entry in checked.node_errors.items():
        for error in entry["errors"]:
            sentences.append(f"node {node_id} ({entry['class_type']}): {error['message']}: {error['details']}")
    return JobResult("error", {}, (), job_digest(()), sentences[-1] if sentences else "invalid prompt", seconds)


def _sentence(result: RunResult) -> str | None:
    """Say what ended a run early, or return None."""
    if result.failure is None:
        return None
    node = f"node {result.failure.node_id} ({result.failure.class_type})"
    error = result.failure.exception
    if error is None:
        return f"stopped at {node}"
    return f"{node} raised {type(error).__name__}: {error}"

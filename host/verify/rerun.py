"""Runs the prompts of pictures again: each prompt once, as the pictures were made."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from host import folders as host_folders
from host.engines.contract import Emit, Engine, EngineError, EngineLost, Job, OutputFile
from host.engines.spec import EngineSpec
from host.engines.start import start
from host.error_format import shorten, show
from host.folders import Folders
from host.packs import PackError, Registry, find_input, input_types, load_packs
from host.prompt_format import Prompt
from host.sweep.input_files import InputFileError, InputFiles, find_input_files, names_files
from host.verify.saved_picture import SavedPicture, UnverifiableError
from host.verify.verdicts import Verdict, judge

__all__ = ["Group", "Rerunner", "StoppedError", "groups_of"]

_MAX_THREADS = 256  # more than that in a picture is not believed


class StoppedError(Exception):
    """The user stopped the run."""


@dataclass(frozen=True)
class Group:
    """Pictures that one run should make again.

    Attributes:
        threads: Threads of the processor that the run may use.
        exact: `EngineSpec.exact`.
        pictures: The pictures; all have the same prompt.
    """

    threads: int
    exact: bool
    pictures: list[SavedPicture] = field(default_factory=list)

    @property
    def prompt(self) -> Prompt:
        """The prompt inside the pictures."""
        return self.pictures[0].prompt


def groups_of(pictures: Sequence[SavedPicture], threads: int | None, exact: bool) -> list[Group]:
    """Return what has to be run for some pictures.

    Args:
        pictures: The pictures.
        threads: The number of threads, or None for that with which each picture was made. A picture that does not say
            it gets what `host run` uses.
        exact: Whether to run exactly also what was not made so.
    """
    usual, groups = torch.get_num_threads(), dict[tuple[str, int, bool], Group]()
    for picture in pictures:
        facts = picture.origin.environment if picture.origin is not None else {}
        key = picture.group(), threads or _believed(facts.get("threads")) or usual, exact or facts.get("exact") is True
        groups.setdefault(key, Group(key[1], key[2])).pictures.append(picture)
    # Settings of the whole process are turned on in this order, and one engine serves the groups that share them.
    return sorted(groups.values(), key=lambda group: (group.exact, group.threads))


def _believed(threads: Any) -> int | None:
    """Return the number of threads that a picture names, or None if it cannot be one."""
    is_number = isinstance(threads, int) and not isinstance(threads, bool)
    return threads if is_number and 1 <= threads <= _MAX_THREADS else None


class Rerunner:
    """Runs groups of pictures on one engine; a context manager. Everything it writes is temporary.

    Args:
        spec: The engine. Threads and `exact` of one that is started here are chosen by group.
        folders: Where the input files lie.
    """

    def __init__(self, spec: EngineSpec, folders: Folders) -> None:
        self._spec, self._folders = spec, folders
        self._stack = ExitStack()
        self._engine: Engine | None = None
        self._started: EngineSpec | None = None
        self._registry: Registry | None = None
        self._stopped = False

    def __enter__(self) -> Rerunner:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def interrupt(self) -> None:
        """Stop the running prompt between two steps. `verdicts` raises StoppedError then."""
        self._stopped = True
        if self._engine is not None:
            self._engine.interrupt()

    def verdicts(self, group: Group, emit: Emit) -> list[Verdict]:
        """Run a group's prompt, and compare its pictures with the result.

        Args:
            group: The group.
            emit: Receives the events of the run.

        Raises:
            EngineError: The engine cannot be started.
            StoppedError: The run was interrupted.
        """
        engine = self._engine_for(group)
        try:
            files = self._run(engine, group.prompt, emit)
        except UnverifiableError as error:
            return [Verdict(str(picture.path), "unverified", str(error)) for picture in group.pictures]
        environment = engine.environment()
        return [judge(picture, files, environment) for picture in group.pictures]

    def _engine_for(self, group: Group) -> Engine:
        spec = self._spec
        if spec.kind != "http":
            spec = replace(spec, threads=group.threads, exact=group.exact)
        if self._engine is None or self._started != spec:
            self._stack.close()
            folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="verify-"))
            self._engine = start(spec, Path(folder), "verify")
            self._stack.callback(self._engine.close)
            self._started = spec
            self._registry = self._registry or _registry(spec, self._engine)
        return self._engine

    def _run(self, engine: Engine, prompt: Prompt, emit: Emit) -> Sequence[OutputFile]:
        """Return the files of a run. Raises UnverifiableError with what is wrong with the prompt or went wrong."""
        assert self._registry is not None
        try:
            # A server that runs already may have files that this machine has not, and says so if it has not either.
            required = self._spec.kind != "http"
            names = list(_file_names(prompt, self._registry, self._folders, required=required))
            found = InputFiles(find_input_files(names, self._folders), self._folders)
            engine.put_inputs(found)
            if self._stopped:
                raise StoppedError
            result = engine.run(Job(uuid.uuid4().hex, prompt), emit)
        except (InputFileError, EngineError, EngineLost) as error:
            raise UnverifiableError(str(error)) from error
        if result.status == "interrupted":
            raise StoppedError
        if result.status == "error":
            raise UnverifiableError(f"the prompt inside could not be run: {shorten(result.error or 'it failed')}")
        return result.files


def _registry(spec: EngineSpec, engine: Engine) -> Registry:
    """Return the engine's node classes."""
    if spec.kind == "embedded":
        try:
            return load_packs(spec.packs or [host_folders.ROOT])
        except PackError as error:
            raise EngineError(str(error)) from error
    from host.engines.object_info import registry_from

    return registry_from(engine.object_info())


def _file_names(prompt: Prompt, registry: Registry, folders: Folders, *, required: bool) -> Iterator[str]:
    """Yield the values of inputs that may name a file.

    Raises:
        UnverifiableError: The file of an upload is required and not there.
    """
    for node_id, node in prompt.items():
        if not isinstance(node, dict) or not isinstance(node.get("inputs"), dict):
            continue  # the engine will say so
        node_class = registry.nodes.get(str(node.get("class_type")))
        declared = input_types(node_class) if node_class is not None else {}
        for name, value in node["inputs"].items():
            spec = find_input(declared, name)
            if spec is None or not isinstance(value, str) or not names_files(spec):
                continue
            is_upload = any(key.endswith("_upload") and chosen for key, chosen in spec.options.items())
            if required and is_upload and not _exists(value, folders):
                raise UnverifiableError(
                    f"the input file {show(value)} of node {show(node_id)} is not in {folders.input}; "
                    "--input-directory names another folder"
                )
            yield value


def _exists(name: str, folders: Folders) -> bool:
    try:
        return folders.resolve(name).is_file()
    except (ValueError, OSError):  # a name that leaves its folder, or that no file can have
        return False

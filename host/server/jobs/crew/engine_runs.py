"""Runs the queue's prompts on an engine that lives elsewhere, as the executor runs them here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from host.context import CancelFlag
from host.engines.contract import Emit, Engine, EngineError, EngineLost, Job
from host.execution.executor import RunResult
from host.execution.shown_files import ShownFile, shown_files
from host.folders import Folders
from host.packs import Registry, find_input, input_types
from host.prompt_format import Prompt
from host.server.jobs.crew.placing import place_files, with_new_names
from host.sweep.input_files import InputFiles, find_input_files, names_files

__all__ = ["EngineRuns"]

_ENDS = ("execution_success", "execution_error", "execution_interrupted")
_LOOK_SECONDS = 0.1
_ASK_SECONDS = 1.0  # between requests to stop: one that comes before the engine has begun the job is lost


class EngineRuns:
    """One engine behind the methods of `Executor`.

    The files that a job made are written here before the page hears of them. They come with the result, so the page
    hears of them when the whole prompt has ended.

    Args:
        engine: The engine.
        registry: The node classes, which tell which inputs name files.
        folders: Where the server's files are.
    """

    def __init__(self, engine: Engine, registry: Registry, folders: Folders) -> None:
        self.engine, self.registry, self._folders = engine, registry, folders
        self._put: dict[str, str] = {}  # the input files that the engine has, with their digests

    def run(
        self,
        prompt: Prompt,
        prompt_id: str,
        outputs: Sequence[str],
        extra_data: dict[str, Any],
        emit: Emit,
        cancel: CancelFlag,
        *,
        before_end: Callable[[RunResult], None] | None = None,
    ) -> RunResult:
        """Run a prompt; see `Executor.run`.

        Raises:
            EngineLost: The engine died; it starts again with the next prompt.
            EngineError: It will not come back.
            InputFileError: An input file cannot be read.
        """
        held = _HeldEvents(emit)
        try:
            self._put_inputs(prompt)
            with self._interrupted_by(cancel):
                result = self.engine.run(Job(prompt_id, prompt, extra_data, tuple(outputs)), held)
        except EngineLost:
            self._put.clear()
            raise
        names = place_files(result.files, self._folders)
        placed = {node_id: with_new_names(ui, names) for node_id, ui in result.outputs.items()}
        if held.end is None:
            raise RuntimeError(result.error or "the worker did not say how the prompt ended")
        held.send(placed, names)
        answer = RunResult(result.status, placed, result.meta, [(name, data) for name, data in result.messages])
        if before_end is not None:
            before_end(answer)
        emit(*held.end)
        return answer

    def free(self) -> None:
        """Do nothing: the caches and models of a worker are its own."""

    def _put_inputs(self, prompt: Prompt) -> None:
        """Give the engine the files that the prompt names, unless it has them."""
        found = find_input_files(self._file_names(prompt), self._folders)
        new = [file for file in found if self._put.get(file.name) != file.digest]
        if new:
            self.engine.put_inputs(InputFiles(new, self._folders))
            self._put |= {file.name: file.digest for file in new}

    def _file_names(self, prompt: Prompt) -> Iterator[Any]:
        for node in prompt.values():
            declared = input_types(self.registry.nodes[node["class_type"]])
            for name, value in node["inputs"].items():
                spec = find_input(declared, name)
                if spec is not None and names_files(spec):
                    yield value

    @contextmanager
    def _interrupted_by(self, cancel: CancelFlag) -> Iterator[None]:
        """Interrupt the engine when `cancel` is set, for the block."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(_LOOK_SECONDS):
                if cancel.is_set():
                    with suppress(EngineError, EngineLost):
                        self.engine.interrupt()
                    over.wait(_ASK_SECONDS)

        thread = threading.Thread(target=watch, name="job interrupt", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()


class _HeldEvents:
    """An `emit` that passes events on, but holds those that name files, and the last one.

    Attributes:
        end: The last event, or None.
    """

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._held: list[dict[str, Any]] = []
        self.end: tuple[str, dict[str, Any]] | None = None

    def __call__(self, event: str, data: dict[str, Any]) -> None:
        if event == "executed" and any(shown_files(data.get("output"))):
            self._held.append(data)
        elif event in _ENDS and self.end is None and not _is_blocked(data):
            self.end = (event, data)
        else:
            self._emit(event, data)

    def send(self, outputs: dict[str, Any], names: dict[ShownFile, str]) -> None:
        """Send the events that name files, with the names that these have now."""
        for data in self._held:
            ui = outputs.get(data["node"]) or with_new_names(data["output"], names)
            self._emit("executed", {**data, "output": ui})


def _is_blocked(data: dict[str, Any]) -> bool:
    """Return whether an error event is a blocked node's message, after which the run goes on."""
    return data.get("exception_type") == "ExecutionBlocked"

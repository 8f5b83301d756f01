"""What the sweep and the server need from whatever runs a prompt.

Everything that crosses this boundary is plain data, because an engine may live in another process or on another
machine: strings, numbers, bytes, and lists and dicts of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from host.execution.events import Emit
from host.prompt_format import Prompt

__all__ = ["Emit", "Engine", "EngineError", "EngineLost", "Job", "JobResult", "OutputFile"]


class EngineError(Exception):
    """The engine cannot be started or used, and trying again would not help. The message is shown to the user."""


class EngineLost(Exception):
    """The engine died while it ran a job. The job can be run again; the next call starts the engine again.

    The message says what is known of the cause: an exit code, a signal, a node that was lost.
    """


@dataclass(frozen=True)
class Job:
    """One prompt to run.

    Attributes:
        id: The id of the run in every event.
        prompt: The whole prompt in the API's format, with values of the declared types.
        extra_data: The request's `extra_data`; its `extra_pnginfo` is stored in saved pictures.
        targets: The output nodes to execute, or None for all.
    """

    id: str
    prompt: Prompt
    extra_data: dict[str, Any] = field(default_factory=dict)
    targets: tuple[str, ...] | None = None


@dataclass(frozen=True)
class OutputFile:
    """A file that a node wrote, with its content.

    Attributes:
        node_id: The node that shows it.
        position: Its place among the node's files.
        filename: Its name without folders.
        subfolder: Its folder below that of its type.
        type: "output" for what is kept; "temp" for previews.
        data: The content. A PNG has the text chunks of `picture_metadata` beside those that its node wrote.
        digest: SHA-256 in hexadecimal: of a picture's size, mode and pixels; of any other file's content.
    """

    node_id: str
    position: int
    filename: str
    subfolder: str
    type: str
    data: bytes
    digest: str


@dataclass(frozen=True)
class JobResult:
    """The result of a job that ended.

    Attributes:
        status: "success", "error" or "interrupted".
        outputs: {node id: its ui result}: the history's "outputs".
        files: The files that `outputs` names, in the order of the prompt's nodes. They do not depend on who made them.
        digest: SHA-256 of the digests of the files of type "output", in order: the same for the same pictures.
        error: One sentence that names node, class and cause, or None.
        seconds: How long the run took.
        meta: The history's "meta".
        messages: The history's "status.messages".
    """

    status: Literal["success", "error", "interrupted"]
    outputs: dict[str, dict[str, list[Any]]]
    files: tuple[OutputFile, ...]
    digest: str
    error: str | None
    seconds: float
    meta: dict[str, dict[str, Any]] = field(default_factory=dict)
    messages: list[Any] = field(default_factory=list)


class Engine(Protocol):
    """Runs one job at a time. `interrupt` may be called from any thread, the other methods from one at a time."""

    @property
    def name(self) -> str:
        """What the user calls it: "worker 1", "comfyui 8188", a Ray node and device."""

    def environment(self) -> dict[str, Any]:
        """Return what pictures are made with: see `environment.describe`. No host names, no paths.

        Raises:
            EngineError, EngineLost: It cannot be reached.
        """

    def object_info(self) -> dict[str, dict[str, Any]]:
        """Return the node classes as `GET /object_info` does."""

    def put_inputs(self, files: Mapping[str, bytes]) -> None:
        """Put files into the engine's input folder, by name with "/" between folders, before jobs that read them."""

    def run(self, job: Job, emit: Emit) -> JobResult:
        """Run a job, and block until it ended.

        A node that raises ends the job with status "error"; this does not raise then.

        Args:
            job: The job.
            emit: Receives the events of `host.execution.events`, previews included, in order. A remote engine drops
                previews and progress that come faster than they can be sent, never other events.

        Raises:
            EngineLost: It died in this job.
            EngineError: It cannot be started.
        """

    def interrupt(self) -> None:
        """Stop the running job between two steps, if there is one; `run` then returns "interrupted"."""

    def close(self) -> None:
        """Stop everything that was started, and delete its temporary files. May be called more than once."""

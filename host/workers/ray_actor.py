"""What runs on the nodes of a Ray cluster: an actor that holds one engine.

`run` occupies the actor's only main thread for as long as the job takes. The methods of the group "control" have
threads of their own, so that events can be fetched and the job can be interrupted meanwhile.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from PIL import Image

from host.engines.contract import Engine, EngineError, Job, JobResult
from host.engines.environment import describe_packs
from host.engines.spec import EngineSpec
from host.folders import ROOT
from host.workers.throttle import Throttle

__all__ = ["CONTROL", "CONTROL_THREADS", "EngineActor", "Events", "Hello", "code_digest"]

CONTROL, CONTROL_THREADS = "control", 4
_GATHER_SECONDS = 0.1  # events of this time travel together
_PACKAGE_MARK = "_ray_pkg_"  # in the names of the folders into which Ray unpacks what the driver sent

Events = list[tuple[str, dict[str, Any]]]


@dataclass(frozen=True)
class Hello:
    """What an actor says of itself when its engine has started.

    Attributes:
        node_id: Ray's id of the node.
        gpus: The indices of its GPUs on the node.
        code: `code_digest` of the files that it runs.
    """

    node_id: str
    gpus: tuple[str, ...]
    code: str


def code_digest() -> str:
    """Return a digest of this project's nodes as they are on this machine."""
    return str(describe_packs([ROOT])[0]["code"])


class EngineActor:
    """Holds one engine, which the first call starts; after a restart by Ray, it is the first call again.

    Args:
        spec: The engine.
        pack_names: The folders of node packs that the driver sent along, by name; () for this project.
        name: What the user calls it.
    """

    def __init__(self, spec: EngineSpec, pack_names: tuple[str, ...], name: str) -> None:
        self._spec, self._pack_names, self._name = spec, pack_names, name
        self._engine: Engine | None = None
        self._folder = Path(tempfile.gettempdir(), f"ddim-worker-{ray.get_runtime_context().get_actor_id()}")
        self._events = _EventBuffer()
        self._running = 0  # the number of the run that is going on, or the last one

    def hello(self) -> Hello:
        """Start the engine, and say where it is."""
        self._started()
        context = ray.get_runtime_context()
        gpus = tuple(map(str, context.get_accelerator_ids().get("GPU", [])))
        return Hello(context.get_node_id(), gpus, code_digest())

    def environment(self) -> dict[str, Any]:
        """See `contract.Engine`."""
        return self._started().environment()

    def object_info(self) -> dict[str, dict[str, Any]]:
        """See `contract.Engine`."""
        return self._started().object_info()

    def put_inputs(self, files: Mapping[str, bytes]) -> None:
        """See `contract.Engine`."""
        self._started().put_inputs(files)

    def run(self, number: int, job: Job) -> tuple[Events, JobResult]:
        """Run a job.

        Args:
            number: Tells it from the runs before and after it.
            job: The job.

        Returns:
            The events that nobody has fetched, and the result.
        """
        self._running = number
        self._events.open()
        try:
            result = self._started().run(job, Throttle(self._events.add))
        finally:
            rest = self._events.close()
        return rest, result

    def close(self) -> None:
        """Stop the engine and delete its files."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    @ray.method(concurrency_group=CONTROL)
    def events(self, seconds: float) -> Events:
        """Return the events since the last call, waiting for one until the run ends or the time is over."""
        return self._events.take(seconds)

    @ray.method(concurrency_group=CONTROL)
    def interrupt(self, number: int) -> None:
        """Stop the run with this number between two steps, if it is going on."""
        if number == self._running and self._engine is not None:
            self._engine.interrupt()

    def _started(self) -> Engine:
        if self._engine is None:
            from host.engines.start import start  # not earlier: engines import torch

            shutil.rmtree(self._folder, ignore_errors=True)  # left by an actor that was killed
            self._folder.mkdir(mode=0o700)
            packs = tuple(str(_find_pack(name)) for name in self._pack_names)
            self._engine = start(replace(self._spec, packs=packs), self._folder, self._name)
        return self._engine


class _EventBuffer:
    """The events of the running job that nobody has fetched."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._events: Events = []
        self._is_open = False

    def open(self) -> None:
        """Begin a run."""
        with self._changed:
            self._events, self._is_open = [], True

    def add(self, event: str, data: dict[str, Any]) -> None:
        """Keep an event."""
        kept = _shrunk(data) if event == "preview" else data
        if kept is not None:
            with self._changed:
                self._events.append((event, kept))
                self._changed.notify_all()

    def take(self, seconds: float) -> Events:
        """Return the events that are there, or that come soon."""
        with self._changed:
            self._changed.wait_for(lambda: self._events or not self._is_open, seconds)
            self._changed.wait_for(lambda: not self._is_open, _GATHER_SECONDS)
            return self._taken()

    def close(self) -> Events:
        """End the run. Returns what was not taken."""
        with self._changed:
            self._is_open = False
            self._changed.notify_all()
            return self._taken()

    def _taken(self) -> Events:
        taken, self._events = self._events, []
        return taken


def _find_pack(name: str) -> Path:
    """Return the folder into which Ray unpacked a node pack.

    Raises:
        EngineError: There is none.
    """
    for entry in sys.path:
        path = Path(entry, name)
        if _PACKAGE_MARK in entry and (path.is_file() or (path / "__init__.py").is_file()):
            return path
    raise EngineError(f"the node pack {name} did not reach the node; the driver sends it with Ray's py_modules")


def _shrunk(preview: dict[str, Any]) -> dict[str, Any] | None:
    """Return a preview no larger than it is shown, or None for one that is no picture and cannot travel."""
    image, size = preview.get("image"), preview.get("max_size")
    if not isinstance(image, Image.Image):
        return None
    if size is not None and max(image.size) > size:
        image = image.copy()
        image.thumbnail((size, size), Image.Resampling.BILINEAR)
    return {**preview, "image": image}

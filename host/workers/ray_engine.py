"""An engine in an actor of a Ray cluster, as its driver sees it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import ray
from ray.exceptions import (
    ActorDiedError,
    ActorUnschedulableError,
    GetTimeoutError,
    RayActorError,
    RayError,
    RayTaskError,
)

from host.engines.contract import Emit, EngineError, EngineLost, Job, JobResult
from host.error_format import shorten
from host.workers.ray_actor import Events, Hello

__all__ = ["NodeLost", "RayEngine"]

_LOOK_SECONDS = 1.0  # between looks whether the head is there
_QUIET_SECONDS = 0.05  # a job that takes less has its events fetched with its result, which saves a call
_EVENTS_SECONDS = 10.0  # how long a request for events stays at the actor if there are none
_CLOSE_SECONDS = 10.0
_NODE_SECONDS = 90.0  # Ray needs most of a minute to notice that a node is gone
_DEAD = (ActorDiedError, ActorUnschedulableError)  # the second: its node is gone


class NodeLost(EngineError):
    """The actor is gone with its node; one elsewhere may do better."""


class RayEngine:
    """An actor that holds one engine; see `contract.Engine` for the methods.

    Ray starts the actor's process again when it died, on the same node. An actor whose node is gone does not come back.

    Args:
        actor: The handle of an `EngineActor`.
        name: What the user calls it, until it has said where it is.
        lost: Returns a sentence when the cluster is gone, else None.
    """

    def __init__(self, actor: Any, name: str, lost: Callable[[], str | None]) -> None:
        self.name = name
        self._actor, self._lost = actor, lost
        self._runs = 0
        self._is_closed = False

    def hello(self) -> Hello:
        """Wait until the actor has a place and its engine has started."""
        found: Hello = self._get(self._actor.hello.remote())
        return found

    def environment(self) -> dict[str, Any]:
        """Return what pictures are made with."""
        found: dict[str, Any] = self._get(self._actor.environment.remote())
        return found

    def object_info(self) -> dict[str, dict[str, Any]]:
        """Return the node classes as `GET /object_info` does."""
        found: dict[str, dict[str, Any]] = self._get(self._actor.object_info.remote())
        return found

    def put_inputs(self, files: Mapping[str, bytes]) -> None:
        """Put files into the engine's input folder."""
        self._get(self._actor.put_inputs.remote(dict(files)))

    def run(self, job: Job, emit: Emit) -> JobResult:
        """Run a job, and block until it ended. Previews and progress come about ten times a second."""
        self._runs += 1
        run = self._actor.run.remote(self._runs, job)
        done, _ = ray.wait([run], timeout=_QUIET_SECONDS)
        fetch = None if done else self._fetch()
        while fetch is not None:
            ready, _ = ray.wait([run, fetch], timeout=_LOOK_SECONDS)
            self._check_cluster()
            if fetch in ready or run in ready:  # at the run's end the actor answers what it has
                self._emit_all(self._get(fetch), emit)
                fetch = None if run in ready else self._fetch()
        result: JobResult
        rest, result = self._get(run)
        self._emit_all(rest, emit)
        return result

    def interrupt(self) -> None:
        """Stop the running job between two steps. A request that comes before the job has begun is lost."""
        if self._lost() is None:
            self._actor.interrupt.remote(self._runs)

    def close(self) -> None:
        """Stop the actor and what it started; a job that runs is stopped first."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._lost() is not None:
            return
        try:
            self._actor.interrupt.remote(self._runs)
            ray.get(self._actor.close.remote(), timeout=_CLOSE_SECONDS)
        except (RayError, GetTimeoutError):
            pass
        ray.kill(self._actor)

    # -- calls

    def _fetch(self) -> Any:
        return self._actor.events.remote(_EVENTS_SECONDS)

    def _emit_all(self, events: Events, emit: Emit) -> None:
        for event, data in events:
            emit(event, data)

    def _get(self, reference: Any) -> Any:
        """Wait for an answer.

        Raises:
            EngineError: The engine cannot be started, the cluster is gone, or the actor is with its node.
            EngineLost: The actor died.
        """
        while True:
            ready, _ = ray.wait([reference], timeout=_LOOK_SECONDS)
            self._check_cluster()
            if ready:
                break
        try:
            return ray.get(reference)
        except RayTaskError as error:
            raise self._translate(error) from error
        except RayError as error:
            raise self._gone(error) from error

    def _check_cluster(self) -> None:
        if self._is_closed:
            raise EngineError(f"{self.name} was closed")
        if (sentence := self._lost()) is not None:
            raise EngineError(sentence)

    def _translate(self, error: RayTaskError) -> Exception:
        """Return the engine's own error; any other is a fault, and the actor is started again."""
        cause = error.cause
        if isinstance(cause, (EngineError, EngineLost)):
            return type(cause)(str(cause))
        ray.kill(self._actor, no_restart=False)
        return EngineLost(f"{self.name} failed with {type(cause).__name__}: {shorten(str(cause), 500)}")

    def _gone(self, error: RayError) -> Exception:
        """Say what is known of an actor that died: whether it comes back, and why."""
        if isinstance(error, (RayActorError, ActorUnschedulableError)) and self._is_dead():
            return NodeLost(f"{self.name} was lost with its node")
        return EngineLost(f"{self.name} died: {_first_line(error)}")

    def _is_dead(self) -> bool:
        """Return whether the actor will not come back: one that does answers a call, if late."""
        deadline = time.monotonic() + _NODE_SECONDS
        while time.monotonic() < deadline:
            self._check_cluster()
            try:
                ray.get(self._actor.events.remote(0.0), timeout=_LOOK_SECONDS)
                return False
            except _DEAD:
                return True
            except (RayError, GetTimeoutError):
                time.sleep(_LOOK_SECONDS / 4)
        return False


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return shorten(lines[0] if lines else type(error).__name__, 300)

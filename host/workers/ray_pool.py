"""Workers on a Ray cluster: one long-lived actor for each GPU, or for each share of the processors.

Each actor is bound to its node. Ray restarts its process there; when the node is lost, the actor is given up, and the
place is looked for again among the nodes that there are then. So nodes that join later take part, with or without a
limit on the number of workers. Nothing here listens on any address: everything goes through Ray.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from host.engines.contract import Engine, EngineError, EngineLost
from host.engines.spec import EngineSpec
from host.workers.ray_connection import HeadWatch, connect, disconnect

__all__ = ["RayPool"]

log = logging.getLogger(__name__)

_LOOK_SECONDS = 2.0  # between looks at the head and at the nodes
_FIRST_SECONDS = 300.0  # for the first worker to be there: a large environment may have to be loaded
_MAX_FAILURES = 3  # of actors on one node, in a row
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_ACTOR_NAME = "ray worker"


class RayPool:
    """Actors on a Ray cluster, each with one engine; see `contract.Pool` for the methods.

    Args:
        specs: The engines: one, which every worker has.
        address: "auto", "HOST:PORT" or "ray://HOST:PORT".
        workers: The largest number of workers; None for as many as there is room for.
    """

    def __init__(self, specs: Sequence[EngineSpec], address: str, workers: int | None = None) -> None:
        if len(specs) != 1:
            raise EngineError(f"--address expects one engine, which every worker has; got {len(specs)}")
        self._spec, self._address, self._workers = specs[0], address, workers
        self._changed = threading.Condition()  # guards what follows
        self._places: dict[str, list[int]] = {}  # node id: the numbers of its actors that live or start
        self._engines: list[Any] = []
        self._failures: Counter[str] = Counter()
        self._last_failure: EngineError | None = None
        self._is_hopeless = False  # the engine itself says that it cannot be started
        self._nodes: list[dict[str, Any]] = []
        self._joined = 0
        self._lost: str | None = None
        self._is_closed = False
        self._uses_gpus = False

    def start(self, on_join: Callable[[Engine], None]) -> None:
        """Connect, start the actors, and wait until the first has joined. Others join as they are ready."""
        packs = tuple(self._spec.packs)
        head = connect(self._address, packs)
        watch = HeadWatch(head)
        threading.Thread(target=self._watch_head, args=(watch, head), name="ray head", daemon=True).start()
        nodes = _alive_nodes()
        self._uses_gpus = "--cpu" not in self._spec.arguments and any(_room(node, 0, gpu=True) for node in nodes)
        if not any(self._room(node) for node in nodes):
            share = "GPU" if self._uses_gpus else f"{self._spec.threads} processor(s)"
            self.close()
            raise EngineError(f"no node of the Ray cluster at {head} has {share} for a worker; `ray status` shows them")
        threading.Thread(target=self._watch_nodes, args=(on_join,), name="ray nodes", daemon=True).start()
        with self._changed:
            self._changed.wait_for(self._is_decided, _FIRST_SECONDS)
            if self._joined or self._is_closed:
                return
            failure = self._lost or self._last_failure or EngineError(_NO_PLACE.format(head, _FIRST_SECONDS))
        self.close()
        raise failure if isinstance(failure, EngineError) else EngineError(failure)

    def close(self) -> None:
        """Stop the actors and what they started, and leave the cluster."""
        with self._changed:
            self._is_closed = True
            engines, self._engines = self._engines, []
            self._changed.notify_all()
        _side_by_side([engine.close for engine in engines])
        # Ray waits for a head that is gone, and the end of the process does not have to.
        thread = threading.Thread(target=disconnect, daemon=True)
        thread.start()
        thread.join(_LEAVE_SECONDS)

    def _is_decided(self) -> bool:
        """Return whether `start` need not wait any longer: a worker is there, or none will be."""
        has_failed = self._last_failure is not None and not any(self._places.values())
        nobody = has_failed and (self._is_hopeless or not any(map(self._is_free, self._nodes)))
        return bool(self._joined or self._is_closed or self._lost or nobody)

    def _why_lost(self) -> str | None:
        return self._lost

    # -- the threads that watch

    def _watch_head(self, watch: HeadWatch, head: str) -> None:
        while not self._is_closed:
            if watch.is_lost():
                with self._changed:
                    self._lost = _LOST.format(head)
                    self._changed.notify_all()
                return
            time.sleep(_LOOK_SECONDS)

    def _watch_nodes(self, on_join: Callable[[Engine], None]) -> None:
        while not (self._is_closed or self._lost):
            with suppress(Exception):  # the head may be away for a moment
                for node_id, number in self._new_places(_alive_nodes()):
                    arguments = (node_id, number, on_join)
                    threading.Thread(target=self._add, args=arguments, name=_ACTOR_NAME, daemon=True).start()
            with self._changed:
                self._changed.wait_for(lambda: self._is_closed or self._lost is not None, _LOOK_SECONDS)

    def _new_places(self, nodes: list[dict[str, Any]]) -> list[tuple[str, int]]:
        """Return where actors are to be started now: node by node in turn, so that a few workers have much each."""
        found = []
        with self._changed:
            self._nodes = nodes
            alive = {node["NodeID"] for node in nodes}
            self._places = {node_id: numbers for node_id, numbers in self._places.items() if node_id in alive}
            limit = self._workers if self._workers is not None else sum(map(self._room, nodes))
            while sum(map(len, self._places.values())) < limit:
                free = [node for node in nodes if self._is_free(node)]
                if not free:
                    break
                node_id = min(free, key=lambda node: len(self._places.get(node["NodeID"], ())))["NodeID"]
                taken = self._places.setdefault(node_id, [])
                number = next(number for number in range(len(taken) + 1) if number not in taken)
                taken.append(number)
                found.append((node_id, number))
        return found

    def _room(self, node: dict[str, Any]) -> int:
        return _room(node, self._spec.threads, gpu=self._uses_gpus)

    def _is_free(self, node: dict[str, Any]) -> bool:
        node_id = node["NodeID"]
        return len(self._places.get(node_id, ())) < self._room(node) and self._failures[node_id] < _MAX_FAILURES

    # -- one actor

    def _add(self, node_id: str, number: int, on_join: Callable[[Engine], None]) -> None:
        """Start an actor on a node, and report it when its engine runs."""
        try:
            engine = self._started(node_id, number)
        except Exception as error:  # Ray's own errors are no business of the other actors either
            self._give_up(node_id, number, error)
            return
        with self._changed:
            if self._is_closed:
                return
            self._failures[node_id] = 0
        on_join(engine)
        with self._changed:
            self._joined += 1
            self._changed.notify_all()

    def _started(self, node_id: str, number: int) -> Any:
        """Start an actor and its engine, and return the engine."""
        from host.workers.ray_actor import code_digest
        from host.workers.ray_engine import RayEngine

        short = node_id[:_SHORT]
        engine = RayEngine(self._create(node_id, number), f"ray {short} cpu {number}", self._why_lost)
        with self._changed:
            self._engines.append(engine)
        try:
            hello = engine.hello()
            if hello.code != code_digest():
                raise EngineError(f"{engine.name} has other code of this project than this machine; {_SAME_CODE}")
        except BaseException:
            engine.close()
            with self._changed:
                self._engines = [other for other in self._engines if other is not engine]
            raise
        if hello.gpus:
            engine.name = f"ray {short} gpu {','.join(hello.gpus)}"
        return engine

    def _create(self, node_id: str, number: int) -> Any:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        from host.workers.ray_actor import CONTROL, CONTROL_THREADS, EngineActor

        threads = self._spec.threads
        remote = ray.remote(concurrency_groups={CONTROL: CONTROL_THREADS})(EngineActor).options(
            num_cpus=0 if self._uses_gpus else threads,
            num_gpus=1 if self._uses_gpus else 0,
            max_restarts=-1,
            max_task_retries=0,
            max_concurrency=1,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False),
            runtime_env={"env_vars": {name: str(threads) for name in _THREAD_VARIABLES}},
        )
        packs = tuple(Path(pack).name for pack in self._spec.packs)
        return remote.remote(self._spec, packs, f"ray {node_id[:_SHORT]} {number}")

    def _give_up(self, node_id: str, number: int, error: Exception) -> None:
        """Record an actor that did not start. After a few, its node gets no more."""
        from host.workers.ray_engine import NodeLost

        is_known = isinstance(error, (EngineError, EngineLost))
        failure = EngineError(str(error) if is_known else f"{type(error).__name__}: {error}")
        with self._changed:
            if not self._is_closed:
                log.warning("%s", failure)
            self._failures[node_id] += 1
            self._last_failure = failure
            self._is_hopeless |= isinstance(error, EngineError) and not isinstance(error, NodeLost)
            if number in self._places.get(node_id, ()):
                self._places[node_id].remove(number)
            self._changed.notify_all()


_SHORT = 4  # characters of a node's id in a worker's name
_LEAVE_SECONDS = 15.0
_NO_PLACE = "no worker could be placed on the Ray cluster at {} in {:g} seconds; `ray status` shows what is in use"
_LOST = (
    "the head of the Ray cluster at {} does not answer any more; finished jobs are kept, and --resume goes on from "
    "there when the cluster is up again"
)
_SAME_CODE = "let this command send its own: do not give `ray job submit` the working_dir of another checkout"


def _alive_nodes() -> list[dict[str, Any]]:
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def _room(node: dict[str, Any], threads: int, *, gpu: bool) -> int:
    """Return how many workers fit on a node when nothing else runs there."""
    resources = node.get("Resources", {})
    return int(resources.get("GPU", 0)) if gpu else int(resources.get("CPU", 0)) // max(1, threads)


def _side_by_side(calls: Sequence[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=call, daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

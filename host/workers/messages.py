"""What a driver and its worker process say to each other, through a pipe that nobody else can open.

The driver sends one request at a time and reads replies until the request's `Done` or `Failed`; `Interrupt` and `Close`
may come between. A worker process begins with `Start`, and ends when its end of the pipe says that the driver is gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from host.engines.contract import Job
from host.engines.spec import EngineSpec

__all__ = [
    "Close",
    "Done",
    "Environment",
    "Event",
    "Failed",
    "Interrupt",
    "ObjectInfo",
    "PutInputs",
    "Reply",
    "Request",
    "Run",
    "Start",
]


@dataclass(frozen=True)
class Start:
    """Start the engine: the first request. Its files go into `folder`, which the worker deletes at its end."""

    spec: EngineSpec
    folder: str
    name: str


@dataclass(frozen=True)
class PutInputs:
    """`Engine.put_inputs`."""

    files: Mapping[str, bytes]


@dataclass(frozen=True)
class Run:
    """`Engine.run`. `number` tells it from the runs before and after it."""

    job: Job
    number: int


@dataclass(frozen=True)
class Environment:
    """`Engine.environment`."""


@dataclass(frozen=True)
class ObjectInfo:
    """`Engine.object_info`."""


@dataclass(frozen=True)
class Interrupt:
    """Stop the run with this number, if it has not ended."""

    number: int


@dataclass(frozen=True)
class Close:
    """Stop the engine and end."""


@dataclass(frozen=True)
class Event:
    """An event of the running job."""

    name: str
    data: dict[str, Any]


@dataclass(frozen=True)
class Done:
    """A request's answer."""

    value: Any = None


@dataclass(frozen=True)
class Failed:
    """A request failed.

    Attributes:
        message: What the user is told.
        is_final: Whether the engine will not come back (`EngineError`); otherwise it is lost, and may be started again.
        starts_itself: Whether the engine said so itself, and starts what it lost again with the next request.
    """

    message: str
    is_final: bool
    starts_itself: bool = False


Request = Start | PutInputs | Run | Environment | ObjectInfo | Interrupt | Close
Reply = Event | Done | Failed

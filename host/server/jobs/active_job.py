"""The job that a worker runs now."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

from host.server.jobs.client_events import ClientEvents
from host.server.jobs.job import Job

__all__ = ["ActiveJob"]


@dataclass
class ActiveJob:
    """The job that runs now."""

    job: Job
    extra_data: dict[str, Any]
    client_id: str | None
    events: ClientEvents
    cancel: threading.Event = field(default_factory=threading.Event)
    executing: dict[str, Any] | None = None  # the data of the last `executing` event
    is_silent: bool = False  # it goes back into the queue, so its client receives no further events

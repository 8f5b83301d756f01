"""Reading many stored jobs without holding all of them, and without stopping the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from host.server.jobs.job import Job
from host.server.jobs.store import JobStore

__all__ = ["each_job"]


async def each_job(store: JobStore, keys: Sequence[int]) -> AsyncIterator[Job]:
    """Yield the jobs with these keys that still exist. They are read in batches, in another thread."""
    rest = list(keys)
    while rest:
        batch = await asyncio.to_thread(store.jobs, rest)
        del rest[: len(batch)]
        for job in batch:
            if job is not None:
                yield job

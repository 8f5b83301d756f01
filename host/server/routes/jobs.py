"""Results: ComfyUI's history, and jobs of every status as one list."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

from host.server.jobs.job import STATUSES, is_job_id
from host.server.jobs.reading import each_job
from host.server.jobs.views import history_entry, job_detail, job_item
from host.server.json_http import http_error, json_response, json_stream, query_integer, read_id_list, read_object
from host.server.state import HOST, Host
from host.server.threads import in_thread
from host.strict_json import dumps

__all__ = ["ROUTES"]


async def get_history(request: web.Request) -> web.StreamResponse:
    """Return finished jobs by id, oldest first, as a stream: a long history must not fill the memory."""
    store = request.app[HOST].store
    max_items, offset = query_integer(request, "max_items"), query_integer(request, "offset")
    keys = await asyncio.to_thread(store.history_keys, max_items, -1 if offset is None else offset)

    async def pieces() -> AsyncIterator[str]:
        separator = "{"
        async for job in each_job(store, keys):
            if job.result_text is not None:
                yield f"{separator}{dumps(job.id)}: "
                for piece in await asyncio.to_thread(history_entry, job):
                    yield piece
                separator = ", "
        yield "}" if separator == ", " else "{}"

    return await json_stream(request, pieces())


async def get_history_item(request: web.Request) -> web.StreamResponse:
    """Return one finished job; `{}` while it is not finished, and for unknown ids."""
    job = await asyncio.to_thread(request.app[HOST].store.get, request.match_info["id"])
    if job is None or job.result_text is None:
        return json_response({})
    return await json_stream(request, [f"{{{dumps(job.id)}: ", *await asyncio.to_thread(history_entry, job), "}"])


async def post_history(request: web.Request) -> web.Response:
    """Delete results: `{"clear": true}` or `{"delete": [id, ...]}`."""
    host, body = request.app[HOST], await read_object(request)
    ids = read_id_list(body, "delete")
    await asyncio.to_thread(_forget, host, ids, everything=bool(body.get("clear")))
    return web.Response()


def _forget(host: Host, ids: list[str], *, everything: bool) -> None:
    if everything:
        host.store.clear_history()
    for job_id in ids:
        host.store.forget(job_id)


@in_thread
def get_jobs(request: web.Request) -> web.Response:
    """Return jobs of every status, for the frontend's queue panel, history panel and picture gallery."""
    limit, offset = query_integer(request, "limit", minimum=1), max(query_integer(request, "offset") or 0, 0)
    sort_by = _choice(request, "sort_by", ("created_at", "execution_duration"))
    order = _choice(request, "sort_order", ("desc", "asc"))
    jobs, total = request.app[HOST].store.listing(
        _statuses(request),
        workflow_id=request.query.get("workflow_id") or None,
        by_duration=sort_by == "execution_duration",
        newest_first=order == "desc",
        limit=limit,
        offset=offset,
    )
    pagination = {"offset": offset, "limit": limit, "total": total, "has_more": offset + len(jobs) < total}
    return json_response({"jobs": [job_item(job) for job in jobs], "pagination": pagination})


def _statuses(request: web.Request) -> list[str]:
    names = [name.strip().lower() for name in request.query.get("status", "").split(",") if name.strip()]
    wrong = [name for name in names if name not in STATUSES]
    if wrong:
        raise http_error(400, f"Invalid status value(s): {', '.join(wrong)[:200]}. Valid values: {', '.join(STATUSES)}")
    return names or list(STATUSES)


def _choice(request: web.Request, name: str, choices: tuple[str, ...]) -> str:
    value = request.query.get(name, choices[0]).lower()
    if value not in choices:
        raise http_error(400, f"{name} must be one of {', '.join(choices)}")
    return value


async def get_job(request: web.Request) -> web.StreamResponse:
    """Return one job with its workflow and its outputs."""
    job = await asyncio.to_thread(request.app[HOST].store.get, request.match_info["id"])
    if job is None:
        raise http_error(404, "Job not found")
    return await json_stream(request, await asyncio.to_thread(job_detail, job))


async def cancel_job(request: web.Request) -> web.Response:
    """Cancel one job, pending or running; false for one that has ended or does not exist."""
    cancelled = await asyncio.to_thread(_cancel, request.app[HOST], [request.match_info["id"]])
    return json_response({"cancelled": cancelled})


async def cancel_jobs(request: web.Request) -> web.Response:
    """Cancel the jobs of a list; true if any of them was cancelled."""
    body = await read_object(request)
    ids = body.get("job_ids")
    if not isinstance(ids, list):
        raise http_error(400, "job_ids must be a list")
    return json_response({"cancelled": await asyncio.to_thread(_cancel_listed, request.app[HOST], ids)})


def _cancel_listed(host: Host, ids: list[Any]) -> bool:
    if not all(isinstance(job_id, str) and is_job_id(job_id) for job_id in ids):
        raise http_error(400, "job_ids contains invalid id(s)")
    return _cancel(host, ids)


def _cancel(host: Host, ids: list[str]) -> bool:
    """Remove each job from the queue, else interrupt it: in this order, a job that starts in between is still found."""
    cancelled = [host.store.cancel(job_id) or host.worker.interrupt(job_id) for job_id in ids]
    if any(cancelled):
        host.worker.notify()
    return any(cancelled)


ROUTES = [
    web.get("/history", get_history),
    web.get("/history/{id}", get_history_item),
    web.post("/history", post_history),
    web.get("/jobs", get_jobs),
    web.post("/jobs/cancel", cancel_jobs),
    web.get("/jobs/{id}", get_job),
    web.post("/jobs/{id}/cancel", cancel_job),
]

"""Prompts in, jobs and history out."""

from __future__ import annotations

import asyncio
import math
import uuid
from typing import Any

from aiohttp import web

from host.checking.validation import validate
from host.payload import dumps

from .hub import MAX_SID_LENGTH
from .job import STATUSES
from .jobs import history_entry, job_detail, job_item
from .state import HOST, Host
from .store import SameId
from .wire import integer, problem, read_object, reply

__all__ = ["ROUTES"]

_SECRETS = ("auth_token_comfy_org", "api_key_comfy_org")  # the page sends them along; they are never stored


async def get_prompt(request: web.Request) -> web.Response:
    """How many jobs run or wait."""
    return reply(request.app[HOST].worker.status()["status"])


async def post_prompt(request: web.Request) -> web.Response:
    """Accepts a prompt: when the answer is 200, it is on disk and will run."""
    host = request.app[HOST]
    body = await read_object(request)
    if "prompt" not in body:
        return _refusal("no_prompt", "No prompt provided", "No prompt provided")
    return await asyncio.to_thread(_accept, host, body)


def _accept(host: Host, body: dict[str, Any]) -> web.Response:
    job_id = _job_id(body.get("prompt_id"))
    if job_id is None:
        return _refusal(
            "invalid_prompt_id",
            "prompt_id must be a valid UUID",
            "prompt_id must be a UUID string in canonical lowercase hyphenated form; "
            "omit it to let the server generate one",
        )
    extra_data, number = _extra_data(body), _number(body)
    checked = validate(body["prompt"], host.registry, _targets(body))
    if checked.error is not None:
        return reply({"error": checked.error, "node_errors": checked.node_errors}, 400)
    try:
        place = host.store.add(
            job_id,
            checked.prompt,
            extra_data,
            checked.outputs,
            workflow_id=_workflow_id(extra_data),
            number=number,
            front=bool(body.get("front")),
        )
    except SameId:
        return _refusal(
            "prompt_id_in_use",
            "a job has this prompt_id already",
            "each prompt needs an id of its own; omit it to let the server generate one",
        )
    host.worker.notify()
    whole = int(place) if place.is_integer() else place
    return reply({"prompt_id": job_id, "number": whole, "node_errors": checked.node_errors})


def _refusal(kind: str, message: str, details: str) -> web.Response:
    error = {"type": kind, "message": message, "details": details, "extra_info": {}}
    return reply({"error": error, "node_errors": {}}, 400)


def _job_id(given: Any) -> str | None:
    """A new id where none is given; None for one that is no UUID in its usual spelling."""
    if given is None:
        return str(uuid.uuid4())
    try:
        return given if str(uuid.UUID(given)) == given else None
    except (ValueError, AttributeError, TypeError):
        return None


def _extra_data(body: dict[str, Any]) -> dict[str, Any]:
    given, sid = body.get("extra_data", {}), body.get("client_id")
    if not isinstance(given, dict):
        raise problem(400, "extra_data must be an object")
    extra = {name: value for name, value in given.items() if name not in _SECRETS}
    if sid is None:
        return extra
    if not isinstance(sid, str) or len(sid) > MAX_SID_LENGTH:
        raise problem(400, f"client_id must be a string of at most {MAX_SID_LENGTH} characters")
    return {**extra, "client_id": sid}


def _number(body: dict[str, Any]) -> float | None:
    if "number" not in body:
        return None
    try:
        number = float(body["number"])
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise problem(400, "number must be a finite number")
    return number


def _targets(body: dict[str, Any]) -> list[str] | None:
    targets = body.get("partial_execution_targets")
    if targets is None:
        return None
    if not isinstance(targets, list):
        raise problem(400, "partial_execution_targets must be a list of node ids")
    return [str(target) for target in targets]


def _workflow_id(extra_data: dict[str, Any]) -> str | None:
    info = extra_data.get("extra_pnginfo")
    workflow = info.get("workflow") if isinstance(info, dict) else None
    found = workflow.get("id") if isinstance(workflow, dict) else None
    return found if isinstance(found, str) else None


async def get_queue(request: web.Request) -> web.Response:
    """What runs and what waits."""
    store = request.app[HOST].store
    running, pending = await asyncio.to_thread(lambda: (store.queue("in_progress"), store.queue("pending")))
    return reply({"queue_running": [job.entry for job in running], "queue_pending": [job.entry for job in pending]})


async def post_queue(request: web.Request) -> web.Response:
    """Takes waiting jobs out: ``{"clear": true}`` or ``{"delete": [id, ...]}``."""
    host, body = request.app[HOST], await read_object(request)
    ids = _ids(body, "delete")
    if body.get("clear"):
        host.store.clear_queue()
    for job_id in ids:
        host.store.cancel(job_id)
    host.worker.notify()
    return web.Response()


async def get_history(request: web.Request) -> web.StreamResponse:
    """Finished jobs by id, oldest first, written piece by piece: a long history must not fill the memory."""
    store = request.app[HOST].store
    max_items, offset = integer(request, "max_items"), integer(request, "offset")
    batches = store.history(max_items, -1 if offset is None else offset)
    response = web.StreamResponse(headers={"Content-Type": "application/json; charset=utf-8"})
    await response.prepare(request)
    separator = "{"
    while (batch := await asyncio.to_thread(next, batches, None)) is not None:
        for job in batch:
            await response.write(f"{separator}{dumps(job.id)}:{dumps(history_entry(job))}".encode())
            separator = ","
    await response.write(b"}" if separator == "," else b"{}")
    return response


async def get_history_item(request: web.Request) -> web.Response:
    """One finished job; ``{}`` while it is not finished, and for unknown ids."""
    job = await asyncio.to_thread(request.app[HOST].store.get, request.match_info["id"])
    return reply({job.id: history_entry(job)} if job is not None and job.result is not None else {})


async def post_history(request: web.Request) -> web.Response:
    """Forgets results: ``{"clear": true}`` or ``{"delete": [id, ...]}``."""
    host, body = request.app[HOST], await read_object(request)
    ids = _ids(body, "delete")
    if body.get("clear"):
        host.store.clear_history()
    for job_id in ids:
        host.store.forget(job_id)
    return web.Response()


async def get_jobs(request: web.Request) -> web.Response:
    """Jobs of every state: the frontend's queue panel, history panel and picture gallery."""
    limit, offset = integer(request, "limit", minimum=1), integer(request, "offset") or 0
    by = _choice(request, "sort_by", ("created_at", "execution_duration"))
    order = _choice(request, "sort_order", ("desc", "asc"))
    jobs, total = await asyncio.to_thread(
        request.app[HOST].store.listing,
        _statuses(request),
        workflow_id=request.query.get("workflow_id") or None,
        by_duration=by == "execution_duration",
        newest_first=order == "desc",
        limit=limit,
        offset=max(offset, 0),
    )
    pagination = {
        "offset": max(offset, 0),
        "limit": limit,
        "total": total,
        "has_more": max(offset, 0) + len(jobs) < total,
    }
    return reply({"jobs": [job_item(job) for job in jobs], "pagination": pagination})


def _statuses(request: web.Request) -> list[str]:
    names = [name.strip().lower() for name in request.query.get("status", "").split(",") if name.strip()]
    wrong = [name for name in names if name not in STATUSES]
    if wrong:
        raise problem(400, f"Invalid status value(s): {', '.join(wrong)[:200]}. Valid values: {', '.join(STATUSES)}")
    return names or list(STATUSES)


def _choice(request: web.Request, name: str, choices: tuple[str, ...]) -> str:
    value = request.query.get(name, choices[0]).lower()
    if value not in choices:
        raise problem(400, f"{name} must be one of {', '.join(choices)}")
    return value


async def get_job(request: web.Request) -> web.Response:
    """One job with its workflow and what came out of it."""
    job = await asyncio.to_thread(request.app[HOST].store.get, request.match_info["id"])
    if job is None:
        raise problem(404, "Job not found")
    return reply(job_detail(job))


async def cancel_job(request: web.Request) -> web.Response:
    """Stops one job wherever it is; false for one that has ended or never was."""
    return reply({"cancelled": _cancel(request.app[HOST], [request.match_info["id"]])})


async def cancel_jobs(request: web.Request) -> web.Response:
    """Stops the jobs of a list; true if any of them was stopped."""
    body = await read_object(request)
    if not isinstance(body.get("job_ids"), list):
        raise problem(400, "job_ids must be a list")
    ids = body["job_ids"]
    if not all(isinstance(job_id, str) and _job_id(job_id) for job_id in ids):
        raise problem(400, "job_ids contains invalid id(s)")
    return reply({"cancelled": _cancel(request.app[HOST], ids)})


def _cancel(host: Host, ids: list[str]) -> bool:
    """First out of the queue, then interrupt: a job that starts in between is still met."""
    done = [host.store.cancel(job_id) or host.worker.interrupt(job_id) for job_id in ids]
    if any(done):
        host.worker.notify()
    return any(done)


async def post_interrupt(request: web.Request) -> web.Response:
    """Stops the running job, or with a ``prompt_id`` only that one."""
    body = await read_object(request, empty=True)
    job_id = body.get("prompt_id")
    if job_id is not None and not isinstance(job_id, str):
        raise problem(400, "prompt_id must be a string")
    request.app[HOST].worker.interrupt(job_id or None)
    return web.Response()


async def post_free(request: web.Request) -> web.Response:
    """Drops cached results before the next job."""
    body = await read_object(request, empty=True)
    request.app[HOST].worker.free(
        unload_models=bool(body.get("unload_models")), free_memory=bool(body.get("free_memory"))
    )
    return web.Response()


def _ids(body: dict[str, Any], name: str) -> list[str]:
    ids = body.get(name, [])
    if not isinstance(ids, list) or not all(isinstance(job_id, str) for job_id in ids):
        raise problem(400, f"{name} must be a list of ids")
    return ids


ROUTES = [
    web.get("/prompt", get_prompt),
    web.post("/prompt", post_prompt),
    web.get("/queue", get_queue),
    web.post("/queue", post_queue),
    web.get("/history", get_history),
    web.get("/history/{id}", get_history_item),
    web.post("/history", post_history),
    web.get("/jobs", get_jobs),
    web.post("/jobs/cancel", cancel_jobs),
    web.get("/jobs/{id}", get_job),
    web.post("/jobs/{id}/cancel", cancel_job),
    web.post("/interrupt", post_interrupt),
    web.post("/free", post_free),
]

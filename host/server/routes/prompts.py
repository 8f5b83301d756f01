"""Accepting prompts, the queue, and control of the running prompt."""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

from host.error_format import error_info
from host.server.jobs.job import is_job_id, whole_number
from host.server.jobs.reading import each_job
from host.server.jobs.store import DuplicateId
from host.server.json_http import http_error, json_response, json_stream, read_id_list, read_object
from host.server.state import HOST, Host
from host.server.websockets import MAX_CLIENT_ID_LENGTH
from host.validation import validate

__all__ = ["ROUTES"]

_SECRETS = ("auth_token_comfy_org", "api_key_comfy_org")  # the page sends them along; they are never stored


async def get_prompt(request: web.Request) -> web.Response:
    """Return how many jobs run or wait."""
    return json_response((await asyncio.to_thread(request.app[HOST].worker.status))["status"])


async def post_prompt(request: web.Request) -> web.Response:
    """Accept a prompt. When the answer is 200, the prompt is on disk and will run."""
    host = request.app[HOST]
    body = await read_object(request)
    if "prompt" not in body:
        return _refusal("no_prompt", "No prompt provided", "No prompt provided")
    return await asyncio.to_thread(_accept, host, body)


def _accept(host: Host, body: dict[str, Any]) -> web.Response:
    given_id = body.get("prompt_id")
    job_id = str(uuid.uuid4()) if given_id is None else given_id
    if not is_job_id(job_id):
        return _refusal(
            "invalid_prompt_id",
            "prompt_id must be a valid UUID",
            "prompt_id must be a UUID string in canonical lowercase hyphenated form; "
            "omit it to let the server generate one",
        )
    extra_data, number = _extra_data(body), _queue_number(body)
    checked = validate(body["prompt"], host.registry, _targets(body))
    if checked.error is not None:
        return json_response({"error": checked.error, "node_errors": checked.node_errors}, 400)
    try:
        number = host.store.add(
            job_id,
            checked.prompt,
            extra_data,
            checked.outputs,
            workflow_id=_workflow_id(extra_data),
            number=number,
            front=bool(body.get("front")),
        )
    except DuplicateId:
        return _refusal(
            "prompt_id_in_use",
            "a job has this prompt_id already",
            "each prompt needs an id of its own; omit it to let the server generate one",
        )
    host.worker.notify()
    return json_response({"prompt_id": job_id, "number": whole_number(number), "node_errors": checked.node_errors})


def _refusal(error_type: str, message: str, details: str) -> web.Response:
    return json_response({"error": error_info(error_type, message, details), "node_errors": {}}, 400)


def _extra_data(body: dict[str, Any]) -> dict[str, Any]:
    """Return the request's extra data, with the client's id and without secrets."""
    given, client_id = body.get("extra_data", {}), body.get("client_id")
    if not isinstance(given, dict):
        raise http_error(400, "extra_data must be an object")
    extra = {name: value for name, value in given.items() if name not in _SECRETS}
    if client_id is None:
        return extra
    if not isinstance(client_id, str) or len(client_id) > MAX_CLIENT_ID_LENGTH:
        raise http_error(400, f"client_id must be a string of at most {MAX_CLIENT_ID_LENGTH} characters")
    return {**extra, "client_id": client_id}


def _queue_number(body: dict[str, Any]) -> float | None:
    """Return the place in the queue that the request asks for, or None."""
    if "number" not in body:
        return None
    try:
        number = float(body["number"])
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise http_error(400, "number must be a finite number")
    return number


def _targets(body: dict[str, Any]) -> list[str] | None:
    targets = body.get("partial_execution_targets")
    if targets is None:
        return None
    if not isinstance(targets, list):
        raise http_error(400, "partial_execution_targets must be a list of node ids")
    return [str(target) for target in targets]


def _workflow_id(extra_data: dict[str, Any]) -> str | None:
    info = extra_data.get("extra_pnginfo")
    workflow = info.get("workflow") if isinstance(info, dict) else None
    found = workflow.get("id") if isinstance(workflow, dict) else None
    return found if isinstance(found, str) else None


async def get_queue(request: web.Request) -> web.StreamResponse:
    """Return the running and the pending jobs, as a stream of the stored texts."""
    store = request.app[HOST].store
    running, pending = await asyncio.to_thread(store.queue_keys)

    async def pieces() -> AsyncIterator[str]:
        for opening, keys in (('{"queue_running": [', running), ('], "queue_pending": [', pending)):
            separator = opening
            async for job in each_job(store, keys):
                yield separator
                for piece in job.entry_texts:
                    yield piece
                separator = ", "
            if separator == opening:
                yield opening
        yield "]}"

    return await json_stream(request, pieces())


async def post_queue(request: web.Request) -> web.Response:
    """Remove pending jobs: `{"clear": true}` or `{"delete": [id, ...]}`."""
    host, body = request.app[HOST], await read_object(request)
    ids = read_id_list(body, "delete")
    await asyncio.to_thread(_remove_pending, host, ids, everything=bool(body.get("clear")))
    return web.Response()


def _remove_pending(host: Host, ids: list[str], *, everything: bool) -> None:
    if everything:
        host.store.clear_queue()
    for job_id in ids:
        host.store.cancel(job_id)
    host.worker.notify()


async def post_interrupt(request: web.Request) -> web.Response:
    """Stop the running job, or with a `prompt_id` only that one."""
    body = await read_object(request, allow_empty=True)
    job_id = body.get("prompt_id")
    if job_id is not None and not isinstance(job_id, str):
        raise http_error(400, "prompt_id must be a string")
    await asyncio.to_thread(request.app[HOST].worker.interrupt, job_id or None)  # may wait for the store
    return web.Response()


async def post_free(request: web.Request) -> web.Response:
    """Drop cached results before the next job."""
    body = await read_object(request, allow_empty=True)
    request.app[HOST].worker.free(
        unload_models=bool(body.get("unload_models")), free_memory=bool(body.get("free_memory"))
    )
    return web.Response()


ROUTES = [
    web.get("/prompt", get_prompt),
    web.post("/prompt", post_prompt),
    web.get("/queue", get_queue),
    web.post("/queue", post_queue),
    web.post("/interrupt", post_interrupt),
    web.post("/free", post_free),
]

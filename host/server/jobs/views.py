"""Jobs and history as JSON, in the shapes that the frontend checks field by field.

Stored texts are passed on as they are: a list of JSON pieces is what the routes send one after another.
"""

from __future__ import annotations

import time
import traceback
from typing import Any

from host.folders import FOLDER_TYPES
from host.server.jobs.job import Job, Result
from host.strict_json import dumps

__all__ = ["crash_event", "error_event", "history_entry", "job_detail", "job_item", "summarise"]

_MEDIA = ("images", "video", "audio", "3d", "text")
_TEXT_SUFFIXES = (".txt", ".md", ".json")
_3D_SUFFIXES = (".obj", ".fbx", ".gltf", ".glb", ".usdz")
_TEXT_FIELDS = ("filename", "subfolder", "content", "display_name", "mediaType")
_MAX_TEXT_PREVIEW = 1024


def summarise(result: Result) -> dict[str, Any]:
    """Return what a list shows of a finished job, so that its outputs need not be read again."""
    items = _items(result.outputs)
    files = [(node, media, item) for node, media, item in items if isinstance(item, dict)]
    shown = [
        {**item, "nodeId": node, "mediaType": item.get("mediaType", media)}
        for node, media, item in files
        if _is_previewable(media, item)
    ]
    return {
        "outputs_count": len(files),
        "previewable_outputs_count": len(shown),
        "preview_output": min(shown, key=_preview_rank, default=None) or _text_preview(items),
        "execution_error": _first_message(result, "execution_error"),
        "execution_start_time": (_first_message(result, "execution_start") or {}).get("timestamp"),
        "execution_end_time": _end_time(result),
    }


def job_item(job: Job) -> dict[str, Any]:
    """Return one entry of `/jobs`. Fields that a job does not have are absent, never null."""
    item = {
        "id": job.id,
        "status": job.status,
        "priority": job.number,
        "create_time": job.create_time,
        "execution_start_time": job.start_time,
        "execution_end_time": job.end_time,
        "outputs_count": 0,
        "previewable_outputs_count": 0,
        "workflow_id": job.workflow_id,
        **{name: value for name, value in job.summary.items() if value is not None},
    }
    return {name: value for name, value in item.items() if value is not None}


def job_detail(job: Job) -> list[str]:
    """Return `/jobs/{id}` as JSON in pieces: the entry with the workflow, and for a finished job its outputs."""
    item, result = job_item(job), job.result
    if result is not None:
        item |= {"outputs": result.outputs, "execution_status": _status(job.status, result)}
    prompt, extra_data = job.prompt_text or "null", job.extra_data_text or "null"
    workflow = [', "workflow": {"prompt": ', prompt, ', "extra_data": ', extra_data, "}}"]
    return [dumps(item)[:-1], *workflow]


def history_entry(job: Job) -> list[str]:
    """Return one value of `/history` as JSON in pieces."""
    result = job.result
    assert result is not None
    rest = {"outputs": result.outputs, "meta": result.meta, "status": _status(job.status, result)}
    return ['{"prompt": ', *job.entry_texts, ", ", dumps(rest)[1:]]


def error_event(job_id: str, error: BaseException) -> dict[str, Any]:
    """Return the event of an error outside of any node. Every field is filled: the page rejects nulls."""
    return {
        "prompt_id": job_id,
        "node_id": "",
        "node_type": "",
        "executed": [],
        "exception_message": str(error),
        "exception_type": type(error).__name__,
        "traceback": traceback.format_tb(error.__traceback__),
        "current_inputs": {},
        "current_outputs": [],
        "timestamp": int(time.time() * 1000),
    }


def crash_event(job_id: str, attempts: int) -> dict[str, Any]:
    """Return the event of a job that keeps ending the server."""
    message = f"the server crashed {attempts} times while it ran this prompt, which is not run again"
    return error_event(job_id, RuntimeError(message))


def _status(job_status: str, result: Result) -> dict[str, Any]:
    completed = job_status == "completed"
    return {
        "status_str": "success" if completed else "error",
        "completed": completed,
        "messages": result.messages,
    }


def _items(outputs: dict[str, Any]) -> list[tuple[str, str, Any]]:
    """Return every item of every list of every node's ui output; 'animated' holds flags, not outputs."""
    return [
        (node, media, item)
        for node, output in outputs.items()
        if isinstance(output, dict)
        for media, items in output.items()
        if media != "animated" and isinstance(items, list)
        for item in items
    ]


def _is_previewable(media: str, item: dict[str, Any]) -> bool:
    """Return whether the page can show the item, and its fields pass the page's own checks."""
    name, mime_type = item.get("filename", ""), str(item.get("format", ""))
    if not all(isinstance(item.get(field, ""), str) for field in _TEXT_FIELDS):
        return False
    if item.get("type", "output") not in FOLDER_TYPES:
        return False
    is_media = media in _MEDIA or mime_type.startswith(("video/", "audio/"))
    return is_media or name.lower().endswith(_TEXT_SUFFIXES + _3D_SUFFIXES)


def _preview_rank(item: dict[str, Any]) -> int:
    """Return the sort key of a preview: saved pictures before temporary ones before texts."""
    is_text = item["mediaType"] == "text" or str(item.get("filename", "")).lower().endswith(_TEXT_SUFFIXES)
    return 2 if is_text else int(item.get("type") != "output")


def _text_preview(items: list[tuple[str, str, Any]]) -> dict[str, Any] | None:
    for node, media, item in items:
        if media == "text" and isinstance(item, str):
            truncated = {"truncated": True} if len(item) > _MAX_TEXT_PREVIEW else {}
            return {"content": item[:_MAX_TEXT_PREVIEW], **truncated, "nodeId": node, "mediaType": media}
    return None


def _first_message(result: Result, event: str) -> dict[str, Any] | None:
    found = [data for name, data in result.messages if name == event and isinstance(data, dict)]
    return found[0] if found else None


def _end_time(result: Result) -> int | None:
    ends = [_first_message(result, f"execution_{end}") for end in ("success", "error", "interrupted")]
    return next((end.get("timestamp") for end in ends if end), None)

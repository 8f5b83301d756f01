"""Reads workflow files: the API's format, the editor's format, or a PNG that carries either."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, UnidentifiedImageError

from host.limits import MAX_WORKFLOW_BYTES
from host.packs import Registry
from host.workflows.editor_format import to_prompt
from host.workflows.editor_graph import WorkflowError

__all__ = ["Workflow", "read_workflow"]

_MAX_MIB = MAX_WORKFLOW_BYTES >> 20
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


class Workflow(NamedTuple):
    """A prompt to run, and the metadata that saved pictures keep besides it.

    Attributes:
        prompt: The prompt in the API's format; not validated yet.
        extra_pnginfo: {"workflow": the editor's format} if the file has it, else {}.
    """

    prompt: dict[str, Any]
    extra_pnginfo: dict[str, Any]


def read_workflow(source: str | os.PathLike[str] | bytes, registry: Registry) -> Workflow:
    """Read a workflow.

    Args:
        source: A file, or its bytes: JSON in the API's format (also as the body of POST /prompt) or in the
            editor's, or a PNG with a `prompt` or `workflow` text chunk.
        registry: The node classes, which reading the editor's format needs.

    Raises:
        WorkflowError: There is no such file, or it contains no workflow.
    """
    if isinstance(source, bytes):
        return _from_bytes(source, "the file", registry)
    return _from_bytes(_read_file(Path(source)), str(source), registry)


def _from_bytes(data: bytes, name: str, registry: Registry) -> Workflow:
    """Read the content of a file. `name` is what errors call the file."""
    if len(data) > MAX_WORKFLOW_BYTES:
        raise WorkflowError(f"a workflow file has at most {_MAX_MIB} MiB, got {len(data) >> 20} MiB")
    if data.startswith(_PNG_SIGNATURE):
        return _from_png(data, name, registry)
    return _from_json(_parse(data, name), name, registry)


def _read_file(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_WORKFLOW_BYTES:
            raise WorkflowError(f"{path} is larger than {_MAX_MIB} MiB")
        return path.read_bytes()
    except FileNotFoundError:
        raise WorkflowError(f"there is no file {path}") from None
    except (OSError, ValueError) as error:
        raise WorkflowError(f"{path} cannot be read: {error}") from error


def _parse(text: bytes | str, where: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise WorkflowError(f"{where} nests too deeply") from None
    except UnicodeDecodeError:
        raise WorkflowError(f"{where} is neither JSON nor a PNG picture") from None
    except json.JSONDecodeError as error:
        if not text.strip():
            raise WorkflowError(f"{where} is empty; expected a workflow, in JSON or in a PNG picture") from None
        place = f"{where}, line {error.lineno}, column {error.colno}"
        raise WorkflowError(f"{place}: not valid JSON: {error.msg}") from error
    except ValueError as error:  # a number of thousands of digits
        raise WorkflowError(f"{where} is not valid JSON: {error}") from error


def _from_json(value: Any, name: str, registry: Registry) -> Workflow:
    """Recognize the format by its keys."""
    if not isinstance(value, dict):
        raise WorkflowError(f"{name}: a workflow is a JSON object, got {type(value).__name__}")
    if isinstance(value.get("nodes"), list):
        return Workflow(to_prompt(value, registry), {"workflow": value})
    if isinstance(value.get("prompt"), dict) and "class_type" not in value["prompt"]:
        return Workflow(value["prompt"], _extra_pnginfo(value))
    if value and all(isinstance(node, dict) and "class_type" in node for node in value.values()):
        return Workflow(value, {})
    raise WorkflowError(
        f"{name}: the JSON is not a workflow: neither nodes by id, each with a class_type (the API's format), nor "
        "an object with 'nodes' and 'links' (the editor's format)"
    )


def _extra_pnginfo(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata that a body of POST /prompt wants stored in pictures."""
    extra = body.get("extra_data")
    found = extra.get("extra_pnginfo") if isinstance(extra, dict) else None
    return found if isinstance(found, dict) else {}


def _from_png(data: bytes, name: str, registry: Registry) -> Workflow:
    """Read the text chunks of a PNG. The pixels are not decoded."""
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
            texts = {key: picture.info.get(key) for key in ("prompt", "workflow")}
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise WorkflowError(f"{name}: the PNG cannot be read: {error}") from error
    found = {key: _parse(text, f"{name}, its text '{key}'") for key, text in texts.items() if isinstance(text, str)}
    extra = {"workflow": found["workflow"]} if isinstance(found.get("workflow"), dict) else {}
    if isinstance(found.get("prompt"), dict):
        return Workflow(_from_json(found["prompt"], name, registry).prompt, extra)
    if extra:
        return Workflow(_from_json(extra["workflow"], name, registry).prompt, extra)
    raise WorkflowError(
        f"{name}: the picture contains no workflow: it has neither a 'prompt' nor a 'workflow' text chunk"
    )

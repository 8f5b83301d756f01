"""The frames of a server's WebSocket, read into the events of `host.execution.events`.

A frame is untrusted: what has not the expected shape is dropped, so that whoever shows progress need not check it.
"""

from __future__ import annotations

import io
import json
import math
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from PIL import Image

from host.strict_json import nests_deeper_than

__all__ = ["DROPPABLE", "ENDINGS", "Frame", "read_binary_frame", "read_text_frame", "with_prompt_id"]

ENDINGS = ("execution_success", "execution_error", "execution_interrupted")
DROPPABLE = frozenset({"progress", "progress_state", "preview"})  # a later one says the same and more

_MAX_DEPTH = 100  # nested lists and objects in a frame
_MAX_PREVIEW_PIXELS = 16 << 20
_PLAIN, _TAGGED = 1, 4  # the types of binary frames that hold a preview
_PLAIN_FORMATS = {1: "JPEG", 2: "PNG"}
_TAGGED_FORMATS = {"image/jpeg": "JPEG", "image/png": "PNG"}
_PREVIEW_IDS = ("node_id", "display_node_id", "parent_node_id", "real_node_id", "prompt_id")


class Frame(NamedTuple):
    """An event as a server sent it; of the prompt `data["prompt_id"]`, or of the running one if that is missing."""

    event: str
    data: dict[str, Any]

    @property
    def prompt_id(self) -> str | None:
        """The prompt's id on the server."""
        return self.data.get("prompt_id")


def read_text_frame(text: str) -> Frame | None:
    """Return the event in a frame of JSON, or None if it is none of a run's events, or malformed."""
    try:
        message = json.loads(text, parse_constant=lambda name: None)
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict) or nests_deeper_than(message, _MAX_DEPTH):
        return None
    event, data = message.get("type"), message.get("data")
    if not isinstance(event, str) or event not in _SHAPES or not isinstance(data, dict):
        return None
    shape = {"prompt_id": _is_text, **_SHAPES[event]}
    return Frame(event, data) if all(is_right(data.get(name)) for name, is_right in shape.items()) else None


def read_binary_frame(data: bytes) -> Frame | None:
    """Return the `preview` event in a binary frame, or None if it holds no preview, or a malformed one."""
    if len(data) < 8:
        return None
    kind, word = struct.unpack(">II", data[:8])
    if kind == _PLAIN:
        return _preview(data[8:], _PLAIN_FORMATS.get(word), {})
    if kind != _TAGGED or word > len(data) - 8:
        return None
    try:
        metadata = json.loads(data[8 : 8 + word])
    except (ValueError, RecursionError):
        return None
    if not isinstance(metadata, dict):
        return None
    ids = {name: metadata[name] for name in _PREVIEW_IDS if isinstance(metadata.get(name), str)}
    return _preview(data[8 + word :], _TAGGED_FORMATS.get(str(metadata.get("image_type"))), ids)


def _preview(file: bytes, image_format: str | None, ids: dict[str, str]) -> Frame | None:
    """Decode a preview. Its format is the one announced, so that a server cannot choose among Pillow's decoders."""
    if image_format is None:
        return None
    try:
        with Image.open(io.BytesIO(file), formats=[image_format]) as image:
            if image.width * image.height > _MAX_PREVIEW_PIXELS:
                return None
            image.load()
            picture = image.copy()
    except Exception:  # a damaged file makes Pillow raise whatever it comes across
        return None
    return Frame("preview", {**ids, "image": picture, "format": image_format, "max_size": None})


def with_prompt_id(frame: Frame, prompt_id: str) -> dict[str, Any]:
    """Return the data of an event with another id of the prompt."""
    data = {**frame.data, "prompt_id": prompt_id}
    if frame.event == "progress_state":
        data["nodes"] = {node_id: {**state, "prompt_id": prompt_id} for node_id, state in data["nodes"].items()}
    return data


# -- shapes


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_optional_text(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_output(value: Any) -> bool:
    return value is None or isinstance(value, dict)


def _is_states(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(state, dict) and _is_number(state.get("value")) and _is_number(state.get("max"))
        for state in value.values()
    )


# Event: what its data must hold. Fields that are not named here are passed on as they are.
_SHAPES: dict[str, dict[str, Callable[[Any], bool]]] = {
    "execution_start": {},
    "execution_cached": {"nodes": _is_texts},
    "executing": {"node": _is_optional_text},
    "progress": {"value": _is_number, "max": _is_number, "node": _is_text},
    "progress_state": {"nodes": _is_states},
    "executed": {"node": _is_text, "output": _is_output},
    "execution_success": {},
    "execution_error": {"node_id": _is_text, "exception_message": _is_text, "exception_type": _is_text},
    "execution_interrupted": {},
}

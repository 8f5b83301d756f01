"""Values and texts that have broken parsers before."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

NAMES = [
    "..", ".", "", "/", "//", "~", "a/b", "sub", "out", "root", "up", "loop", "secret.png", "secret.safetensors",
    "out/secret.png", "up/up/outside/secret.png", "root/etc/passwd", "/etc/passwd", "../outside/secret.png",
    "sub/../../../outside/secret.safetensors", "C:x", "c:\\x", "a\\..\\b", "%2e%2e", "%2e%2e%2f", "..%2f", "\0",
    "x\0.png", "x\n", "\x7f", "CON", "nul.png", "x" * 256, "é" * 200, "x/" * 40, "\ud800", "\u202e", "..\u2215",
    "\uff0e\uff0e", "ComfyUI", "%date:yyyy-MM-dd%", "%year%/%width%", "%date:../..%", "%batch_num%", "x [output]",
    "x.png [temp]", "../x [input]", "x [models]", "-1",
    "noise", "noise.safetensors", "sub/noise", "sub/../noise", ".hidden", ".tmp", "host.lock", "jobs.sqlite3",
]  # fmt: skip

texts = st.one_of(
    st.text(max_size=20),
    st.sampled_from(NAMES),
    st.sampled_from(["x" * 30_000, "9" * 5000, "[" * 5000, "NaN", "null", "true", "1e999", "-0", "0x10", "１"]),
)
path_parts = st.one_of(st.sampled_from(NAMES), st.text(max_size=12), st.text("./\\%: ~", max_size=8))
paths = st.lists(path_parts, min_size=1, max_size=4).map("/".join) | path_parts
numbers = st.one_of(
    st.integers(),
    st.integers(-3, 70),
    st.floats(),
    st.sampled_from([10**30, -(10**400), 2**63, 1e308, -0.0, 5e-324, 10**4299]),
)
scalars = st.none() | st.booleans() | numbers | texts


def json_values(scalars: st.SearchStrategy[Any] = scalars, keys: st.SearchStrategy[str] = texts) -> st.SearchStrategy:
    """JSON of any shape."""
    return st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=10
    )


def nested(depth: int, value: Any = 1) -> Any:
    """Lists in lists."""
    for _ in range(depth):
        value = [value]
    return value


values = json_values() | st.sampled_from([63, 64, 65, 150]).map(nested)


def written(value: Any) -> bytes:
    """A value as JSON, or as what Python writes for one that is none."""
    return json.dumps(value).encode()


def _apply(data: bytes, edits: list[tuple[str, int, bytes]]) -> bytes:
    for kind, place, piece in edits:
        at = place % (len(data) + 1)
        end = {"insert": at, "replace": at + len(piece), "cut": len(data), "delete": at + 1 + len(piece) ** 2}[kind]
        data = data[:at] + (b"" if kind in ("cut", "delete") else piece) + data[end:]
    return data


def mutated(*originals: bytes) -> st.SearchStrategy[bytes]:
    """One of some files after some edits, most of them where formats keep their lengths: at the beginning."""
    piece = st.binary(min_size=1, max_size=4) | st.sampled_from(
        [b"\xff" * 4, b"\0" * 8, b"\x7f\xff\xff\xff", b"-1", b"[["]
    )
    place = st.integers(0, 80) | st.integers(0, max(map(len, originals)))
    edit = st.tuples(st.sampled_from(["replace", "replace", "insert", "delete", "cut"]), place, piece)
    return st.builds(_apply, st.sampled_from(originals), st.lists(edit, max_size=4))


def changed(original: Any) -> st.SearchStrategy[Any]:
    """A JSON value with some of its parts, at any depth, replaced or left out."""
    return st.lists(st.tuples(st.integers(0, 10_000), st.booleans(), values), max_size=3).map(
        lambda changes: _with_changes(original, changes)
    )


def _with_changes(original: Any, changes: list[tuple[int, bool, Any]]) -> Any:
    result = json.loads(json.dumps(original))
    for number, is_left_out, value in changes:
        places = list(_places(result))
        if not places:
            return value
        container, key = places[number % len(places)]
        if is_left_out:
            del container[key]
        else:
            container[key] = value
    return result


def _places(value: Any):
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])

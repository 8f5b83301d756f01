"""Prompts over the toy nodes for which this host and ComfyUI must say and do the same."""

from __future__ import annotations

from typing import Any

GOOD = {"value": 1.0, "seed": 0, "mode": "plain"}


def node(kind: str, /, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def shown(source: str, slot: int = 0) -> dict[str, Any]:
    return node("ToyShow", value=[source, slot])


NUMBER = node("ToyNumber", **GOOD)

# Refused prompts. The answers must be equal in status and body.
REFUSED: dict[str, dict[str, Any]] = {
    "missing input": {"1": node("ToyNumber", value=1.0), "2": shown("1")},
    "too small": {"1": node("ToyNumber", **GOOD | {"value": -11}), "2": shown("1")},
    "too large": {"1": node("ToyNumber", **GOOD | {"seed": 2**64}), "2": shown("1")},
    "no number": {"1": node("ToyNumber", **GOOD | {"value": "much"}), "2": shown("1")},
    "no integer": {"1": node("ToyNumber", **GOOD | {"seed": [1, 2, 3]}), "2": shown("1")},
    "null": {"1": node("ToyNumber", **GOOD | {"seed": None}), "2": shown("1")},
    "no choice": {"1": node("ToyNumber", **GOOD | {"mode": "triple"}), "2": shown("1")},
    "all at once": {"1": node("ToyNumber", value=99, seed=-1, mode="no"), "2": shown("1")},
    "two nodes": {"1": node("ToyNumber", **GOOD | {"seed": -1}), "2": node("ToyAdd", a=["1", 0]), "3": shown("2")},
    "type mismatch": {"1": NUMBER, "2": node("ToyPass", image=["1", 0]), "3": shown("2", 1)},
    "one-element link": {"1": NUMBER, "2": node("ToyAdd", a=["1"], b=0.0), "3": shown("2")},
    "own validation": {"1": node("ToyEven", value=3, other=1), "2": shown("1")},
    "own validation and range": {"1": node("ToyEven", value=3, other=9), "2": shown("1")},
    "unknown class": {"1": {**node("Nope"), "_meta": {"title": "My Node"}}, "2": shown("1")},
    "unknown class without title": {"1": node("Nope")},
    "no class": {"1": {"inputs": {}}},
    "no outputs": {"1": NUMBER},
    "empty": {},
    "cycle": {"1": node("ToyAdd", a=["2", 0], b=0.0), "2": node("ToyAdd", a=["1", 0], b=0.0), "3": shown("1")},
    "self link": {"1": node("ToyAdd", a=["1", 0], b=0.0), "2": shown("1")},
    "missing file": {"1": node("LoadImage", image="not there.png"), "2": node("PreviewImage", images=["1", 0])},
    "escaping file": {"1": node("LoadImage", image="../x.png"), "2": node("PreviewImage", images=["1", 0])},
}

# The same status (400), but this host names the node and the input where ComfyUI shows a traceback.
REFUSED_CLEARER: dict[str, dict[str, Any]] = {
    "link to nowhere": {"1": node("ToyAdd", a=["9", 0], b=0.0), "2": shown("1")},
    "bad slot": {"1": NUMBER, "2": node("ToyAdd", a=["1", 7], b=0.0), "3": shown("2")},
    "no inputs": {"1": {"class_type": "ToyNumber"}, "2": shown("1")},
    "link by number": {"1": NUMBER, "2": node("ToyAdd", a=[1, 0], b=0.0), "3": shown("2")},
}

# Some outputs run, others do not: accepted, with the errors of the others.
PARTLY: dict[str, dict[str, Any]] = {
    "one bad": {"1": NUMBER, "2": shown("1"), "3": node("ToyNumber", **GOOD | {"seed": -1}), "4": shown("3")},
    "bad upstream": {"1": NUMBER, "2": shown("1"), "3": node("ToyAdd", b="x"), "4": node("ToyAdd", a=["3", 0], b=1.0),
                     "5": shown("4")},
}  # fmt: skip

# Sequences of prompts, run one after the other in a fresh host; streams of events and history must be equal.
CHAIN = {"1": NUMBER, "2": node("ToyAdd", a=["1", 0], b=2.0), "3": shown("2")}
LIST = {"1": node("ToyList", count=3), "2": node("ToyAdd", a=["1", 0], b=1.0), "3": shown("2")}
PLAYED: dict[str, list[dict[str, Any]]] = {
    "chain, cached, changed": [CHAIN, CHAIN, {**CHAIN, "2": node("ToyAdd", a=["1", 0], b=3.0)}],
    "conversion": [{"1": node("ToyNumber", value="2.5", seed="3", mode="double", label=4, negate=1), "2": shown("1")}],
    "list": [LIST],
    "two lists": [
        {
            "1": node("ToyList", count=4),
            "2": node("ToyList", count=2),
            "3": node("ToyAdd", a=["1", 0], b=["2", 0]),
            "4": shown("3"),
        }
    ],
    "whole list": [{"1": node("ToyList", count=4), "2": node("ToySum", values=["1", 0], scale=2.0), "3": shown("2")}],
    "clock": [{"1": node("ToyClock", value=1.0), "2": shown("1")}] * 2,
    "lazy": [
        {
            "1": NUMBER,
            "2": node("ToyList", count=1),
            "3": node("ToySwitch", first=first, a=["1", 0], b=["2", 0]),
            "4": shown("3"),
        }
        for first in (True, False)
    ],
    "async": [{"1": node("ToyAsync", value=1.0, seconds=0.1), "2": node("ToyAdd", a=["1", 0], b=0.0), "3": shown("2")}],
    "expansion": [{"1": NUMBER, "2": node("ToyExpand", value=["1", 0]), "3": shown("2")}] * 2,
    "steps": [{"1": node("ToySteps", steps=3), "2": shown("1")}],
    "silent block": [{"1": node("ToyBlock", message=""), "2": node("ToyAdd", a=["1", 0], b=0.0), "3": shown("2")}],
    "block": [{"1": node("ToyBlock", message="no"), "2": node("ToyAdd", a=["1", 0], b=0.0), "3": shown("2")}],
    "error, then reuse": [{"1": NUMBER, "2": node("ToyFail", value=["1", 0]), "3": shown("2")}] * 2,
    "hidden": [{"5": node("ToyHidden")}],
    "unreachable node": [{**CHAIN, "9": node("ToyNumber", **GOOD | {"seed": 5})}] * 2,
    "middle": [{"1": NUMBER, "2": node("ToyMiddle", value=["1", 0]), "3": shown("2")}] * 2,
    "pictures": [
        {
            "1": node("ToyImage", grey=0.5, size=8, count=2),
            "2": node("SaveImage", images=["1", 0], filename_prefix="sub/toy"),
        }
    ]
    * 2,
    "an input that no class declares": [{"1": node("ToyNumber", **GOOD | {"upload": "image"}), "2": shown("1")}],
    "constant for any": [{"1": node("ToyShow", value="text")}],
}

# What versions before 0.33 say or do otherwise.
NEWER_WORDS = {"unknown class", "unknown class without title", "no class", "cycle", "self link"}
NEWER_EVENTS = {"middle"}

"""Starts the engine that a specification names."""

from __future__ import annotations

import importlib
from pathlib import Path

from host.engines.contract import Engine, EngineError
from host.engines.spec import EngineSpec
from host.error_format import show

__all__ = ["start"]

# By kind. A module is imported only when its engine is asked for: one drives a web socket, another imports torch.
_ENGINES = {
    "embedded": ("host.engines.embedded", "EmbeddedEngine"),
    "comfyui": ("host.engines.comfyui", "ComfyUIEngine"),
    "http": ("host.engines.http", "HttpEngine"),
}


def start(spec: EngineSpec, folder: Path, name: str) -> Engine:
    """Start an engine.

    Args:
        spec: Which one, and how.
        folder: An existing folder for the engine's files, which nothing else uses. The caller deletes it after `close`.
        name: What the user calls the engine.

    Raises:
        EngineError: It cannot be started. The message is shown to the user.
    """
    if spec.kind not in _ENGINES:
        raise EngineError(f"an engine is one of {', '.join(_ENGINES)}, got {show(spec.kind)}")
    module, constructor = _ENGINES[spec.kind]
    engine: Engine = getattr(importlib.import_module(module), constructor)(spec, folder, name)
    return engine

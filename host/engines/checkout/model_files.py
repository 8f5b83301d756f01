"""Which model files a prompt reads, and their digests: pictures made with another file of the same name differ."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from host.engines.environment import file_digest
from host.folders import FolderError, real_path_inside

__all__ = ["ModelFiles"]

_SUFFIXES = (".safetensors", ".sft", ".ckpt", ".pt", ".pt2", ".pth", ".bin", ".pkl", ".gguf", ".onnx")
_MAX_NAMES = 200  # of one prompt
_MAX_NAME_CHARACTERS = 1024


class ModelFiles:
    """The model files of a checkout. A file is read once, and again only if its size or time changes.

    Args:
        models: The checkout's folder of models, with a folder for each kind.
    """

    def __init__(self, models: Path) -> None:
        self._models = models
        self._digests: dict[tuple[str, int, int], str] = {}

    def of(self, prompt: Mapping[str, Any]) -> dict[str, str]:
        """Return {name: SHA-256} of the model files that a prompt names; "" where there is no such file here.

        A file may lie in folders that only the ComfyUI knows, as `extra_model_paths.yaml` lists them.
        """
        names = sorted(set(_model_names(prompt)))[:_MAX_NAMES]
        return {name: self._digest_of(name) for name in names}

    def _digest_of(self, name: str) -> str:
        kinds = sorted(path for path in self._models.iterdir() if path.is_dir()) if self._models.is_dir() else []
        for kind in kinds:
            try:
                path = real_path_inside(kind, kind / name) if not os.path.isabs(name) else kind
                status = path.stat()
                if path.is_file():
                    key = (str(path), status.st_size, status.st_mtime_ns)
                    if key not in self._digests:
                        self._digests[key] = file_digest(path)
                    return self._digests[key]
            except (FolderError, OSError):
                continue
        return ""


def _model_names(prompt: Mapping[str, Any]) -> Iterator[str]:
    """Yield the values in a prompt that look like the name of a model file."""
    for node in prompt.values():
        inputs = node.get("inputs") if isinstance(node, dict) else None
        for value in inputs.values() if isinstance(inputs, dict) else ():
            if isinstance(value, str) and len(value) <= _MAX_NAME_CHARACTERS and value.lower().endswith(_SUFFIXES):
                yield value

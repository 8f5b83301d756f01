"""The types of the values on the sockets that every host has."""

from __future__ import annotations

from typing import Any, TypeAlias

__all__ = ["Conditioning", "Latent", "Model"]

Model: TypeAlias = object  # a MODEL: opaque to the nodes, only the backend that made it looks inside
Conditioning: TypeAlias = list[list[Any]]  # CONDITIONING: [[tensor, {option: value}], ...]
Latent: TypeAlias = dict[str, Any]  # LATENT: {"samples": (B, C, ...), ...}; unknown keys are passed on

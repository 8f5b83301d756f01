"""Nodes as a host calls them, and a network whose right answers are known."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from ddim import SchedulerConfig, make_schedule, output_from_x0

PIXEL_CONFIG = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "clip_sample": False}


class PointMass(torch.nn.Module):
    """The exact network for data that is one picture per label: picture k has value (k - 5) / 5 everywhere."""

    def __init__(self, config: SchedulerConfig) -> None:
        super().__init__()
        self.config, self.noise, self.calls = config, make_schedule(1, config).noise, []

    def forward(self, x: Tensor, timestep: Tensor, rows: Tensor) -> Tensor:
        self.calls.append(timestep.tolist())
        level = self.noise.levels[int(timestep[0])]
        x0 = ((rows.argmax(1).float() - 5) / 5)[:, None, None, None].expand_as(x)
        return output_from_x0(x0, x, level, self.config.prediction_type)


def _call(node: type, **given: Any) -> Any:
    """Run a node with defaults for what is not given; the outputs alone."""
    required = node.INPUT_TYPES()["required"]
    values = {name: options["default"] for name, (_, options) in required.items() if "default" in options}
    result = getattr(node(), node.FUNCTION)(**{**values, **given})
    return result["result"] if isinstance(result, dict) else result


@pytest.fixture(scope="session")
def nodes(pack: ModuleType) -> dict[str, type]:
    return pack.NODE_CLASS_MAPPINGS


@pytest.fixture(scope="session")
def backend(nodes: dict[str, type]) -> ModuleType:
    """The border to the host: ``backend.current()`` is the embedded one here."""
    return sys.modules["pack.nodes.backend"]


@pytest.fixture(scope="session")
def values(nodes: dict[str, type]) -> ModuleType:
    return sys.modules["pack.nodes.values"]


@pytest.fixture
def call(nodes: dict[str, type]) -> Callable[..., Any]:
    """``call("DDIMSample", cfg=1.0, ...)`` gives the tuple of outputs."""
    return lambda name, **given: _call(nodes[name], **given)


@pytest.fixture
def exact_model(backend: ModuleType) -> Callable[..., Any]:
    """A MODEL around :class:`PointMass`, and the network to look into."""

    def make(**settings: Any) -> tuple[Any, PointMass]:
        config = SchedulerConfig(**{**PIXEL_CONFIG, **settings})
        network = PointMass(config)
        return backend.current().model_from_network(network, config), network

    return make

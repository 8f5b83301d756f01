"""The demo network read as each kind of network, and what find_prediction_type measures."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ddim import PredictionCheck, SigmaConfig, find_prediction_type, make_schedule, output_from_x0, predict_x0
from demo import FlowNetwork, load_demo_model
from demo.draw import make_scheduler

__all__ = ["READINGS", "ideal", "measured"]

READINGS = ("epsilon", "v_prediction", "sample", "flow_prediction")
LABELS = torch.tensor([3, 8])
LIKE = torch.zeros(2, 3, 32, 32)


def ideal(kind: str) -> tuple[float, float]:
    """Return the weights of noise and picture in the output at alpha_bar 0.75."""
    return {
        "epsilon": (1.0, 0.0),
        "v_prediction": (math.sqrt(0.75), -math.sqrt(0.25)),
        "sample": (0.0, 1.0),
        "flow_prediction": (1.0, -1.0),
    }[kind]


@torch.inference_mode()
def measured(kind: str) -> PredictionCheck:
    """Check the demo network in a reading."""
    demo = load_demo_model()
    noise = make_schedule(1, make_scheduler(demo, 1).settings).noise
    if kind == "flow_prediction":
        flow, sigmas = FlowNetwork(demo.network, noise.alpha_bar), tuple(i / 1000 for i in range(1, 1001))
        levels = SigmaConfig("flow", sigmas, time_scale=1000.0).noise_schedule
        return find_prediction_type(lambda x, t: flow(x, t.expand(2), LABELS), LIKE, levels)

    def model(x: Tensor, t: Tensor) -> Tensor:
        v, level = demo.network(x, t.expand(2), LABELS), noise.level_at(int(t))
        if kind == "epsilon" and level.alpha == 0.0:
            return x
        return output_from_x0(predict_x0(v, x, level, "v_prediction"), x, level, kind)

    return find_prediction_type(model, LIKE, noise)

"""The demo network as a flow model: the same predictions at the same noise levels, and digits from it."""

import pytest
import torch

from ddim import SchedulerConfig, SigmaConfig, make_schedule, predict_x0, sample
from demo import FlowNetwork, load_demo_model
from demo.judge import read_digits, train_judge

LABELS = torch.arange(20) % 10


@pytest.fixture(scope="module")
def demo():
    return load_demo_model()


@pytest.fixture(scope="module")
def levels(demo):
    return make_schedule(1, SchedulerConfig(**demo.scheduler_config)).noise


@pytest.mark.parametrize("timestep", [0, 1, 250, 700, 998, 999])
def test_it_predicts_what_the_network_does_at_that_level(demo, levels, timestep: int) -> None:
    """At a whole timestep, where nothing is interpolated."""
    preserved = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(timestep))
    level = levels.level_at(timestep)
    sigma = level.sigma / (level.alpha + level.sigma)
    length = ((1 - sigma) ** 2 + sigma**2) ** 0.5
    label = torch.tensor([3, 8])
    v = demo.network(preserved, torch.full((2,), float(timestep)), label)
    expected = predict_x0(v, preserved, level, "v_prediction")
    time = torch.full((2,), 1000 * sigma, dtype=torch.float64)
    output = FlowNetwork(demo.network, levels.alpha_bar)(preserved * length, time, label)
    assert torch.allclose(preserved * length - sigma * output, expected, atol=1e-4)


def test_timesteps_between_whole_ones_are_interpolated(levels) -> None:
    seen: list[float] = []

    class Recording(torch.nn.Module):
        def forward(self, x, timestep, label):
            seen.extend(timestep.tolist())
            return torch.zeros_like(x)

    flow = FlowNetwork(Recording(), levels.alpha_bar)
    flow(torch.zeros(1001, 3, 1, 1), torch.arange(1001), torch.zeros(1001, 11))
    steps = torch.tensor(seen).diff()
    assert seen[0] == 0 and seen[-1] == 999 and (steps >= 0).all() and (steps[50:] > 0).all()


def test_samples_of_the_flow_model_are_the_digits_asked_for(demo, levels) -> None:
    flow = FlowNetwork(demo.network, levels.alpha_bar)
    schedule = make_schedule(20, SigmaConfig("flow", tuple((i + 1) / 1000 for i in range(1000))))
    rows = torch.eye(11)[LABELS]
    none = torch.eye(11)[torch.full_like(LABELS, 10)]

    def guided(x, t):
        times = t.expand(2 * len(x))
        with torch.inference_mode():
            positive, negative = flow(torch.cat([x, x]), times, torch.cat([rows, none])).chunk(2)
        return negative + 2.5 * (positive - negative)

    noise = torch.randn(20, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    digits = sample(guided, noise, schedule.scheduler())
    assert (read_digits(train_judge(), digits) == LABELS).float().mean() >= 0.85

"""The trained model draws what it is asked for, judged by a classifier that knows real scans alone."""

import json
from pathlib import Path

import pytest
import torch

from bench.demo_quality import kolmogorov_smirnov
from demo import DemoModel, load_demo_model
from demo.data import load_scans, random_pictures
from demo.draw import GUIDANCE_RESCALE, GUIDANCE_SCALE, draw_digits, initial_noise, make_scheduler
from demo.judge import find_stroke, held_out_accuracy, mean_brightness, read_digits, train_judge

LABELS = torch.arange(40) % 10


@pytest.fixture(scope="module")
def judge():
    return train_judge()


@pytest.fixture(scope="module")
def model() -> DemoModel:
    return load_demo_model()


@pytest.fixture(scope="module")
def samples(model: DemoModel) -> torch.Tensor:
    return draw_digits(model, LABELS, initial_noise(len(LABELS), 11), make_scheduler(model, 20))


def test_the_judge_reads_real_scans_that_it_has_not_seen(judge) -> None:
    assert held_out_accuracy(judge, count=700) >= 0.97


def test_the_judge_sees_the_stroke_whatever_the_colours() -> None:
    scans = load_scans("held_out")
    (first, label), (second, _) = (random_pictures(scans, 1, torch.Generator().manual_seed(seed)) for seed in (0, 0))
    inverted = -second
    assert torch.allclose(find_stroke(first), find_stroke(inverted), atol=1e-4)


def test_the_judge_is_no_yes_man(judge) -> None:
    """It does not find digits in noise, nor the digit asked for in another one's picture."""
    pictures, labels = random_pictures(load_scans("held_out"), 300, torch.Generator().manual_seed(4))
    assert (read_digits(judge, pictures) == (labels + 1) % 10).float().mean() < 0.05
    noise = torch.randn(300, 3, 32, 32, generator=torch.Generator().manual_seed(4))
    assert (read_digits(judge, noise) == labels).float().mean() < 0.25


def test_samples_are_the_digits_asked_for(judge, samples: torch.Tensor) -> None:
    assert (read_digits(judge, samples) == LABELS).float().mean() >= 0.9


def test_the_guidance_that_is_measured_is_the_workflow_s(repo_root: Path) -> None:
    workflow = json.loads((repo_root / "example_workflows" / "Start here - digits.json").read_text())
    sampler = next(node for node in workflow["nodes"] if node["type"] == "DDIMSample")
    named = sampler["widgets_values_named"]
    assert (GUIDANCE_SCALE, GUIDANCE_RESCALE) == (named["cfg"], named["guidance_rescale"])


def test_samples_are_dark_and_bright(samples: torch.Tensor) -> None:
    brightness = mean_brightness(samples)
    assert brightness.std() > 0.15 and brightness.min() < -0.3 and brightness.max() > 0.3


def test_sampling_is_repeatable_and_depends_on_the_noise_of_each_picture_alone(model: DemoModel) -> None:
    noise, labels = initial_noise(4, 3), torch.tensor([1, 2, 3, 4])
    together = draw_digits(model, labels, noise, make_scheduler(model, 5))
    assert torch.equal(together, draw_digits(model, labels, noise, make_scheduler(model, 5)))
    alone = draw_digits(model, labels[2:3], noise[2:3], make_scheduler(model, 5))
    assert torch.allclose(alone[0], together[2], atol=1e-3)


def test_the_distance_of_distributions_agrees_with_scipy() -> None:
    from scipy.stats import ks_2samp

    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(300, generator=generator), 0.3 + 1.2 * torch.randn(170, generator=generator)
    b[:20] = a[:20]  # ties
    assert kolmogorov_smirnov(a, b) == pytest.approx(ks_2samp(a.numpy(), b.numpy()).statistic, abs=1e-12)

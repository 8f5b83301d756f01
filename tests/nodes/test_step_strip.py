"""DDIM Step Strip, on a network whose prediction of each step is known: picture k is of the shade (k - 5) / 5."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from ddim import DDIMError


@pytest.fixture
def steps(call: Any, exact_model: Any) -> Any:
    """The third output of DDIM KSampler, of 10 images and 6 steps."""
    model, _ = exact_model()
    prompt = {"positive": call("DDIMDemoPrompt")[0], "negative": call("DDIMDemoPrompt", digits="")[0]}
    latent = call("DDIMDemoLatent")[0]
    return call("DDIMSample", model=model, **prompt, latent_image=latent, steps=6, cfg=1.0)[2]


def shade(picture: Tensor) -> float:
    assert float(picture.max() - picture.min()) < 1.01 / 255  # one level: 0.5 lies between two
    return float(picture.flatten()[0])


def test_a_frame_for_each_step_and_all_of_them_on_one_sheet(call: Any, steps: Any) -> None:
    strip, frames = call("DDIMStepStrip", run_steps=steps, columns=4)
    assert frames.shape == (6, 2 * 32, 5 * 32, 3) and strip.shape == (1, 2 * 64, 4 * 160, 3)
    assert frames.dtype == torch.float32 and 0 <= float(frames.min()) and float(frames.max()) <= 1
    for digit in range(10):
        row, column = divmod(digit, 5)
        for frame in frames:
            cell = frame[32 * row : 32 * row + 32, 32 * column : 32 * column + 32]
            assert shade(cell) == pytest.approx(digit / 10, abs=0.005)
    assert torch.equal(strip[0, :64, 160:320], frames[1]) and torch.equal(strip[0, 64:, 160:320], frames[5])
    assert not strip[0, 64:, 320:].any()  # six steps leave two places


def test_one_image_of_the_batch(call: Any, steps: Any) -> None:
    strip, frames = call("DDIMStepStrip", run_steps=steps, image_number=4)
    assert frames.shape == (6, 32, 32, 3) and strip.shape == (1, 32, 6 * 32, 3)
    assert shade(strip) == pytest.approx(0.3, abs=0.005)
    for wrong in (11, -1):
        with pytest.raises(DDIMError, match=r"image_number must be 0 \(all\) or one of 1, 2, 3.*the batch of 10"):
            call("DDIMStepStrip", run_steps=steps, image_number=wrong)


def test_the_last_frame_is_the_result(call: Any, exact_model: Any) -> None:
    model, _ = exact_model()
    prompt = {"positive": call("DDIMDemoPrompt", digits="27")[0], "negative": call("DDIMDemoPrompt", digits="")[0]}
    latent = call("DDIMDemoLatent", batch_size=2)[0]
    result, _, steps = call("DDIMSample", model=model, **prompt, latent_image=latent, steps=4, cfg=1.0)
    _, frames = call("DDIMStepStrip", run_steps=steps)
    decoded = call("DDIMDemoDecode", latent=result, scale=1)[0]
    assert torch.allclose(frames[-1], torch.cat(list(decoded), 1), atol=0.003)


def test_latents_without_known_colours_have_no_strip(call: Any, exact_model: Any) -> None:
    model, _ = exact_model()
    prompt = {"positive": call("DDIMDemoPrompt", digits="2")[0], "negative": call("DDIMDemoPrompt", digits="")[0]}
    latent = {"samples": torch.zeros(1, 4, 8, 8)}
    steps = call("DDIMSample", model=model, **prompt, latent_image=latent, steps=3, cfg=1.0)[2]
    with pytest.raises(DDIMError, match="no pictures of its steps"):
        call("DDIMStepStrip", run_steps=steps)

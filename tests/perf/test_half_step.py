"""A step of half precision in pieces against the same step in one go, and the buffers that it keeps."""

from __future__ import annotations

import pytest
import torch

import ddim
from ddim.fast_step import fast_step
from ddim.half_step import half_step
from ddim.tensor_ops import PIECE
from ddim.x0_processing import Clip

SHAPES = [(2, 3, 5), (1, PIECE), (3, PIECE + 7)]


def drawn(shape: tuple[int, ...], seed: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("prediction_type", ddim.PREDICTION_TYPES)
@pytest.mark.parametrize(("process_x0", "rederive"), [(None, False), (Clip(1.0), False), (Clip(1.0), True)])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_pieces_are_the_whole_bit_for_bit(shape, dtype, prediction_type, process_x0, rederive, eta):
    scheduler = ddim.DDIMScheduler(prediction_type=prediction_type)
    scheduler.set_timesteps(10)
    for index, kinds in ((3, (dtype, dtype, dtype)), (0, (torch.float32, dtype, torch.float32))):
        step = scheduler.coefficients(index, eta)
        x, m, z = (drawn(shape, seed, kind) for seed, kind in enumerate(kinds))
        noise = z if eta else None
        # to float32 first: what the step of one go does, piece or not
        expected, _ = fast_step(
            step, x.float(), m.float(), process_x0=process_x0, use_clipped_model_output=rederive, noise=noise
        )
        wide, rounded = torch.empty(shape), torch.empty(shape, dtype=dtype)
        lane = torch.empty(shape if wide.numel() <= PIECE else PIECE)
        half_step(step, x, m, process_x0, rederive, noise, wide=wide, rounded=rounded, lane=lane)
        assert torch.equal(wide, expected)
        assert torch.equal(rounded, expected.to(dtype))


@pytest.mark.parametrize("shape", SHAPES)
def test_kept_buffers_are_never_what_a_caller_holds(shape):
    scheduler = ddim.DDIMScheduler(clip_sample=False)
    scheduler.set_timesteps(8)
    samples, copies = [drawn(shape, 0, torch.float16)], []
    for i, t in enumerate(scheduler.timesteps):
        copies.append(samples[-1].clone())
        samples.append(scheduler.step(drawn(shape, i + 1, torch.float16), t, samples[-1]).prev_sample)
    assert all(torch.equal(kept, copy) for kept, copy in zip(samples, copies, strict=False))


def test_a_run_keeps_its_float32_state_through_pieces():
    shape = (1, PIECE + 7)
    ends = []
    for dtype in (torch.float16, torch.float64):
        scheduler = ddim.DDIMScheduler(clip_sample=False)
        scheduler.set_timesteps(50)
        x = drawn(shape, 0, torch.float16).to(dtype)
        for i, t in enumerate(scheduler.timesteps):
            x = scheduler.step(drawn(shape, i + 1, torch.float16).to(dtype), t, x).prev_sample
        ends.append(x.double())
    # the outputs do not depend on the sample here, so that only the last rounding is left
    assert (ends[0] - ends[1]).abs().max() <= 2**-11 * ends[1].abs().max() + 1e-5


def test_buffers_of_inference_mode_are_not_written_outside_of_it():
    scheduler = ddim.DDIMScheduler(clip_sample=False)
    scheduler.set_timesteps(8)
    x, m = drawn((2, 3, 5), 0, torch.float16), drawn((2, 3, 5), 1, torch.float16)
    expected = scheduler.step(m, scheduler.timesteps[2], x).prev_sample
    for inference in (True, True, True, False, False, False, True):
        with torch.inference_mode(inference):
            assert torch.equal(scheduler.step(m, scheduler.timesteps[2], x).prev_sample, expected)

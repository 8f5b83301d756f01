"""Steps in pieces against the same step in one go, half precision, and the state that it keeps."""

from __future__ import annotations

import pytest
import torch
from ddim.fast_step import fast_step
from ddim.x0_processing import Clip, Threshold

import ddim
from ddim import pieces

SHAPES = [(2, 3, 5), (2, 56), (3, 1007)]
PROCESSORS = [(None, False), (Clip(1.0), False), (Clip(1.0), True), (Threshold(0.9, 1.5), False)]


@pytest.fixture
def small_pieces(monkeypatch):
    """Pieces of 16 elements, a whole number of the processor's vectors as they always are."""
    monkeypatch.setattr(pieces, "PIECE", 16)


def drawn(shape: tuple[int, ...], seed: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kinds", ["float32", "float64", "float16", "bfloat16", "wide state", "wide output"])
@pytest.mark.parametrize("prediction_type", ddim.PREDICTION_TYPES)
@pytest.mark.parametrize(("process_x0", "rederive"), PROCESSORS)
@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("target", ["new", "given", "sample"])
def test_pieces_are_the_whole_bit_for_bit(
    shape, kinds, prediction_type, process_x0, rederive, eta, target, monkeypatch
):
    mixed = {"wide state": (torch.float32, torch.float16), "wide output": (torch.bfloat16, torch.float32)}
    x_dtype, m_dtype = mixed.get(kinds) or (getattr(torch, kinds),) * 2
    working = torch.float64 if x_dtype == torch.float64 else torch.float32
    scheduler = ddim.DDIMScheduler(prediction_type=prediction_type)
    scheduler.set_timesteps(10)
    step = scheduler.coefficients(3, eta)
    x, m, z = (drawn(shape, seed, kind) for seed, kind in enumerate((x_dtype, m_dtype, x_dtype)))
    options = dict(process_x0=process_x0, use_clipped_model_output=rederive, noise=z if eta else None)
    expected, _ = fast_step(step, x.to(working), m.to(working), **options)
    monkeypatch.setattr(pieces, "PIECE", 16)
    assert pieces.in_pieces(x, m, z) == (x.numel() > 64)
    place, rounded = None, None
    if target != "new":
        place = x if target == "sample" and x_dtype == working else torch.empty(shape, dtype=working)
        rounded = x if target == "sample" and x is not place else torch.empty(shape, dtype=torch.bfloat16)
    result, _ = fast_step(step, x, m, **options, out=place, rounded=rounded)
    assert place is None or result is place
    assert torch.equal(result, expected)
    assert rounded is None or torch.equal(rounded, expected.to(rounded.dtype))


def test_what_cannot_be_cut_is_not(small_pieces):
    x = drawn((3, 1024), 0, torch.float32)
    assert pieces.in_pieces(x, None, x)
    assert not pieces.in_pieces(x.t()) and not pieces.in_pieces(x[:, ::2])
    assert not pieces.in_pieces(x, x.clone().requires_grad_())
    with torch.no_grad():
        assert pieces.in_pieces(x, x.clone().requires_grad_())
    assert not any(torch.vmap(lambda row: row * float(pieces.in_pieces(row)))(x).flatten().tolist())


def test_every_thread_gets_its_share_of_a_piece():
    before = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            assert pieces.piece_length() == threads * pieces.PIECE
            assert {len(piece) for (piece,) in list(pieces.cut(torch.empty(8 * pieces.PIECE)))[:-1]} == {
                threads * pieces.PIECE
            }
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("shape", SHAPES)
def test_kept_states_are_never_what_a_caller_holds(shape, small_pieces):
    scheduler = ddim.DDIMScheduler(clip_sample=False)
    scheduler.set_timesteps(8)
    samples, copies = [drawn(shape, 0, torch.float16)], []
    for i, t in enumerate(scheduler.timesteps):
        copies.append(samples[-1].clone())
        samples.append(scheduler.step(drawn(shape, i + 1, torch.float16), t, samples[-1]).prev_sample)
    assert all(torch.equal(kept, copy) for kept, copy in zip(samples, copies, strict=False))


@pytest.mark.parametrize("settings", [{"clip_sample": False}, {}, {"thresholding": True, "sample_max_value": 3.0}])
@pytest.mark.parametrize("prediction_type", ddim.PREDICTION_TYPES)
def test_a_run_keeps_its_float32_state_through_pieces(settings, prediction_type, small_pieces):
    shape, ends = (1, 107), []
    for dtype in (torch.float16, torch.float64):
        scheduler = ddim.DDIMScheduler(prediction_type=prediction_type, **settings)
        scheduler.set_timesteps(50)
        x = drawn(shape, 0, torch.float16).to(dtype)
        for i, t in enumerate(scheduler.timesteps):
            x = scheduler.step(drawn(shape, i + 1, torch.float16).to(dtype), t, x).prev_sample
        ends.append(x.double())
    # the outputs do not depend on the sample here, so that only the last rounding is left
    assert (ends[0] - ends[1]).abs().max() <= 2**-11 * ends[1].abs().max() + 1e-5


def test_a_step_that_fails_leaves_no_state_behind(small_pieces):
    scheduler = ddim.DDIMScheduler(clip_sample=False)
    scheduler.set_timesteps(8)
    m = drawn((2, 56), 1, torch.float16)
    x = scheduler.step(m, scheduler.timesteps[0], drawn((2, 56), 0, torch.float16)).prev_sample
    fresh = ddim.DDIMScheduler(clip_sample=False)
    fresh.set_timesteps(8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ddim.scheduler.fast_step", lambda *args, **kwargs: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            scheduler.step(m, scheduler.timesteps[1], x)
    again = scheduler.step(m, scheduler.timesteps[1], x).prev_sample
    assert torch.equal(again, fresh.step(m, fresh.timesteps[1], x.clone()).prev_sample)


def test_states_of_inference_mode_are_not_written_outside_of_it():
    scheduler = ddim.DDIMScheduler(clip_sample=False)
    scheduler.set_timesteps(8)
    x, m = drawn((2, 3, 5), 0, torch.float16), drawn((2, 3, 5), 1, torch.float16)
    expected = scheduler.step(m, scheduler.timesteps[2], x).prev_sample
    for inference in (True, True, True, False, False, False, True):
        with torch.inference_mode(inference):
            assert torch.equal(scheduler.step(m, scheduler.timesteps[2], x).prev_sample, expected)

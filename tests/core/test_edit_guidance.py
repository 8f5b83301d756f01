"""Proximal guidance and edit guidance: what their operators are by definition, and the limits at which they vanish."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import ddim
from ddim import DDIMError


def images(seed: int, shape: tuple[int, ...] = (3, 4, 8, 8), dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


SOURCE, TARGET = images(1), images(2)


def proximal(difference: Tensor, threshold: float, operator: str) -> Tensor:
    """argmin over v of |v - d|^2 / 2 + penalty(v) for each number, found by trying all values of a fine grid."""
    grid = torch.cat([torch.linspace(-6, 6, 24001, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)])
    penalty = threshold * grid.abs() if operator == "soft" else threshold**2 / 2 * (grid != 0)
    return grid[((grid[:, None] - difference) ** 2 / 2 + penalty[:, None]).argmin(0)]


@pytest.mark.parametrize("operator", ddim.PROXIMAL_OPERATORS)
def test_the_operator_minimises_what_it_is_the_proximal_operator_of(operator: str) -> None:
    source, target = images(1, (2, 40)), images(2, (2, 40))
    found = ddim.proximal_guide(source, target, 1.0, 0.7, operator) - source
    for image in range(2):
        difference = (target - source)[image]
        threshold = float(torch.quantile(difference.abs(), 0.7))
        expected = proximal(difference, threshold, operator)
        assert torch.allclose(found[image], expected, rtol=0, atol=4e-4)


@pytest.mark.parametrize("operator", ddim.PROXIMAL_OPERATORS)
def test_its_limits_are_guidance_and_the_source(operator: str) -> None:
    none = ddim.proximal_guide(SOURCE, TARGET, 3.0, 0.0, operator)
    assert torch.allclose(none, ddim.guide(SOURCE, TARGET, 3.0))
    assert torch.allclose(ddim.proximal_guide(SOURCE, TARGET, 7.5, 1.0, operator), SOURCE, rtol=0, atol=1e-12)
    assert torch.equal(ddim.proximal_guide(SOURCE, TARGET, 0.0, 0.7, operator), SOURCE)
    assert torch.equal(ddim.proximal_guide(SOURCE, SOURCE, 7.5, 0.7, operator), SOURCE)


@pytest.mark.parametrize("operator", ddim.PROXIMAL_OPERATORS)
def test_its_share_is_that_of_each_image_and_of_no_other(operator: str) -> None:
    both = ddim.proximal_guide(SOURCE, torch.cat([TARGET[:1], 10 * TARGET[1:]]), 2.0, 0.7, operator)
    assert torch.equal(both[:1], ddim.proximal_guide(SOURCE[:1], TARGET[:1], 2.0, 0.7, operator))
    moved = ((both - SOURCE).abs() > 1e-9).flatten(1).double().mean(1)
    assert torch.allclose(moved, torch.full_like(moved, 0.3), atol=0.01)


@pytest.mark.parametrize("kind", ["sample", "v_prediction", "flow_prediction"])
def test_it_is_the_same_in_every_output_space(kind: str) -> None:
    """What lets a host combine x_0 instead: the outputs of one image are linear in it, with one factor."""
    level, x = ddim.Level(0.6, 0.8), images(3)

    def to(x0: Tensor) -> Tensor:
        return ddim.output_from_x0(x0, x, level, kind)

    for function in (ddim.proximal_guide, lambda a, b, w: ddim.edit_guide(a, a, b, w, 0.8)):
        there = function(to(SOURCE), to(TARGET), 2.5)
        assert torch.allclose(ddim.predict_x0(there, x, level, kind), function(SOURCE, TARGET, 2.5))


def test_an_edit_with_the_prompt_of_the_inversion_gives_the_picture_back() -> None:
    """NPI: whatever the scale is, two equal prompts leave what plain inversion leaves."""
    plan = ddim.make_schedule(20, ddim.SchedulerConfig(clip_sample=False)).scheduler()

    def model(x: Tensor, t: Tensor) -> Tensor:
        return 0.9 * torch.sin(x)

    found = ddim.invert(model, SOURCE, plan)
    for edited in (ddim.proximal_guided_model(model, model, 7.5), ddim.guided_model(model, model, 7.5)):
        assert torch.allclose(ddim.reconstruct(edited, found), ddim.reconstruct(model, found), rtol=0, atol=1e-9)


def test_a_mask_is_where_the_prediction_changes_most() -> None:
    changed = SOURCE.clone()
    changed[:, :, 2:5, 3:6] += 5.0
    mask = ddim.edit_mask(SOURCE, changed + 0.01 * TARGET, 1 - 9 / 64)
    assert mask.shape == (3, 1, 8, 8)
    assert torch.allclose(mask.mean(dim=(1, 2, 3)), torch.full((3,), 9 / 64, dtype=torch.float64), atol=1 / 64)
    assert bool(mask[:, 0, 2:5, 3:6].all())
    assert bool((ddim.edit_mask(SOURCE, changed, 0.0) == 1).all())


def test_terms_of_several_prompts_add_up_and_vanish_with_their_weight() -> None:
    """2311.16711, section 3.2: e_0 + sum_k s_k M_k (e_k - e_0); without masks and with weight 1 that is e_k itself."""
    other = images(4)
    expected = SOURCE.clone()
    for prompt, weight in ((TARGET, 3.0), (other, -1.5)):
        expected = expected + weight * ddim.edit_mask(SOURCE, prompt, 0.8) * (prompt - SOURCE)
    one = ddim.edit_guide(SOURCE, SOURCE, TARGET, 3.0, 0.8)
    assert torch.allclose(ddim.edit_guide(one, SOURCE, other, -1.5, 0.8), expected)
    assert torch.equal(ddim.edit_guide(SOURCE, SOURCE, TARGET, 0.0, 0.8), SOURCE)
    assert torch.allclose(ddim.edit_guide(SOURCE, SOURCE, TARGET, 1.0, 0.0), TARGET)


@pytest.mark.parametrize("shape", [(2, 3, 16), (2, 3, 4, 8, 8), (1, 1, 1, 1)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_latents_of_any_rank_and_dtype(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    source, target = images(1, shape, dtype), images(2, shape, dtype)
    for found in (ddim.proximal_guide(source, target, 2.0), ddim.edit_guide(source, source, target, 2.0, 0.5)):
        assert found.shape == shape and found.dtype == dtype and bool(found.isfinite().all())


WRONG = {
    "another shape": (lambda: ddim.proximal_guide(SOURCE, TARGET[:1], 2.0), "shape"),
    "another dtype": (lambda: ddim.proximal_guide(SOURCE, TARGET.float(), 2.0), "dtype of pred_target"),
    "quantile": (lambda: ddim.proximal_guide(SOURCE, TARGET, 2.0, 1.5), "quantile_kept must be"),
    "operator": (lambda: ddim.proximal_guide(SOURCE, TARGET, 2.0, 0.7, "sof"), "did you mean 'soft'"),
    "no image": (lambda: ddim.proximal_guide(SOURCE[0, 0, 0], TARGET[0, 0, 0], 2.0), "at least one element"),
    "threshold": (lambda: ddim.edit_guide(SOURCE, SOURCE, TARGET, 1.0, -0.1), "threshold must be"),
    "weight": (lambda: ddim.edit_guide(SOURCE, SOURCE, TARGET, float("nan"), 0.5), "weight must be"),
    "no place": (lambda: ddim.edit_mask(SOURCE[:, 0, 0], TARGET[:, 0, 0], 0.5), "at least 3 dimensions"),
}


@pytest.mark.parametrize(("call", "message"), WRONG.values(), ids=WRONG.keys())
def test_what_does_not_fit_is_refused_with_one_sentence(call: Any, message: str) -> None:
    with pytest.raises(DDIMError, match=message):
        call()

"""What ``DDIMScheduler.step`` costs: operators, passes, reads by the host."""

from __future__ import annotations

import pytest
import torch

import ddim

SHAPE = (2, 4, 8, 8)

CASES = [
    # settings, eta, rederive, operators, passes
    ({"clip_sample": False}, 0.0, False, 2, 5),
    ({"clip_sample": False, "prediction_type": "v_prediction", "rescale_betas_zero_snr": True}, 0.0, False, 2, 5),
    ({"clip_sample": False, "prediction_type": "sample"}, 0.0, False, 2, 5),
    ({}, 0.0, False, 4, 10),
    ({}, 0.0, True, 4, 10),
    ({"clip_sample": False}, 1.0, False, 3, 8),
]


def inputs() -> list[torch.Tensor]:
    return [torch.randn(SHAPE, generator=torch.Generator().manual_seed(i)) for i in range(3)]


@pytest.mark.parametrize("by", ["element", "number"])
@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize(("config", "eta", "rederive", "operators", "passes"), CASES)
def test_a_step_costs_what_its_terms_cost_and_reads_no_timestep(
    config, eta, rederive, operators, passes, by, inference, measure_cost
):
    with torch.inference_mode(inference):
        scheduler = ddim.DDIMScheduler(**config)
        scheduler.set_timesteps(10)
        x, m, z = inputs()
        for i, element in enumerate(scheduler.timesteps):
            t = element if by == "element" else scheduler.plan.timesteps[i]
            with measure_cost(x) as cost:
                scheduler.step(m, t, x, eta, rederive, variance_noise=z if eta else None)
            if i < 9:
                assert (len(cost.operators), cost.passes) == (operators, passes)
            else:  # the last step has terms of weight 0
                assert len(cost.operators) <= operators and cost.passes <= passes
            assert cost.host_reads == 0 and cost.new == 1


@pytest.mark.parametrize("config", [{"clip_sample": False}, {}, {"thresholding": True, "sample_max_value": 2.0}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize("target", ["other", "sample"])
@pytest.mark.parametrize("return_dict", [False, True])
def test_a_step_can_write_where_it_is_told(config, dtype, target, return_dict, measure_cost):
    x, m, z = (tensor.to(dtype) for tensor in inputs())
    expected = []
    for out in (None, x.clone() if target == "sample" else torch.empty_like(x)):
        scheduler = ddim.DDIMScheduler(**config)
        scheduler.set_timesteps(10)
        sample = out if out is not None and target == "sample" else x
        result = scheduler.step(m, 500, sample, 1.0, variance_noise=z, return_dict=return_dict, out=out)
        assert out is None or result[0] is out
        if return_dict and target == "sample" and out is not None:
            with pytest.raises(ddim.DDIMError, match="changed in place"):
                result[1]
            expected.append((result[0], expected[0][1]))
        else:
            expected.append((result[0], result[1]))
    for plain, given in zip(*expected, strict=True):
        assert torch.equal(plain, given)


def test_out_must_fit():
    x, m, _ = inputs()
    scheduler = ddim.DDIMScheduler()
    scheduler.set_timesteps(10)
    with pytest.raises(ddim.DDIMError, match="out must have the sample's shape, dtype and device"):
        scheduler.step(m, 500, x, out=torch.empty(1))


def test_a_changed_list_of_timesteps_is_read_again():
    x, m, _ = inputs()
    scheduler = ddim.DDIMScheduler(clip_sample=False)
    scheduler.set_timesteps(10)
    expected = scheduler.step(m, 300, x).prev_sample
    scheduler.timesteps[0] = 300
    assert torch.equal(scheduler.step(m, scheduler.timesteps[0], x).prev_sample, expected)


def test_a_timestep_per_image_can_write_where_it_is_told_too():
    x, m, _ = inputs()
    scheduler = ddim.DDIMScheduler()
    scheduler.set_timesteps(10)
    timesteps, out = scheduler.timesteps[[2, 5]], torch.empty_like(x)
    expected = scheduler.step(m, timesteps, x)
    assert scheduler.step(m, timesteps, x, out=out)[0] is out
    assert torch.equal(out, expected.prev_sample)

"""What a step costs: operators, passes over memory, new tensors, reads by the host. All of them are exact."""

from __future__ import annotations

import pytest
import torch

import ddim
from ddim.step.apply import apply_step
from ddim.step.coefficients import coefficients_between
from ddim.step.x0 import Clip

SHAPE = (2, 4, 64, 64)
PLAIN, CLIP = {"clip_sample": False}, {"clip_sample": True}
THRESHOLD = {"thresholding": True, "sample_max_value": 2.0}


def inputs(dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    return [torch.randn(SHAPE, generator=torch.Generator().manual_seed(i)).to(dtype) for i in range(3)]


# prediction, clipped, epsilon derived again, operators and passes; each term that is not zero costs one operator, and
# noise one operator and three passes more
TERMS = [
    ("epsilon", False, False, 2, 5),
    ("sample", False, False, 2, 5),
    ("v_prediction", False, False, 2, 5),
    ("epsilon", True, False, 4, 10),
    ("epsilon", True, True, 4, 10),
    ("sample", True, False, 4, 10),
    ("sample", True, True, 3, 7),
    ("v_prediction", True, False, 5, 13),  # its epsilon holds sample and model output
    ("v_prediction", True, True, 4, 10),
]


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("out", ["new", "given"])
@pytest.mark.parametrize(("prediction", "clip", "rederive", "operators", "passes"), TERMS)
def test_a_step_costs_what_its_terms_cost(prediction, clip, rederive, operators, passes, eta, out, measure_cost):
    x, m, z = inputs()
    c = coefficients_between(0.3, 0.6, prediction, eta)
    target = torch.empty_like(x) if out == "given" else None
    options = dict(process_x0=Clip(1.0) if clip else None, use_clipped_model_output=rederive)
    with measure_cost(x) as cost:
        apply_step(c, x, m, noise=z if eta else None, out=target, **options)
    noise = (1, 3) if eta else (0, 0)
    assert (len(cost.operators), cost.passes) == (operators + noise[0], passes + noise[1])
    assert cost.new == (1 if target is None else 0)


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize(("prediction", "clip", "rederive", "operators", "passes"), TERMS)
def test_a_step_of_sample_costs_no_more(prediction, clip, rederive, operators, passes, eta, measure_cost):
    scheduler = ddim.DDIMScheduler(prediction_type=prediction, clip_sample=clip)
    x, m, z = inputs()

    def run(steps: int):
        scheduler.set_timesteps(steps)
        options = dict(eta=eta, variance_noise=z.expand(steps, *SHAPE) if eta else None)
        for i in range(steps):
            scheduler.coefficients(i, eta)  # made once for the whole plan
        with measure_cost(x) as cost:
            ddim.sample(lambda x, t: m, x, scheduler, use_clipped_model_output=rederive, **options)
        return cost

    few, many = run(10), run(20)
    noise = (1, 3) if eta else (0, 0)
    assert len(many.operators) - len(few.operators) == 10 * (operators + noise[0])
    assert many.passes - few.passes == pytest.approx(10 * (passes + noise[1]), abs=0.01)  # the list of timesteps
    assert many.new - few.new == 10
    assert many.host_reads == 0


# settings, epsilon derived again, operators and passes of scheduler.step(), which gives x_0 as well; its new tensors
STEPS = [
    ({**PLAIN}, False, 4, 10, 2),
    ({**PLAIN, "prediction_type": "v_prediction", "rescale_betas_zero_snr": True}, False, 4, 10, 2),
    ({**PLAIN, "prediction_type": "sample"}, False, 3, 7, 2),
    ({**CLIP}, False, 5, 12, 3),
    ({**CLIP}, True, 5, 12, 3),
    ({**CLIP, "prediction_type": "v_prediction"}, False, 6, 15, 3),
    ({**CLIP, "prediction_type": "v_prediction"}, True, 5, 12, 3),
    ({**CLIP, "prediction_type": "sample"}, False, 5, 12, 3),
]


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("by", ["element", "number"])
@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize(("config", "rederive", "operators", "passes", "new"), STEPS)
def test_a_step_by_hand_costs_its_x0_more(config, rederive, operators, passes, new, eta, by, inference, measure_cost):
    scheduler = ddim.DDIMScheduler(**config)
    scheduler.set_timesteps(10)
    scheduler.coefficients(0, eta)  # makes those of the whole plan
    x, m, z = inputs()
    noise = (1, 3) if eta else (0, 0)
    with torch.inference_mode(inference):
        for i, element in enumerate(scheduler.timesteps):
            t = element if by == "element" else scheduler.plan.timesteps[i]
            with measure_cost(x) as cost:
                scheduler.step(m, t, x, eta, rederive, variance_noise=z if eta else None)
            if 0 < i < 9:
                assert (len(cost.operators), cost.passes) == (operators + noise[0], passes + noise[1])
            else:  # terms whose weight is 0: of the sample at zero SNR, of epsilon and noise at the end
                assert len(cost.operators) <= operators + noise[0] and cost.passes <= passes + noise[1]
            assert cost.new == new
            assert cost.host_reads == 0


@pytest.mark.parametrize("settings", [PLAIN, CLIP, THRESHOLD])
@pytest.mark.parametrize("prediction", ddim.PREDICTION_TYPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("noise", ["none", "given", "generator"])
@pytest.mark.parametrize("runs", [1, 2])
def test_the_host_never_waits_for_the_device(settings, prediction, dtype, noise, runs, measure_cost):
    """No step reads a value back, also where two runs take turns on one scheduler."""
    scheduler = ddim.DDIMScheduler(prediction_type=prediction, **settings)
    scheduler.set_timesteps(10)
    x, m, z = inputs(dtype)
    sources = {"none": {}, "given": {"variance_noise": z}, "generator": {"generator": torch.Generator().manual_seed(0)}}
    options = {"eta": 0.0 if noise == "none" else 1.0, **sources[noise]}
    samples = [x + run for run in range(runs)]
    with measure_cost(x) as cost:
        for t in scheduler.timesteps:
            samples = [scheduler.step(m, t, sample, **options).prev_sample for sample in samples]
        ddim.sample(lambda x, t: m, x, scheduler, eta=options["eta"], seed=1, callback=lambda *seen: None)
    assert cost.host_reads == 0
    assert not any("is_nonzero" in name or "equal" == name for name in cost.operators)


def test_half_precision_costs_the_casts_and_one_comparison_more(measure_cost):
    scheduler = ddim.DDIMScheduler(prediction_type="v_prediction", **PLAIN)
    scheduler.set_timesteps(10)
    scheduler.coefficients(0)  # makes those of the whole plan
    sample, m, _ = inputs(torch.float16)
    counts = []
    for t in scheduler.timesteps:
        with measure_cost(sample.float()) as cost:
            sample = scheduler.step(m, t, sample).prev_sample
        counts.append((len(cost.operators), cost.passes))
    # Twice two operators (the next sample and x_0) with the sample widened before and the result rounded after; then
    # the state: rounded, compared, and chosen from.
    assert counts == [(8, 15.0)] + [(9, 17.5)] * 9


def test_half_precision_runs_that_take_turns_cost_one_more_choice(measure_cost):
    """Which of two states a sample belongs to is decided on the device."""
    scheduler = ddim.DDIMScheduler(prediction_type="v_prediction", **PLAIN)
    scheduler.set_timesteps(10)
    scheduler.coefficients(0)
    sample, m, _ = inputs(torch.float16)
    samples, counts = [sample, sample + 1], []
    for t in scheduler.timesteps:
        with measure_cost(sample.float()) as cost:
            samples = [scheduler.step(m, t, each).prev_sample for each in samples]
        counts.append((len(cost.operators), pytest.approx(cost.passes, abs=0.01)))
        assert cost.host_reads == 0
    assert counts == [(16, 30)] + [(38, 61)] * 9


@pytest.mark.parametrize("config", [PLAIN, CLIP, THRESHOLD])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize("target", ["other", "sample"])
@pytest.mark.parametrize("return_dict", [False, True])
@pytest.mark.parametrize("by_image", [False, True])
def test_a_step_writes_to_out(config, dtype, target, return_dict, by_image):
    x, m, z = inputs(dtype)
    results = []
    for out in (None, x.clone() if target == "sample" else torch.empty_like(x)):
        scheduler = ddim.DDIMScheduler(**config)
        scheduler.set_timesteps(10)
        sample = out if out is not None and target == "sample" else x
        t = torch.tensor([500, 300]) if by_image else 500
        result = scheduler.step(m, t, sample, 1.0, variance_noise=z, return_dict=return_dict, out=out)
        assert out is None or result[0] is out
        results.append((result[0], result[1]))
    for plain, given in zip(*results, strict=True):
        assert torch.equal(plain, given)


def test_out_must_fit():
    x, m, _ = inputs()
    scheduler = ddim.DDIMScheduler()
    scheduler.set_timesteps(10)
    with pytest.raises(ddim.DDIMError, match="out must have the sample's shape, dtype and device"):
        scheduler.step(m, 500, x, out=torch.empty(1))

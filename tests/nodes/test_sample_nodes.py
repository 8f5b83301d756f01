"""DDIMSample and the nodes around it, run in the embedded host."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch

from ddim import DDIMError, make_schedule, rescale_noise_cfg

VALUES = torch.tensor([(k - 5) / 5 for k in range(10)])


@pytest.fixture
def prompts(call: Any) -> dict[str, Any]:
    return {"positive": call("DDIMDemoPrompt")[0], "negative": call("DDIMDemoPrompt", digits="")[0]}


class Wavy(torch.nn.Module):
    """A network without a right answer, so that every difference in a run shows."""

    def forward(self, x: torch.Tensor, timestep: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        shape = (-1, *[1] * (x.ndim - 1))
        weight = (rows * torch.linspace(-1, 1, rows.shape[1])).sum(1).reshape(shape)
        return torch.sin(3 * x + weight) + 0.2 * torch.cos(x.flip(-1) * (1 + timestep.reshape(shape) / 500))


@pytest.fixture
def wavy(backend: ModuleType, exact_model: Any) -> Any:
    config = exact_model(prediction_type="v_prediction", rescale_betas_zero_snr=True)[1].config
    return backend.current().model_from_network(Wavy(), config)


def latent(batch: int, **keys: Any) -> dict[str, Any]:
    return {"samples": torch.zeros(batch, 3, 8, 8), **keys}


@pytest.mark.parametrize("settings", [{}, {"prediction_type": "sample"}, {"prediction_type": "v_prediction"}])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_an_exact_model_ends_at_its_data(call: Any, exact_model: Any, prompts: Any, settings: Any, eta: float) -> None:
    model, network = exact_model(**settings)
    schedule, _ = call("DDIMSchedule", steps=6, model=model)
    result, denoised, _ = call(
        "DDIMSample", model=model, **prompts, latent_image=latent(10), schedule=schedule, cfg=1.0, eta=eta
    )
    assert torch.allclose(result["samples"].mean(dim=(1, 2, 3)), VALUES, atol=1e-5)
    assert torch.allclose(denoised["samples"], result["samples"], atol=1e-6)
    assert [steps[0] for steps in network.calls] == list(schedule.plan.timesteps)


def test_zero_snr_is_exact(call: Any, exact_model: Any, prompts: Any) -> None:
    """At alpha_bar 0 the latent holds nothing of the picture: the exact mean must appear whatever the noise."""
    model, _ = exact_model(prediction_type="v_prediction", rescale_betas_zero_snr=True)
    schedule, _ = call("DDIMSchedule", steps=5, model=model)
    result, _, _ = call("DDIMSample", model=model, **prompts, latent_image=latent(10), schedule=schedule, cfg=1.0)
    assert torch.allclose(result["samples"], VALUES[:, None, None, None].expand(10, 3, 8, 8), atol=2e-6)


def test_the_schedules_levels_are_used_with_any_model(call: Any, exact_model: Any, prompts: Any) -> None:
    """The MODEL was loaded without zero SNR; the schedule knows better."""
    model, network = exact_model(prediction_type="v_prediction")
    schedule, _ = call("DDIMSchedule", steps=5, prediction_type="v_prediction", rescale_betas_zero_snr=True)
    network.noise = schedule.noise
    result, _, _ = call("DDIMSample", model=model, **prompts, latent_image=latent(10), schedule=schedule, cfg=1.0)
    assert torch.allclose(result["samples"].mean(dim=(1, 2, 3)), VALUES, atol=2e-6)


def test_a_schedule_may_correct_the_models_type_and_epsilon_leaves_it(
    call: Any, exact_model: Any, prompts: Any
) -> None:
    as_loaded, network = exact_model(prediction_type="epsilon")
    network.config = make_schedule(1, network.config).config.__class__(
        **{**network.config, "prediction_type": "v_prediction"}
    )
    schedule, _ = call("DDIMSchedule", steps=4, prediction_type="v_prediction")
    result, _, _ = call("DDIMSample", model=as_loaded, **prompts, latent_image=latent(10), schedule=schedule, cfg=1.0)
    assert torch.allclose(result["samples"].mean(dim=(1, 2, 3)), VALUES, atol=1e-5)
    model, _ = exact_model(prediction_type="v_prediction")
    schedule, _ = call("DDIMSchedule", steps=4)
    result, _, _ = call("DDIMSample", model=model, **prompts, latent_image=latent(10), schedule=schedule, cfg=1.0)
    assert torch.allclose(result["samples"].mean(dim=(1, 2, 3)), VALUES, atol=1e-5)


@pytest.mark.parametrize("eta", [0.0, 0.7])
def test_a_split_run_is_the_whole_run(call: Any, wavy: Any, prompts: Any, eta: float) -> None:
    def run(start: Any, add_noise: bool, **part: Any) -> Any:
        schedule, _ = call("DDIMSchedule", steps=9, model=wavy, **part)
        given = {"latent_image": start, "schedule": schedule, "eta": eta, "add_noise": add_noise, "seed": 3}
        return call("DDIMSample", model=wavy, **prompts, **given)[0]

    whole = run(latent(3), True)
    halves = run(run(latent(3), True, end_step=4), False, start_step=4)
    assert torch.equal(halves["samples"], whole["samples"])


@pytest.mark.parametrize("noise_mode", ["per image", "stream"])
def test_only_keyed_noise_makes_an_image_independent_of_its_batch(
    call: Any, wavy: Any, prompts: Any, noise_mode: str
) -> None:
    schedule, _ = call("DDIMSchedule", steps=5, model=wavy)
    given = {"schedule": schedule, "eta": 1.0, "seed": 11, "noise_mode": noise_mode, "cfg": 1.0}
    prompt = {"positive": call("DDIMDemoPrompt", digits="4")[0], "negative": prompts["negative"]}
    batch, _, _ = call("DDIMSample", model=wavy, **prompt, latent_image=latent(4), **given)
    alone, _, _ = call("DDIMSample", model=wavy, **prompt, latent_image=latent(1, batch_index=[2]), **given)
    close = torch.allclose(batch["samples"][2:3], alone["samples"], atol=1e-5)
    assert close == (noise_mode == "per image")


def test_the_initial_noise_is_ksamplers(backend: ModuleType) -> None:
    torch.manual_seed(5)
    expected = torch.randn(3, 4, 8, 8)
    before = torch.random.get_rng_state()
    assert torch.equal(backend.initial_noise((3, 4, 8, 8), 5), expected)
    ones = torch.Generator().manual_seed(5)
    drawn = [torch.randn(1, 4, 8, 8, generator=ones) for _ in range(4)]
    assert torch.equal(backend.initial_noise((3, 4, 8, 8), 5, [3, 0, 3]), torch.cat([drawn[3], drawn[0], drawn[3]]))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_image_to_image_starts_from_the_picture_at_the_right_level(call: Any, exact_model: Any, prompts: Any) -> None:
    model, network = exact_model()
    schedule, _ = call("DDIMSchedule", steps=3, denoise=0.3, model=model)
    seen = []
    network.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    start = torch.full((2, 3, 8, 8), 0.5)
    call("DDIMSample", model=model, **prompts, latent_image={"samples": start}, schedule=schedule, cfg=1.0, seed=9)
    noise = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(9))
    level = schedule.alpha_bars[0]
    assert torch.allclose(seen[0], level**0.5 * start + (1 - level) ** 0.5 * noise, atol=1e-6)


def test_a_grey_picture_is_not_taken_for_an_empty_latent(call: Any, exact_model: Any, prompts: Any) -> None:
    model, network = exact_model()
    schedule, _ = call("DDIMSchedule", steps=3, denoise=0.3, model=model)
    seen = []
    network.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    call("DDIMSample", model=model, **prompts, latent_image=latent(64), schedule=schedule, cfg=1.0)
    assert seen[0].std().item() == pytest.approx((1 - schedule.alpha_bars[0]) ** 0.5, rel=0.02)


def test_a_mask_keeps_what_it_covers(call: Any, wavy: Any, prompts: Any) -> None:
    schedule, _ = call("DDIMSchedule", steps=6, model=wavy)
    picture = torch.linspace(-1, 1, 3 * 8 * 8).reshape(1, 3, 8, 8)
    mask = torch.zeros(1, 8, 8)
    mask[:, :, 4:] = 1
    result, _, _ = call(
        "DDIMSample",
        model=wavy,
        **prompts,
        latent_image={"samples": picture, "noise_mask": mask, "kept": "as it is"},
        schedule=schedule,
    )
    assert torch.allclose(result["samples"][..., :4], picture[..., :4], atol=1e-6)
    assert (result["samples"][..., 4:] - picture[..., 4:]).abs().mean() > 0.1
    assert result["kept"] == "as it is"


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (2, 3, 5, 8, 8), (2, 3, 16)], ids=["picture", "video", "sound"])
def test_latents_may_have_any_rank(call: Any, wavy: Any, prompts: Any, shape: tuple[int, ...]) -> None:
    schedule, _ = call("DDIMSchedule", steps=3, model=wavy)
    mask = torch.zeros(1, *shape[-2:]).index_fill(2, torch.arange(4), 1.0)
    start = torch.linspace(-1, 1, torch.Size(shape).numel()).reshape(shape)
    given = {"model": wavy, **prompts, "schedule": schedule, "eta": 1.0, "guidance_rescale": 0.5}
    result, _, _ = call("DDIMSample", **given, latent_image={"samples": start, "noise_mask": mask})
    assert result["samples"].shape == shape and torch.isfinite(result["samples"]).all()
    assert torch.allclose(result["samples"][..., 4:], start[..., 4:], atol=1e-5)
    assert (result["samples"][..., :4] - start[..., :4]).abs().mean() > 0.1


def test_guidance_rescale_is_the_patch_and_patches_stack(call: Any, wavy: Any, prompts: Any) -> None:
    schedule, _ = call("DDIMSchedule", steps=4, model=wavy)
    given = {**prompts, "latent_image": latent(3), "schedule": schedule, "cfg": 7.5}
    inside, _, _ = call("DDIMSample", model=wavy, guidance_rescale=0.7, **given)
    (patched,) = call("DDIMCFGRescale", model=wavy, guidance_rescale=0.7)
    outside, _, _ = call("DDIMSample", model=patched, **given)
    plain, _, _ = call("DDIMSample", model=wavy, **given)
    twice, _, _ = call("DDIMSample", model=call("DDIMCFGRescale", model=patched)[0], **given)
    assert torch.equal(inside["samples"], outside["samples"])
    assert not torch.allclose(inside["samples"], plain["samples"], atol=1e-3)
    assert not torch.allclose(twice["samples"], inside["samples"], atol=1e-3)
    assert wavy.output_patches == ()


def test_one_step_by_hand(call: Any, wavy: Any, prompts: Any) -> None:
    """cfg, rescale and the step, from the paper's formulas."""
    schedule, _ = call("DDIMSchedule", timesteps="700", model=wavy)
    result, _, _ = call(
        "DDIMSample",
        model=wavy,
        **prompts,
        latent_image=latent(2),
        schedule=schedule,
        cfg=5.0,
        guidance_rescale=0.3,
        seed=1,
    )
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    t, rows = torch.full((2,), 700), torch.eye(11)
    wanted, other = Wavy()(x, t, rows[:2]), Wavy()(x, t, rows[[10, 10]])
    v = rescale_noise_cfg(other + 5.0 * (wanted - other), wanted, 0.3)
    a = schedule.alpha_bars[0]
    assert torch.allclose(result["samples"], a**0.5 * x - (1 - a) ** 0.5 * v, atol=1e-5)


def test_clipping_and_thresholding_bound_the_result(call: Any, wavy: Any, prompts: Any) -> None:
    schedule, _ = call("DDIMSchedule", steps=4, model=wavy)
    given = {**prompts, "model": wavy, "latent_image": latent(2), "schedule": schedule}
    clipped, _, _ = call("DDIMSample", **given, x0_processing="clip", clip_sample_range=0.25)
    assert clipped["samples"].abs().max() <= 0.25 + 1e-6
    thresholded, _, _ = call("DDIMSample", **given, x0_processing="threshold", sample_max_value=10.0)
    assert thresholded["samples"].abs().max() <= 1 + 1e-6
    config_clip, _, _ = call(
        "DDIMScheduleFromConfig", config='{"clip_sample": true, "clip_sample_range": 0.1}', steps=4
    )
    from_config, _, _ = call("DDIMSample", **{**given, "schedule": config_clip})
    assert from_config["samples"].abs().max() <= 0.1 + 1e-6


def test_variance_noise_of_another_run_is_refused(call: Any, wavy: Any, prompts: Any, values: ModuleType) -> None:
    schedule, _ = call("DDIMSchedule", steps=4, model=wavy)
    noise = values.RecordedNoise(torch.randn(4, 2, 3, 8, 8), schedule, 0.5)
    given = {**prompts, "model": wavy, "latent_image": latent(2), "schedule": schedule}
    once = call("DDIMSample", **given, variance_noise=noise)[0]["samples"]  # with the eta of the noise
    assert torch.equal(call("DDIMSample", **given, eta=1.0, variance_noise=noise)[0]["samples"], once)
    wrong = {
        "for 4 steps and the run has 5": {"schedule": call("DDIMSchedule", steps=5, model=wavy)[0]},
        "another schedule": {"schedule": call("DDIMSchedule", steps=4, timestep_spacing="leading", model=wavy)[0]},
        r"\(2, 3, 8, 8\) and the run": {"latent_image": latent(3)},
    }
    for message, change in wrong.items():
        with pytest.raises(DDIMError, match=message):
            call("DDIMSample", **{**given, **change}, variance_noise=noise)


def test_a_batch_index_of_another_batch_is_refused(call: Any, wavy: Any, prompts: Any) -> None:
    schedule, _ = call("DDIMSchedule", steps=2, model=wavy)
    with pytest.raises(DDIMError, match="has 2 images but its batch_index has 3 entries"):
        call("DDIMSample", model=wavy, **prompts, latent_image=latent(2, batch_index=[0, 1, 2]), schedule=schedule)


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("noise_mode", ["per image", "stream"])
def test_the_sampler_steps_as_ddim_sample_does(
    call: Any, backend: ModuleType, wavy: Any, prompts: Any, eta: float, noise_mode: str
) -> None:
    """The embedded host's SAMPLER is the loop itself, so a run can be given to it directly."""
    schedule, _ = call("DDIMSchedule", steps=5, model=wavy)
    given = {"eta": eta, "noise_mode": noise_mode, "x0_processing": "clip", "clip_sample_range": 0.5}
    (sampler,) = call("DDIMSampler", **given)
    captured = []

    def work(run: Any) -> torch.Tensor:
        captured.append(sampler(run))
        return captured[0]

    request = backend.SamplingRequest(wavy, **prompts, latent=latent(2), schedule=schedule, cfg=2.0, seed=7)
    backend.current().run(request, work)
    expected, _, _ = call(
        "DDIMSample", model=wavy, **prompts, latent_image=latent(2), schedule=schedule, cfg=2.0, seed=7, **given
    )
    assert torch.equal(captured[0], expected["samples"])


def test_an_epsilon_model_is_refused_at_zero_snr_before_it_is_called(call: Any, exact_model: Any, prompts: Any) -> None:
    model, network = exact_model()
    zero_snr = make_schedule(4, network.config.__class__(**{**network.config, "rescale_betas_zero_snr": True,
                                                            "timestep_spacing": "trailing"}))  # fmt: skip
    with pytest.raises(DDIMError, match="v_prediction"):
        call("DDIMSample", model=model, **prompts, latent_image=latent(1), schedule=zero_snr)
    assert network.calls == []


def test_model_sampling_gives_the_model_the_schedules_levels(call: Any, backend: ModuleType, exact_model: Any) -> None:
    model, _ = exact_model()
    schedule, _ = call("DDIMSchedule", prediction_type="v_prediction", rescale_betas_zero_snr=True)
    (patched,) = call("DDIMModelSampling", model=model, schedule=schedule)
    facts, before = backend.current().model_facts(patched), backend.current().model_facts(model)
    assert facts.prediction_type == "v_prediction" and facts.alpha_bar[-1] == 0
    assert before.prediction_type == "epsilon" and before.alpha_bar[-1] > 0


@pytest.mark.parametrize("samples", [None, [1, 2]])
def test_a_latent_that_is_none_gets_a_sentence(call: Any, wavy: Any, prompts: Any, samples: Any) -> None:
    schedule, _ = call("DDIMSchedule", steps=2, model=wavy)
    with pytest.raises(DDIMError, match="latent_image must hold"):
        call("DDIMSample", model=wavy, **prompts, latent_image={"samples": samples}, schedule=schedule)


def test_sigmas_become_a_schedule_with_a_timestep_each(backend: ModuleType) -> None:
    sigmas = torch.tensor([14.6, 3.0, 3.0, 0.5, 0.0])
    schedule = backend.schedule_from_sigmas(sigmas)
    assert schedule.plan.timesteps == (3, 2, 1, 0) and schedule.alpha_bars[-1] == 1.0
    assert torch.allclose(backend.schedule_sigmas(schedule), sigmas, rtol=1e-6)
    part = backend.schedule_from_sigmas(sigmas[:3])
    assert part.alpha_bars[-1] == pytest.approx(0.1) and len(part.plan) == 2


@pytest.mark.parametrize("sigmas", [[0.0, 1.0], [1.0, 2.0, 0.0], [1.0, -1.0], [float("inf"), 1.0], [float("nan"), 0.0]])
def test_sigmas_that_do_not_fall_are_refused(backend: ModuleType, sigmas: list[float]) -> None:
    with pytest.raises(DDIMError, match="SIGMAS that fall"):
        backend.schedule_from_sigmas(torch.tensor(sigmas))


# -- without a schedule


@pytest.mark.parametrize("settings", [{}, {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}])
@pytest.mark.parametrize("planned", [{}, {"steps": 7, "timestep_spacing": "leading"}, {"steps": 5, "denoise": 0.6}])
def test_without_a_schedule_the_steps_are_those_of_ddim_schedule_with_the_model(
    call: Any, exact_model: Any, planned: dict[str, Any], settings: dict[str, Any]
) -> None:
    model, network = exact_model(**settings)
    prompt = call("DDIMDemoPrompt", digits="7")[0]
    given = {"model": model, "positive": prompt, "negative": prompt, "seed": 3, "eta": 0.5}
    given["latent_image"] = {"samples": torch.rand(1, 3, 8, 8)}
    alone = call("DDIMSample", **given, **planned)[0]["samples"]
    called = list(network.calls)
    network.calls.clear()
    schedule, _ = call("DDIMSchedule", model=model, **planned)
    assert torch.equal(call("DDIMSample", **given, schedule=schedule)[0]["samples"], alone)
    assert network.calls == called and len(called) in (20, 7, 5)


def test_without_a_schedule_a_flow_model_keeps_its_own_levels(call: Any, backend: Any) -> None:
    model = call("DDIMDemoModel", sampled_as="flow")[0]
    prompt = call("DDIMDemoPrompt", digits="7")[0]
    given = {"model": model, "positive": prompt, "negative": prompt, "cfg": 1.0}
    given["latent_image"] = {"samples": torch.zeros(1, 3, 32, 32)}
    schedule, _ = call("DDIMSchedule", model=model, steps=3)
    alone = call("DDIMSample", **given, steps=3)[0]["samples"]
    assert torch.equal(call("DDIMSample", **given, schedule=schedule)[0]["samples"], alone)


def test_steps_of_the_node_are_not_used_with_a_schedule(call: Any, exact_model: Any) -> None:
    model, network = exact_model()
    prompt = call("DDIMDemoPrompt", digits="7")[0]
    schedule, _ = call("DDIMSchedule", steps=3)
    latent = {"samples": torch.zeros(1, 3, 8, 8)}
    call("DDIMSample", model=model, positive=prompt, negative=prompt, latent_image=latent, schedule=schedule, steps=9)
    assert len(network.calls) == 3

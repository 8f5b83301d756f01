"""Flow and EDM MODELs in the embedded host: networks whose right answers are known, and one without any."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from ddim import DDIMError, SigmaConfig, load_noise, make_schedule, save_noise

VALUES = torch.tensor([(k - 5) / 5 for k in range(10)])
EDM = SigmaConfig("variance_exploding", tuple(torch.logspace(-2.5, 1.9, 1000).tolist()), time_scale=1.0)


class FlowPointMass(torch.nn.Module):
    """The exact flow network for data that is one picture per label: picture k has value (k - 5) / 5 everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def forward(self, x: Tensor, time: Tensor, rows: Tensor) -> Tensor:
        self.times.append(float(time[0]))
        sigma = time[0] / 1000
        x0 = ((rows.argmax(1).float() - 5) / 5)[:, None, None, None].expand_as(x)
        return (x - x0) / sigma  # x = (1 - sigma) x_0 + sigma epsilon, so this is epsilon - x_0


class Wavy(torch.nn.Module):
    """A network without a right answer, so that every difference in a run shows; its input may grow with the time."""

    def __init__(self, *, growing: bool) -> None:
        super().__init__()
        self.growing = growing

    def forward(self, x: Tensor, time: Tensor, rows: Tensor) -> Tensor:
        shape = (-1, *[1] * (x.ndim - 1))
        x = x / torch.hypot(torch.ones(()), time.reshape(shape)) if self.growing else x
        weight = (rows * torch.linspace(-1, 1, rows.shape[1])).sum(1).reshape(shape)
        return torch.sin(3 * x + weight) + 0.2 * torch.cos(x.flip(-1) * (1 + time.reshape(shape) / 500))


@pytest.fixture
def prompts(call: Any) -> dict[str, Any]:
    return {"positive": call("DDIMDemoPrompt")[0], "negative": call("DDIMDemoPrompt", digits="")[0]}


@pytest.fixture(params=["flow", "edm"])
def wavy(request: pytest.FixtureRequest, backend: ModuleType) -> Any:
    """A MODEL around :class:`Wavy`."""
    if request.param == "flow":
        return backend.current().flow_model_from_network(Wavy(growing=False))
    kind = sys.modules["pack.nodes.backend.embedded_model"].EmbeddedModel
    return kind(Wavy(growing=True), make_schedule(1, EDM).noise, "sample", EDM)


def latent(batch: int, **keys: Any) -> dict[str, Any]:
    return {"samples": torch.zeros(batch, 3, 8, 8), **keys}


def picture(batch: int) -> Tensor:
    return torch.rand(batch, 3, 8, 8, generator=torch.Generator().manual_seed(2)) - 0.5


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_an_exact_flow_model_ends_at_its_data(call: Any, backend: ModuleType, prompts: Any, eta: float) -> None:
    network = FlowPointMass()
    model = backend.current().flow_model_from_network(network)
    schedule, sigmas = call("DDIMSchedule", steps=8, model=model)
    given = {"latent_image": latent(10), "schedule": schedule, "cfg": 1.0, "eta": eta}
    result, denoised, _ = call("DDIMSample", model=model, **prompts, **given)
    assert torch.allclose(result["samples"], VALUES[:, None, None, None].expand(10, 3, 8, 8), atol=2e-6)
    assert torch.allclose(denoised["samples"], result["samples"], atol=2e-6)
    assert network.times == pytest.approx([1000, 875, 750, 625, 500, 375, 250, 125])
    assert sigmas.tolist() == pytest.approx([1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125, 0])


@pytest.mark.parametrize("eta", [0.0, 0.7])
def test_a_split_run_is_the_whole_run(call: Any, wavy: Any, prompts: Any, eta: float) -> None:
    def run(start: Any, add_noise: bool, **part: Any) -> Any:
        schedule, _ = call("DDIMSchedule", steps=9, model=wavy, **part)
        given = {"latent_image": start, "schedule": schedule, "eta": eta, "add_noise": add_noise, "seed": 3}
        return call("DDIMSample", model=wavy, **prompts, **given)[0]

    whole = run(latent(3), True)
    halves = run(run(latent(3), True, end_step=4), False, start_step=4)
    assert torch.equal(halves["samples"], whole["samples"])


def test_an_image_is_the_same_alone_and_in_a_batch(call: Any, wavy: Any, prompts: Any) -> None:
    schedule, _ = call("DDIMSchedule", steps=5, model=wavy)
    given = {"schedule": schedule, "eta": 1.0, "seed": 11, "cfg": 1.0}
    prompt = {"positive": call("DDIMDemoPrompt", digits="4")[0], "negative": prompts["negative"]}
    batch, _, _ = call("DDIMSample", model=wavy, **prompt, latent_image=latent(4), **given)
    alone, _, _ = call("DDIMSample", model=wavy, **prompt, latent_image=latent(1, batch_index=[2]), **given)
    assert torch.allclose(batch["samples"][2:3], alone["samples"], atol=1e-5)


def test_a_masked_run_from_a_picture_keeps_what_it_should(call: Any, wavy: Any, prompts: Any) -> None:
    schedule, _ = call("DDIMSchedule", steps=6, denoise=0.6, model=wavy)
    mask = torch.zeros(1, 8, 8).index_fill(2, torch.arange(4, 8), 1.0)
    start = {"samples": picture(2), "noise_mask": mask}
    result, _, _ = call("DDIMSample", model=wavy, **prompts, latent_image=start, schedule=schedule)
    kept, changed = result["samples"][..., :4] - picture(2)[..., :4], result["samples"][..., 4:] - picture(2)[..., 4:]
    assert kept.abs().max() < 1e-4 and changed.abs().mean() > 0.05


@pytest.mark.parametrize("method", ["variance_noise", "edict", "bdia", "fixed_point"])
def test_an_inverted_picture_comes_back_also_from_a_file(
    call: Any, wavy: Any, prompts: Any, values: ModuleType, method: str, tmp_path: Path
) -> None:
    schedule, _ = call("DDIMSchedule", steps=8, model=wavy)
    run = {"model": wavy, **prompts, "schedule": schedule, "cfg": 1.0}
    start = {"samples": picture(2)}
    noisy, noise, error = call("DDIMInvert", **run, latent_image=start, method=method, refinements=60)
    save_noise(noise.inversion, tmp_path / "noise.safetensors")
    noise = values.RecordedNoise.from_inversion(load_noise(tmp_path / "noise.safetensors"))
    assert noise.schedule.levels == schedule.levels and noise.schedule.noise.kind == schedule.noise.kind
    settings = {"eta": 1.0 if method == "variance_noise" else 0.0, "add_noise": False, "variance_noise": noise}
    if method == "fixed_point":
        del settings["variance_noise"]
    back, _, _ = call("DDIMSample", **run, latent_image=noisy, **settings)
    # In steps this long a network that is right for nothing makes the pair of bdia grow, 60 times as large as the
    # noise, and the rounding to float32 with it.
    grows = method == "bdia" and schedule.noise.kind == "variance_exploding"
    tolerance = 0.2 if method == "fixed_point" or grows else 1e-3
    assert (back["samples"] - picture(2)).abs().max() < tolerance and error < tolerance


def test_guidance_rescale_reduces_the_spread(call: Any, wavy: Any, prompts: Any) -> None:
    schedule, _ = call("DDIMSchedule", steps=5, model=wavy)
    run = {**prompts, "latent_image": latent(4), "schedule": schedule, "cfg": 8.0}
    plain, _, _ = call("DDIMSample", model=wavy, **run)
    rescaled, _, _ = call("DDIMSample", model=wavy, **run, guidance_rescale=1.0)
    patched, _, _ = call("DDIMSample", model=call("DDIMCFGRescale", model=wavy, guidance_rescale=1.0)[0], **run)
    assert torch.equal(rescaled["samples"], patched["samples"])
    assert not torch.equal(rescaled["samples"], plain["samples"])


def test_spacing_counts_and_custom_timesteps_work_over_the_models_table(call: Any, wavy: Any) -> None:
    for spacing in ("trailing", "leading", "linspace", "quad"):
        schedule, sigmas = call("DDIMSchedule", steps=7, timestep_spacing=spacing, model=wavy)
        assert len(sigmas) == 8 and sigmas[-1] == 0 and (sigmas.diff() < 0).all()
        assert schedule.config.timestep_spacing == spacing
    for spacing in ("ays", "ays_sdxl"):
        with pytest.raises(
            DDIMError, match=f"must not be '{spacing}' for a (flow|variance_exploding) model.*Stable Diffusion; use"
        ):
            call("DDIMSchedule", steps=7, timestep_spacing=spacing, model=wavy)
    schedule, sigmas = call("DDIMSchedule", timesteps="999, 499, 9", model=wavy)
    assert sigmas[:-1].tolist() == pytest.approx([float(schedule.noise.sigma[t]) for t in (999, 499, 9)])


def test_settings_of_other_models_have_no_effect(call: Any, wavy: Any) -> None:
    plain, _ = call("DDIMSchedule", steps=5, model=wavy)
    given = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "beta_end": 0.02,
             "num_train_timesteps": 50, "set_alpha_to_one": False, "parity": "diffusers"}  # fmt: skip
    assert call("DDIMSchedule", steps=5, model=wavy, **given)[0].levels == plain.levels


def test_schedules_and_models_of_different_kinds_are_refused(
    call: Any, wavy: Any, exact_model: Any, prompts: Any
) -> None:
    other, _ = exact_model()
    ours, theirs = call("DDIMSchedule", model=wavy)[0], call("DDIMSchedule")[0]
    for model, schedule in ((wavy, theirs), (other, ours)):
        with pytest.raises(DDIMError, match="connect the MODEL to DDIM Schedule"):
            call("DDIMSample", model=model, **prompts, latent_image=latent(10), schedule=schedule)
        with pytest.raises(DDIMError, match="which flow models do not have"):
            call("DDIMModelSampling", model=model, schedule=schedule)


def test_sigmas_of_a_flow_model_become_a_flow_schedule(backend: ModuleType) -> None:
    sigmas = torch.tensor([1.0, 0.6, 0.3, 0.0])
    schedule = backend.schedule_from_sigmas(sigmas, "flow")
    assert [level.sigma for level in schedule.levels] == pytest.approx(sigmas.tolist())
    assert torch.equal(backend.schedule_sigmas(schedule), sigmas)
    part = backend.schedule_from_sigmas(sigmas[:3], "flow")
    assert [level.sigma for level in part.levels] == pytest.approx([1.0, 0.6, 0.3])
    with pytest.raises(DDIMError, match="between 0 and 1"):
        backend.schedule_from_sigmas(torch.tensor([14.6, 1.0, 0.0]), "flow")
    with pytest.raises(DDIMError, match="equal"):
        backend.schedule_from_sigmas(torch.tensor([1.0, 0.5, 0.5, 0.0]), "flow")


def test_the_plot_shows_times_and_log_snr_and_says_what_has_no_effect(nodes: Any, wavy: Any) -> None:
    ui = nodes["DDIMSchedule"]().build(steps=4, model=wavy)["ui"]
    (plot,), (text,) = ui["ddim_schedule"], ui["text"]
    assert plot["visited"]["index"] == [999, 749, 499, 249] and "sigma" in text
    assert plot["visited"]["t"] == pytest.approx([float(wavy.noise.times[i]) for i in (999, 749, 499, 249)], rel=1e-4)
    expected = [wavy.noise.log_snr_at(i) for i in (749, 499, 249)]
    assert plot["visited"]["log_snr"][1:] == pytest.approx(expected)
    assert plot["warnings"] == [] and "no effect" in plot["notes"][0]["text"]


def test_the_live_plot_goes_on_with_the_levels_of_a_run(nodes: Any, wavy: Any) -> None:
    answer = sys.modules["pack.nodes.editor.routes"].schedule_answer
    widgets = sys.modules["pack.nodes.editor.routes"].widget_values
    node = nodes["DDIMSchedule"]
    inputs = {"steps": 6, "timestep_spacing": "linspace", "rescale_betas_zero_snr": True, "num_train_timesteps": 3}
    name = node().build(**widgets(node, {}), model=wavy)["ui"]["ddim_schedule"][0]["model_levels"]
    ran = node().build(**widgets(node, inputs), model=wavy)["ui"]["ddim_schedule"][0]
    asked = {"node": "DDIMSchedule", "inputs": inputs}
    assert answer({**asked, "model_levels": name}, nodes) == {"schedule": ran, "config": None}
    assert "error" in answer(asked, nodes) and "error" in answer({**asked, "model_levels": "unknown"}, nodes)
    assert "error" in answer({"node": "DDIMSchedule", "inputs": {"steps": 1001}, "model_levels": name}, nodes)
    assert answer({**asked, "model_levels": [name]}, nodes) == answer(asked, nodes)


def test_the_demo_model_as_a_flow_model_is_chosen_by_name(call: Any) -> None:
    trained, flow = call("DDIMDemoModel")[0], call("DDIMDemoModel", sampled_as="flow")[0]
    assert (trained.noise.kind, flow.noise.kind) == ("variance_preserving", "flow")


# -- configurations of diffusers --------------------------------------------------------------------------------------

FLUX = {"_class_name": "FlowMatchEulerDiscreteScheduler", "base_image_seq_len": 256, "base_shift": 0.5,
        "max_image_seq_len": 4096, "max_shift": 1.15, "num_train_timesteps": 1000, "shift": 3.0,
        "use_dynamic_shifting": True}  # fmt: skip
SD3 = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}


WAN = {"_class_name": "UniPCMultistepScheduler", "flow_shift": 3.0, "num_train_timesteps": 1000,
       "prediction_type": "flow_prediction", "use_flow_sigmas": True}  # fmt: skip
SCHNELL = {**SD3, "shift": 1.0}


def from_1_to_1_over(steps: int) -> list[float]:
    """What the pipelines of Flux, Qwen-Image and LTX pass as sigmas."""
    return torch.linspace(1, 1 / steps, steps, dtype=torch.float64).tolist()


@pytest.mark.parametrize(
    ("config", "spacing", "arguments"),
    [
        (FLUX, "from config", {"sigmas": from_1_to_1_over(9), "mu": 1.15}),
        ({**FLUX, "shift_terminal": 0.1}, "from config", {"sigmas": from_1_to_1_over(9), "mu": 1.15}),
        (FLUX, "linspace", {"num_inference_steps": 9, "mu": 1.15}),
        (SCHNELL, "trailing", {"sigmas": from_1_to_1_over(9)}),
        (WAN, "from config", {"num_inference_steps": 9}),
        ({**WAN, "_class_name": "DPMSolverMultistepScheduler"}, "from config", {"num_inference_steps": 9}),
        (SD3, "from config", {"num_inference_steps": 9}),
        ({**SD3, "use_karras_sigmas": True}, "from config", {"num_inference_steps": 9}),
        ({**SD3, "shift_terminal": 0.1}, "from config", {"num_inference_steps": 9}),
    ],
)
def test_a_flow_configuration_gives_the_sigmas_of_its_pipelines(
    call: Any, config: dict[str, Any], spacing: str, arguments: dict[str, Any]
) -> None:
    import diffusers

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of diffusers' own, about arrays
        expected = getattr(diffusers, config["_class_name"]).from_config(config)
        expected.set_timesteps(**arguments)
    schedule, sigmas, report = call(
        "DDIMScheduleFromConfig", config=json.dumps(config), steps=9, timestep_spacing=spacing
    )
    assert torch.allclose(sigmas, expected.sigmas, atol=2e-6)
    assert "spaced by the config" in report and ("4096 tokens" in report) == ("use_dynamic_shifting" in config)
    assert "set_timesteps" not in report and "the sigmas are spaced as" in report


def test_a_dynamic_shift_without_a_size_is_refused(call: Any) -> None:
    with pytest.raises(DDIMError, match="has no max_shift"):
        call("DDIMScheduleFromConfig", config=json.dumps({**FLUX, "max_shift": None}), steps=4)


def test_a_plan_of_more_steps_than_timesteps_is_refused(call: Any) -> None:
    with pytest.raises(DDIMError, match="there are only 1000 timesteps"):
        call("DDIMScheduleFromConfig", config=json.dumps(SD3), steps=500, denoise=0.01)


def test_a_run_that_misses_pure_noise_is_warned_about(nodes: Any, backend: ModuleType) -> None:
    model = backend.current().flow_model_from_network(Wavy(growing=False))

    def codes(**changes: Any) -> list[str]:
        ui = nodes["DDIMSchedule"]().build(**{"steps": 4, **changes}, model=model)["ui"]
        return [warning["code"] for warning in ui["ddim_schedule"][0]["warnings"]]

    assert codes(timestep_spacing="quad") == codes(timestep_spacing="leading") == ["last_step_never_visited"]
    assert codes(timestep_spacing="linspace") == codes(timestep_spacing="trailing", denoise=0.5) == []


def test_denoise_and_parts_take_the_end_of_a_flow_configuration(call: Any) -> None:
    whole = call("DDIMScheduleFromConfig", config=json.dumps(SD3), steps=8)[1]
    assert torch.equal(call("DDIMScheduleFromConfig", config=json.dumps(SD3), steps=4, denoise=0.5)[1], whole[4:])
    part = call("DDIMScheduleFromConfig", config=json.dumps(SD3), steps=8, start_step=2, end_step=5)[1]
    assert torch.equal(part, whole[2:6])


def test_a_flow_configuration_samples_a_flow_model_and_no_other(
    call: Any, backend: ModuleType, exact_model: Any, prompts: Any
) -> None:
    model = backend.current().flow_model_from_network(FlowPointMass())
    schedule, _, _ = call("DDIMScheduleFromConfig", config=json.dumps(FLUX), steps=5, model=model)
    given = {**prompts, "latent_image": latent(10), "schedule": schedule, "cfg": 1.0}
    result, _, _ = call("DDIMSample", model=model, **given)
    assert torch.allclose(result["samples"].mean(dim=(1, 2, 3)), VALUES, atol=2e-6)
    with pytest.raises(DDIMError, match="connect the MODEL to DDIM Schedule"):
        call("DDIMScheduleFromConfig", config=json.dumps(FLUX), model=exact_model()[0])


def test_settings_without_effect_on_a_flow_configuration_are_named(call: Any) -> None:
    report = call("DDIMScheduleFromConfig", config=json.dumps(SD3), timestep_spacing="quad")[2]
    assert "timestep_spacing quad has no effect" in report

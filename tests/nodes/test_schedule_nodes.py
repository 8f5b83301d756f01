"""DDIMSchedule and DDIMScheduleFromConfig: counts, sigmas, denoise, splitting, MODEL, configs."""

from __future__ import annotations

import json
from types import ModuleType
from typing import Any

import pytest
import torch

from ddim import TIMESTEP_SPACINGS, DDIMError, Schedule, make_plan

COUNTS = [*range(1, 61), 100, 250, 999, 1000]
SDXL = {
    "_class_name": "EulerDiscreteScheduler",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "interpolation_type": "linear",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "leading",
}


def nearest_timestep(sigmas: torch.Tensor, table: torch.Tensor) -> list[int]:
    """ComfyUI's rule for turning a sigma into the timestep that a network is told."""
    return (sigmas.log() - table.log()[:, None]).abs().argmin(dim=0).tolist()


@pytest.mark.parametrize("spacing", TIMESTEP_SPACINGS)
@pytest.mark.parametrize("zero_snr", [False, True])
def test_sigmas_have_one_entry_per_step_and_give_the_timesteps_back(
    call: Any, backend: ModuleType, exact_model: Any, spacing: str, zero_snr: bool
) -> None:
    model, _ = exact_model(prediction_type="v_prediction", rescale_betas_zero_snr=zero_snr)
    table = backend.current().model_facts(model).sigmas
    for steps in COUNTS:
        schedule, sigmas = call("DDIMSchedule", steps=steps, timestep_spacing=spacing, model=model)
        assert sigmas.shape == (steps + 1,) and sigmas.dtype == torch.float32 and sigmas[-1] == 0
        assert (sigmas.diff() < 0).all()
        expected = make_plan(steps, 1000, spacing).timesteps
        assert nearest_timestep(sigmas[:-1], table) == list(expected) == list(schedule.plan.timesteps)


def test_without_a_model_sigmas_come_from_the_schedule(call: Any) -> None:
    schedule, sigmas = call("DDIMSchedule", steps=4)
    levels = torch.tensor(schedule.alpha_bars[:-1], dtype=torch.float64)
    assert torch.allclose(sigmas[:-1].double(), ((1 - levels) / levels).sqrt(), rtol=1e-6)
    assert sigmas[0].item() == pytest.approx(14.6146, abs=1e-3)  # Stable Diffusion's largest


def test_zero_snr_sigmas_are_finite_and_comfyuis_largest(call: Any) -> None:
    schedule, sigmas = call("DDIMSchedule", prediction_type="v_prediction", rescale_betas_zero_snr=True)
    assert schedule.alpha_bars[0] == 0.0
    assert sigmas[0].item() == pytest.approx(4518.76, abs=0.01)


@pytest.mark.parametrize(("steps", "denoise"), [(1, 0.5), (7, 0.7), (10, 0.33), (20, 0.5), (20, 0.02), (999, 0.999)])
def test_denoise_runs_all_steps_on_the_end_of_a_longer_plan(call: Any, steps: int, denoise: float) -> None:
    schedule, sigmas = call("DDIMSchedule", steps=steps, denoise=denoise)
    assert len(sigmas) == steps + 1
    assert schedule.plan.timesteps == make_plan(int(steps / denoise + 1e-9), 1000, "trailing").timesteps[-steps:]


def test_denoise_that_needs_more_timesteps_than_there_are_says_so(call: Any) -> None:
    with pytest.raises(DDIMError, match="a plan of 5000 steps.*at most 10 steps"):
        call("DDIMSchedule", steps=50, denoise=0.01)


@pytest.mark.parametrize("cut", [1, 7, 19])
def test_two_parts_make_the_whole(call: Any, cut: int) -> None:
    whole, sigmas = call("DDIMSchedule")
    first, first_sigmas = call("DDIMSchedule", end_step=cut)
    second, second_sigmas = call("DDIMSchedule", start_step=cut)
    assert first.plan.pairs + second.plan.pairs == whole.plan.pairs
    assert torch.equal(torch.cat([first_sigmas, second_sigmas[1:]]), sigmas)


@pytest.mark.parametrize(("start", "end"), [(5, 5), (6, 5), (20, 10000), (25, 30)])
def test_an_empty_part_is_refused(call: Any, start: int, end: int) -> None:
    with pytest.raises(DDIMError, match="start_step must be below"):
        call("DDIMSchedule", start_step=start, end_step=end)


def test_own_timesteps_replace_the_spacing(call: Any) -> None:
    schedule, sigmas = call("DDIMSchedule", timesteps=" 999, 500 250;\n0 ")
    assert schedule.plan.pairs == ((999, 500), (500, 250), (250, 0), (0, -1)) and len(sigmas) == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [("999, x", "whole numbers"), ("1.5", "whole numbers"), ("5, 10", "decreasing"), ("1000", "999"), ("-1", "whole")],
)
def test_wrong_timesteps_are_named(call: Any, text: str, message: str) -> None:
    with pytest.raises(DDIMError, match=message):
        call("DDIMSchedule", timesteps=text)


def test_a_model_gives_levels_prediction_type_and_zero_snr(call: Any, exact_model: Any) -> None:
    model, network = exact_model(prediction_type="v_prediction", rescale_betas_zero_snr=True, beta_end=0.02)
    schedule, _ = call("DDIMSchedule", model=model)
    assert schedule.config.prediction_type == "v_prediction" and schedule.noise.zero_terminal_snr
    assert torch.allclose(schedule.noise.alpha_bar, network.noise.alpha_bar, rtol=1e-12, atol=0)


def test_the_report_says_what_was_taken(nodes: Any, exact_model: Any) -> None:
    model, _ = exact_model(prediction_type="v_prediction", rescale_betas_zero_snr=True)
    node = nodes["DDIMSchedule"]
    (text,) = node().build(model=model)["ui"]["text"]
    assert "the MODEL" in text and "v_prediction" in text and "zero terminal SNR" in text


def test_epsilon_at_zero_snr_is_refused_with_the_way_out(call: Any) -> None:
    with pytest.raises(DDIMError, match="v_prediction"):
        call("DDIMSchedule", rescale_betas_zero_snr=True, prediction_type="epsilon")


def test_epsilon_may_have_zero_snr_where_it_is_not_visited(call: Any) -> None:
    schedule, _ = call(
        "DDIMSchedule", rescale_betas_zero_snr=True, timestep_spacing="leading", prediction_type="epsilon"
    )
    assert schedule.alpha_bars[0] > 0


def test_more_steps_than_timesteps_is_refused(call: Any) -> None:
    with pytest.raises(DDIMError, match="1000"):
        call("DDIMSchedule", steps=1001)


# -- from a config ----------------------------------------------------------------------------------------------------


def test_sdxls_config_is_mended_and_the_report_says_so(call: Any) -> None:
    schedule, sigmas, report = call("DDIMScheduleFromConfig", config=json.dumps(SDXL))
    assert schedule.config.set_alpha_to_one and not schedule.config.clip_sample and sigmas[-1] == 0
    assert schedule.plan.timesteps == make_plan(20, 1000, "leading", 1).timesteps
    assert "overridden: set_alpha_to_one: False, now True" in report
    assert "ignored: interpolation_type" in report and "used: beta_end = 0.012" in report


def test_a_config_can_be_taken_as_written(call: Any) -> None:
    schedule, sigmas, report = call("DDIMScheduleFromConfig", config=json.dumps(SDXL), fix_known_defaults=False)
    assert schedule.alpha_bars[-1] == schedule.noise.levels[0] and sigmas[-1] > 0.02
    assert "overridden" not in report and "set_alpha_to_one" in report.split("note:")[1]


def test_clipping_by_default_is_named_and_turned_off(call: Any) -> None:
    config = json.dumps({"beta_schedule": "scaled_linear"})
    assert not call("DDIMScheduleFromConfig", config=config)[0].config.clip_sample
    kept, _, report = call("DDIMScheduleFromConfig", config=config, fix_known_defaults=False)
    assert kept.config.clip_sample and "clip_sample" in report.split("note:")[1]


def test_clipping_that_is_asked_for_stays(call: Any) -> None:
    schedule, _, _ = call("DDIMScheduleFromConfig", config='{"clip_sample": true, "clip_sample_range": 2.0}')
    assert schedule.config.clip_sample and schedule.config.clip_sample_range == 2.0


def test_the_spacing_can_be_overridden(call: Any) -> None:
    given = {"config": json.dumps(SDXL), "timestep_spacing": "trailing"}
    schedule, _, report = call("DDIMScheduleFromConfig", **given)
    assert schedule.plan.timesteps[0] == 999 and "timestep_spacing: leading, now trailing" in report


def test_a_file_in_the_models_folder_is_offered_and_read(
    call: Any, nodes: Any, tmp_path: Any, monkeypatch: Any
) -> None:
    import host.context
    from host.folders import default_folders

    before = host.context.use_folders(default_folders(tmp_path))
    try:
        place = tmp_path / "models/diffusers/mine/scheduler"
        place.mkdir(parents=True)
        (place / "scheduler_config.json").write_text(json.dumps(SDXL))
        node, name = nodes["DDIMScheduleFromConfig"], "diffusers/mine/scheduler/scheduler_config.json"
        assert node.INPUT_TYPES()["optional"]["file"][0] == ["(pasted text)", name]
        assert call("DDIMScheduleFromConfig", file=name)[0].plan.timesteps[0] == 951
        first = node.IS_CHANGED(file=name)
        (place / "scheduler_config.json").write_text(json.dumps(SDXL) + " ")
        assert node.IS_CHANGED(file=name) != first
        for outside in ("../secret.json", "/etc/passwd", "diffusers/other/scheduler_config.json"):
            with pytest.raises(DDIMError, match="one of the configs in the models folder"):
                call("DDIMScheduleFromConfig", file=outside)
    finally:
        host.context.use_folders(before)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("", "empty"),
        ("{", "not JSON"),
        ("[1]", "object"),
        ("[" * 100_000, "not JSON"),
        ('{"prediction_type": "foo"}', "'foo'"),
        ('{"_class_name": "EDMEulerScheduler"}', "EDM"),
    ],
)
def test_a_wrong_config_gets_a_sentence(call: Any, config: str, message: str) -> None:
    with pytest.raises(DDIMError, match=message):
        call("DDIMScheduleFromConfig", config=config)


# -- who decides what the network's output is

V_ZERO_SNR = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}


@pytest.fixture
def samples(call: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """``samples(model, schedule)``: what DDIM KSampler gives."""
    prompt = call("DDIMDemoPrompt", digits="8")[0]

    def run(model: Any, schedule: Any) -> torch.Tensor:
        latent = {"samples": torch.zeros(1, 3, 8, 8)}
        given = {"model": model, "positive": prompt, "negative": prompt, "latent_image": latent, "cfg": 1.0}
        return call("DDIMSample", schedule=schedule, **given)[0]["samples"]

    return run


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize(
    "part", [{}, {"start_step": 1}, {"end_step": 4}, {"denoise": 0.5}, {"timesteps": "990, 400, 0"}]
)
def test_from_model_is_what_the_model_of_the_run_says(
    call: Any, exact_model: Any, samples: Any, kind: str, part: dict[str, Any]
) -> None:
    model, _ = exact_model(prediction_type=kind)
    alone, connected, named = (
        call("DDIMSchedule", steps=6, **part, **given)[0] for given in ({}, {"model": model}, {"prediction_type": kind})
    )
    expected = samples(model, named)
    assert torch.equal(samples(model, alone), expected) and torch.equal(samples(model, connected), expected)
    assert alone != named  # or else nothing would say that it is open


def test_a_schedule_made_with_one_model_leaves_it_to_the_next(call: Any, exact_model: Any, samples: Any) -> None:
    first, _ = exact_model(prediction_type="epsilon")
    second, _ = exact_model(prediction_type="v_prediction")
    schedule, _ = call("DDIMSchedule", model=first)
    assert torch.allclose(samples(second, schedule), torch.tensor(0.6), atol=1e-3)  # the picture that PointMass knows


def test_epsilon_is_taken_at_its_word(call: Any, exact_model: Any, samples: Any, backend: Any) -> None:
    """An epsilon network that was loaded as v: epsilon makes its picture right, and from model does not."""
    model, network = exact_model(prediction_type="epsilon")
    wrong = backend.current().with_levels(model, network.noise, "v_prediction")
    forced, left = (call("DDIMSchedule", prediction_type=kind)[0] for kind in ("epsilon", "from model"))
    assert torch.equal(samples(wrong, forced), samples(model, left))
    assert torch.allclose(samples(wrong, forced), torch.tensor(0.6), atol=1e-3)
    assert not torch.allclose(samples(wrong, left), torch.tensor(0.6), atol=1e-3)


@pytest.mark.parametrize(("kind", "fails"), [("epsilon", True), ("v_prediction", False)])
def test_zero_snr_waits_for_the_model_of_the_run(
    call: Any, exact_model: Any, samples: Any, kind: str, fails: bool
) -> None:
    schedule, _ = call("DDIMSchedule", rescale_betas_zero_snr=True)
    model, network = exact_model(prediction_type=kind)
    if not fails:
        samples(model, schedule)
        return
    with pytest.raises(DDIMError, match="^At zero SNR the input is pure noise"):
        samples(model, schedule)
    assert network.calls == []


def test_model_sampling_with_from_model_keeps_the_model_s_own_type(call: Any, exact_model: Any, backend: Any) -> None:
    model, _ = exact_model(prediction_type="v_prediction")
    given = {"rescale_betas_zero_snr": True}
    left, forced = (call("DDIMSchedule", **given, **kind)[0] for kind in ({}, {"prediction_type": "sample"}))
    read_as = [
        backend.current().model_facts(call("DDIMModelSampling", model=model, schedule=schedule)[0]).prediction_type
        for schedule in (left, forced)
    ]
    assert read_as == ["v_prediction", "sample"]


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_a_config_is_taken_at_its_word_and_asks_the_model_where_it_says_nothing(
    call: Any, exact_model: Any, samples: Any, nodes: Any, kind: str
) -> None:
    model, network = exact_model(prediction_type=kind)
    levels = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "clip_sample": False}
    silent, named = ({**levels, **more} for more in ({}, {"prediction_type": kind}))
    left, forced = (call("DDIMScheduleFromConfig", config=json.dumps(text))[0] for text in (silent, named))
    assert torch.equal(samples(model, left), samples(model, forced))
    (account,) = nodes["DDIMScheduleFromConfig"]().build(config=json.dumps(silent))["ui"]["ddim_config"]
    assert account["defaulted"]["prediction_type"] == account["config"]["prediction_type"] == "from model"


# -- levels that nobody chose


@pytest.mark.parametrize(
    ("made_with", "codes"),
    [({}, ["other_levels"]), ({"model": True}, []), ({"model": True, "rescale_betas_zero_snr": True}, [])],
)
def test_a_run_says_where_its_levels_are_not_the_model_s(
    call: Any, nodes: Any, exact_model: Any, made_with: dict[str, Any], codes: list[str]
) -> None:
    model, _ = exact_model(prediction_type="v_prediction", beta_end=0.02)
    given = {**made_with, "model": model} if "model" in made_with else made_with
    prompt = call("DDIMDemoPrompt", digits="8")[0]
    latent = {"samples": torch.zeros(1, 3, 8, 8)}
    run = {"model": model, "positive": prompt, "negative": prompt, "latent_image": latent, "cfg": 1.0}
    schedule, _ = call("DDIMSchedule", steps=2, **given)
    notes = nodes["DDIMSample"]().sample(**run, schedule=schedule)["ui"]["ddim_notes"]
    assert [note["code"] for note in notes] == codes
    if codes:
        assert notes[0]["level"] == "warning" and notes[0]["values"]["timestep"] in schedule.plan.timesteps
    assert nodes["DDIMSample"]().sample(**run, steps=2)["ui"]["ddim_notes"] == []


def test_a_run_whose_levels_are_the_model_s_says_nothing(call: Any, nodes: Any, exact_model: Any) -> None:
    model, _ = exact_model()
    prompt, latent = call("DDIMDemoPrompt", digits="8")[0], {"samples": torch.zeros(1, 3, 8, 8)}
    run = {"model": model, "positive": prompt, "negative": prompt, "latent_image": latent, "cfg": 1.0}
    schedule, _ = call("DDIMSchedule", steps=2)
    assert nodes["DDIMSample"]().sample(**run, schedule=schedule)["ui"]["ddim_notes"] == []


def test_a_kept_inversion_says_what_the_network_s_output_was(call: Any, exact_model: Any) -> None:
    """Its file is read without the MODEL, and maybe for another that was loaded as something else."""
    model, _ = exact_model(prediction_type="v_prediction")
    prompt, latent = call("DDIMDemoPrompt", digits="8")[0], {"samples": torch.zeros(1, 3, 8, 8)}
    schedule, _ = call("DDIMSchedule", steps=3)
    given = {"model": model, "positive": prompt, "negative": prompt, "latent_image": latent}
    for link in ({}, {"schedule": schedule}):
        recorded = call("DDIMInvert", **given, **link, steps=3)[1]
        assert recorded.inversion.schedule.config.prediction_type == "v_prediction"
        assert type(recorded.inversion.schedule) is Schedule

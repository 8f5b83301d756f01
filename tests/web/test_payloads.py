"""What the nodes tell the editor, and what the pack's routes answer, without a browser."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ddim import (
    BETA_SCHEDULES,
    PREDICTION_TYPES,
    TIMESTEP_SPACINGS,
    DDIMError,
    SchedulerConfig,
    make_schedule,
)


@pytest.fixture(scope="session")
def parts(pack):
    """The pack's nodes, payload, replay and route modules."""
    nodes = pack.NODE_CLASS_MAPPINGS
    from pack.nodes.editor import http, payloads, replay, replay_sheet, round_trip, routes

    class Parts:
        pass

    found = Parts()
    found.nodes, found.routes, found.replay, found.payloads, found.http = (
        nodes, routes, replay, payloads, http,
    )  # fmt: skip
    found.sheet, found.inversion = replay_sheet, round_trip
    return found


def codes(report: dict) -> set[str]:
    return {warning["code"] for warning in report["warnings"]}


@settings(deadline=None, max_examples=60)
@given(
    total=st.integers(2, 1500),
    share=st.floats(0.0, 1.0),
    beta_schedule=st.sampled_from(BETA_SCHEDULES),
    spacing=st.sampled_from(TIMESTEP_SPACINGS),
    zero_snr=st.booleans(),
    to_one=st.booleans(),
    prediction=st.sampled_from(PREDICTION_TYPES),
)
def test_every_schedule_gives_a_small_finite_true_plot(
    parts, total, share, beta_schedule, spacing, zero_snr, to_one, prediction
):
    config = SchedulerConfig(
        num_train_timesteps=total,
        beta_schedule=beta_schedule,
        timestep_spacing=spacing,
        rescale_betas_zero_snr=zero_snr,
        set_alpha_to_one=to_one,
        prediction_type=prediction,
    )
    schedule = make_schedule(1 + int(share * (total - 1)), config)
    report = parts.payloads.schedule_report(schedule)
    text = json.dumps(report, allow_nan=False)
    assert len(text) < 60_000
    visited = report["visited"]
    assert visited["t"][0] == schedule.plan.timesteps[0] and visited["t"][-1] == schedule.plan.timesteps[-1]
    assert visited["step"][-1] == report["steps"] == len(schedule.plan)
    for curve in (report["curve"], visited):
        for t, alpha_bar, log_snr in zip(curve["t"], curve["alpha_bar"], curve["log_snr"], strict=True):
            assert alpha_bar == pytest.approx(schedule.noise.alpha_bar_at(t), rel=1e-6)
            if log_snr is not None:  # ln(SNR) and alpha_bar are one quantity: alpha_bar = 1 / (1 + exp(-ln SNR))
                assert 1 / (1 + math.exp(-log_snr)) == pytest.approx(alpha_bar, rel=1e-5, abs=1e-12)
            else:
                assert alpha_bar in (0.0, 1.0)


def test_bad_choices_are_named(parts):
    good = SchedulerConfig(rescale_betas_zero_snr=True, timestep_spacing="trailing", prediction_type="v_prediction")
    report = parts.payloads.schedule_report
    late, epsilon = replace(good, timestep_spacing="leading"), replace(good, prediction_type="epsilon")
    assert codes(report(make_schedule(10, good))) == set()
    (warning,) = report(make_schedule(10, late))["warnings"]
    assert (warning["code"], warning["level"]) == ("last_step_never_visited", "warning")
    assert warning["apply"] == {"timestep_spacing": "trailing"}
    (error,) = report(make_schedule(10, epsilon))["warnings"]
    assert (error["code"], error["level"]) == ("epsilon_at_zero_snr", "error")
    assert error["apply"] == {"prediction_type": "v_prediction"}
    assert codes(report(make_schedule(10, replace(epsilon, timestep_spacing="leading")))) == set()
    assert codes(report(make_schedule(10, SchedulerConfig()))) == set()


def plotted(parts, **inputs):
    """What the plot of DDIM Schedule says."""
    zero_snr = {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}
    answer = parts.routes.schedule_answer({"node": "DDIMSchedule", "inputs": {**zero_snr, **inputs}}, parts.nodes)
    return answer["schedule"]["warnings"]


@pytest.mark.parametrize(
    "inputs",
    [{"denoise": 0.5}, {"start_step": 10}, {"timesteps": "800, 400, 0"}, {"timesteps": "800, 400, 0", "denoise": 0.5}],
)
@pytest.mark.parametrize("spacing", ["trailing", "leading"])
def test_a_part_of_a_plan_and_a_list_of_one_s_own_may_start_late(parts, inputs, spacing):
    assert plotted(parts, timestep_spacing=spacing, **inputs) == []
    epsilon = {"timestep_spacing": spacing, "prediction_type": "epsilon", **inputs}
    assert plotted(parts, **epsilon) == []  # which is refused only where a step is pure noise


def test_what_apply_says_makes_the_message_go(parts):
    for inputs in ({"timestep_spacing": "leading"}, {"timestep_spacing": "quad"}, {"prediction_type": "epsilon"}):
        (told,) = plotted(parts, **inputs)
        assert plotted(parts, **{**inputs, **told["apply"]}) == []


@pytest.mark.parametrize("spacing", ["trailing", "leading", "linspace", "quad"])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample", "from model"])
@pytest.mark.parametrize("part", [{}, {"denoise": 0.5}, {"start_step": 1}, {"timesteps": "999, 5"}])
def test_an_error_of_the_plot_is_the_error_of_the_run(parts, spacing, prediction_type, part):
    inputs = {"timestep_spacing": spacing, "prediction_type": prediction_type, **part}
    errors = [told["text"] for told in plotted(parts, **inputs) if told["level"] == "error"]
    try:
        parts.nodes["DDIMSchedule"]().build(rescale_betas_zero_snr=True, **inputs)
        refused = []
    except DDIMError as error:
        refused = [str(error)]
    assert errors == refused


def test_the_route_answers_what_the_node_does(parts):
    node = parts.nodes["DDIMSchedule"]
    values = parts.routes.widget_values(node, {"steps": 7, "timestep_spacing": "linspace"})
    ran = getattr(node(), node.FUNCTION)(**values)["ui"]["ddim_schedule"][0]
    asked = parts.routes.schedule_answer(
        {"node": "DDIMSchedule", "inputs": {"steps": 7, "timestep_spacing": "linspace"}}, parts.nodes
    )
    assert asked["schedule"] == ran


def test_epsilon_at_zero_snr_is_drawn_and_warned_of(parts):
    inputs = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing", "prediction_type": "epsilon"}
    answer = parts.routes.schedule_answer({"node": "DDIMSchedule", "inputs": inputs}, parts.nodes)
    assert codes(answer["schedule"]) == {"epsilon_at_zero_snr"}
    assert answer["schedule"]["prediction_type"] == "epsilon"


def test_steps_over_the_timesteps_are_an_answer_not_a_failure(parts):
    answer = parts.routes.schedule_answer({"node": "DDIMSchedule", "inputs": {"steps": 1001}}, parts.nodes)
    assert answer == {"error": "steps must be at most 1000, the number of timesteps (num_train_timesteps), got 1001"}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "node must be"),
        ({"node": "KSampler"}, "node must be"),
        ({"node": ["DDIMSchedule"]}, "node must be"),
        ({"node": "DDIMSchedule", "inputs": []}, "object of widget values"),
        ({"node": "DDIMSchedule", "inputs": {"model": 1}}, "got model"),
        ({"node": "DDIMSchedule", "inputs": {"steps": 2.5}}, "whole number"),
        ({"node": "DDIMSchedule", "inputs": {"steps": True}}, "whole number"),
        ({"node": "DDIMSchedule", "inputs": {"steps": 0}}, "between"),
        ({"node": "DDIMSchedule", "inputs": {"beta_start": math.inf}}, "between"),
        ({"node": "DDIMSchedule", "inputs": {"timestep_spacing": "Trailing"}}, "one of"),
        ({"node": "DDIMSchedule", "inputs": {"timestep_spacing": {}}}, "one of"),
        ({"node": "DDIMSchedule", "inputs": {"set_alpha_to_one": 1}}, "true or false"),
        ({"node": "DDIMSchedule", "inputs": {"timesteps": "9" * 600_000}}, "characters"),
    ],
)
def test_requests_that_make_no_sense_are_refused(parts, given, told):
    with pytest.raises(DDIMError, match=told):
        parts.routes.schedule_answer(given, parts.nodes)


@pytest.mark.parametrize("body", [b"", b"[]", b"1", b'{"a": NaN}', b"\xff", b"[" * 100_000, b'{"a":', b"9" * 10_000])
def test_bodies_that_are_no_object_are_refused(parts, body):
    with pytest.raises(DDIMError, match="JSON object"):
        parts.http.parse(body)


def test_a_config_is_read_into_widgets(parts):
    sdxl = {"_class_name": "EulerDiscreteScheduler", "beta_end": 0.012, "beta_schedule": "scaled_linear",
            "beta_start": 0.00085, "num_train_timesteps": 1000, "prediction_type": "v_prediction",
            "timestep_spacing": "trailing", "steps_offset": 1, "use_karras_sigmas": False}  # fmt: skip
    answer = parts.routes.config_answer({"text": json.dumps(sdxl)}, parts.nodes)
    assert answer["inputs"]["prediction_type"] == "v_prediction" and answer["inputs"]["beta_end"] == 0.012
    assert "use_karras_sigmas" in answer["config"]["ignored"]
    # What is read back is accepted by the schedule node, and means the same noise levels.
    asked = parts.routes.schedule_answer({"node": "DDIMSchedule", "inputs": answer["inputs"]}, parts.nodes)
    assert asked["schedule"]["curve"] == answer["schedule"]["curve"]


def test_a_flow_config_is_drawn_and_has_no_widgets_on_the_schedule_node(parts):
    flux = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0, "num_train_timesteps": 1000}
    answer = parts.routes.config_answer({"text": json.dumps(flux)}, parts.nodes)
    assert answer["inputs"] == {} and answer["config"]["reader"] == "DDIMFlowScheduler"
    times = answer["schedule"]["visited"]["t"]
    assert times[0] == 1000 and times == sorted(times, reverse=True)
    json.dumps(answer, allow_nan=False)


@pytest.mark.parametrize("text", ["", "no json", "[]", '{"_class_name": "EDMEulerScheduler"}'])
def test_a_text_that_is_no_config_is_answered_with_a_reason(parts, text):
    assert set(parts.routes.config_answer({"text": text}, parts.nodes)) == {"error"}
    with pytest.raises(DDIMError, match="text must be"):
        parts.routes.config_answer({"text": None}, parts.nodes)


@pytest.mark.parametrize("steps", [1, 7, 48, 49, 250])
@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (6, 3, 32, 32), (2, 3, 256, 96), (1, 3, 5, 64, 64)])
def test_a_replay_is_one_small_sheet(parts, tmp_path: Path, steps, shape):
    schedule = make_schedule(steps, SchedulerConfig(timestep_spacing="trailing"))
    replay = parts.replay.Replay(schedule, lambda latent: latent)
    for i in range(steps):
        replay.add(i, torch.full(shape, 2 * i / steps - 1))
    (sheet,) = replay.sheets(tmp_path)
    replay.written.result()
    frames = sheet["frames"]
    assert len(frames) == min(steps, parts.replay.MAX_FRAMES) and len(json.dumps(sheet, allow_nan=False)) < 8_000
    assert [frame["t"] for frame in frames] == [schedule.plan.timesteps[frame["step"] - 1] for frame in frames]
    assert frames[0]["step"] == 1 and frames[-1]["step"] == steps
    path = tmp_path / sheet["sheet"]
    assert path.stat().st_size <= parts.sheet.MAX_BYTES and list(tmp_path.iterdir()) == [path]
    with Image.open(path) as image:
        assert image.size == (sheet["columns"] * sheet["width"], sheet["rows"] * sheet["height"])
        for number, frame in enumerate(frames):
            column, row = number % sheet["columns"], number // sheet["columns"]
            side = sheet["width"] // sheet["image_columns"]  # of the first image, which is never an empty place
            place = (column * sheet["width"] + side // 2, row * sheet["height"] + min(side, sheet["height"]) // 2)
            expected = 255 * (frame["step"] - 1) / steps
            assert image.convert("RGB").getpixel(place)[0] == pytest.approx(expected, abs=6)


def test_a_replay_of_noise_and_of_nothing_fits_too(parts, tmp_path: Path):
    schedule = make_schedule(100, SchedulerConfig())
    replay = parts.replay.Replay(schedule, lambda latent: latent)
    unknown = parts.replay.Replay(schedule, lambda latent: None)
    generator = torch.Generator().manual_seed(0)
    for i in range(100):
        x0 = torch.randn(4, 3, 32, 32, generator=generator)
        x0[0, 0, 0, 0] = math.nan
        replay.add(i, x0)
        unknown.add(i, x0)
    (sheet,) = replay.sheets(tmp_path)
    replay.written.result()
    assert (tmp_path / sheet["sheet"]).stat().st_size <= parts.sheet.MAX_BYTES
    assert unknown.sheets(tmp_path) == []


@pytest.mark.parametrize("batch", [1, 3, 4, 5, 7, 16, 17, 27, 64])
def test_a_replay_shows_the_images_of_a_batch_in_a_grid(parts, tmp_path: Path, batch):
    """Image k is all of the shade k / batch, brighter from step to step."""
    schedule = make_schedule(60, SchedulerConfig(timestep_spacing="trailing"))
    replay = parts.replay.Replay(schedule, lambda latent: latent)
    shades = torch.linspace(-1, 0, batch)[:, None, None, None].expand(batch, 3, 8, 6)
    for i in range(60):
        replay.add(i, shades + i / 60)
    (sheet,) = replay.sheets(tmp_path)
    frames = replay.written.result()
    assert len(json.dumps(sheet, allow_nan=False)) < 8_000
    assert sheet["of_images"] == batch and sheet["images"] == len(sheet["image_numbers"]) <= 16
    assert sheet["images"] == batch if batch <= 16 else sheet["images"] > 8
    assert sheet["image_numbers"][0] == 1 and sheet["image_numbers"][-1] <= batch
    columns, rows = sheet["width"] // 6, sheet["height"] // 8
    assert columns == sheet["image_columns"] and (columns - 1) * rows < sheet["images"] + rows <= columns * rows + rows
    assert frames.shape == (len(sheet["frames"]), sheet["height"], sheet["width"], 3)
    assert len(frames) * sheet["images"] <= parts.replay.MAX_PICTURES and len(frames) <= parts.replay.MAX_FRAMES
    kept = replay.frames()
    for place, number in enumerate(sheet["image_numbers"]):
        row, column = divmod(place, columns)
        for frame, shown in zip(frames, sheet["frames"], strict=True):
            expected = 127.5 * (float(shades[number - 1, 0, 0, 0]) + (shown["step"] - 1) / 60 + 1)
            cell = frame[row * 8 : row * 8 + 8, column * 6 : column * 6 + 6]
            assert bool((cell == cell[0, 0, 0]).all()) and float(cell[0, 0, 0]) == pytest.approx(expected, abs=1)
        assert torch.equal(kept.pictures(number)[-1], frames[-1][row * 8 : row * 8 + 8, column * 6 : column * 6 + 6])
    with pytest.raises(DDIMError, match="image_number must be 0"):
        kept.pictures(batch + 1)


def test_a_sheet_of_sixteen_noises_fits_too(parts, tmp_path: Path):
    for side in (32, 64):  # a PNG and a JPEG
        replay = parts.replay.Replay(make_schedule(100, SchedulerConfig()), lambda latent: latent)
        generator = torch.Generator().manual_seed(0)
        for i in range(100):
            replay.add(i, torch.randn(16, 3, side, side, generator=generator))
        (sheet,) = replay.sheets(tmp_path)
        replay.written.result()
        assert (tmp_path / sheet["sheet"]).stat().st_size <= parts.sheet.MAX_BYTES


def test_a_run_without_pictures_has_no_strip(parts):
    schedule = make_schedule(3, SchedulerConfig())
    for replay in (parts.replay.Replay(schedule, lambda latent: None), parts.replay.Replay(schedule, lambda x: x)):
        with pytest.raises(DDIMError, match="no pictures of its steps"):
            replay.frames().pictures()


def test_a_run_that_was_stopped_leaves_the_steps_it_had(parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from pack.nodes.editor import partial_replay

    import host.context
    from host.folders import default_folders

    schedule = make_schedule(8, SchedulerConfig(timestep_spacing="trailing"))
    call = host.context.NodeCall("prompt", "12:3", lambda *_: None, None)
    before = host.context.use_folders(default_folders(tmp_path))
    try:
        for done in (3, 0):
            replay = parts.replay.Replay(schedule, lambda latent: latent)
            with pytest.raises(host.context.Interrupted), host.context.enter_node_call(call):
                with partial_replay.partial_kept(replay):
                    for i in range(done):
                        replay.add(i, torch.full((1, 3, 8, 8), i / 8))
                    raise host.context.Interrupted
        found = partial_replay.partial_replay("12:3")
        assert found["partial"] is True and (found["prompt_id"], found["node"]) == ("prompt", "12:3")
        assert [frame["step"] for frame in found["frames"]] == [1, 2, 3] and found["steps"] == 8
        parts.sheet.pending().result()
        with Image.open(default_folders(tmp_path).temp / found["sheet"]) as image:
            assert image.size == (3 * 8, 8)
        for name in ("12", "", "../12:3", "x" * 9000, "a\0b"):
            assert partial_replay.partial_replay(name) is None
        with partial_replay.partial_kept(replay):  # a run that ends leaves nothing
            pass
    finally:
        host.context.use_folders(before)


def test_an_inversion_report_is_finite(parts):
    report = parts.inversion.inversion_report("ddim", [0.1, math.nan, math.inf, 1e-9])
    assert json.loads(json.dumps(report, allow_nan=False))["round_trip_error"] == [0.1, None, None, 1e-9]
    assert report["share"] == [pytest.approx(2 / 3, abs=1e-3), 1.0, 1.0, 0.0] and report["verdict"] == "far"


@pytest.mark.parametrize(
    ("errors", "verdict", "shares"),
    [
        ([], "exact", []),
        ([1.6e-10, 9.9e-4], "exact", [0.0, 0.0]),
        ([1e-8, 1e-3], "near", [0.0, 0.0]),
        ([0.0299, 0.01], "near", [0.492, 0.333]),
        ([0.03, 1e-9], "far", [0.492, 0.0]),
        ([0.16, 7.0], "far", [0.735, 1.0]),
    ],
)
def test_an_error_has_one_verdict_and_a_bar_whose_length_depends_on_no_other_image(parts, errors, verdict, shares):
    report = parts.inversion.inversion_report("ddim", errors)
    assert report["verdict"] == verdict and report["share"] == pytest.approx(shares, abs=2e-3)

"""Fitted steps: nearer to the exact solution than every known spacing, for all kinds of models; usable everywhere."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import ddim
from ddim import (
    END,
    FIT_METHODS,
    DDIMError,
    DDIMFlowScheduler,
    DDIMScheduler,
    Guided,
    Schedule,
    SigmaConfig,
    fit_timesteps,
    invert,
    load_noise,
    make_plan,
    reconstruct,
    sample,
    save_noise,
)

SD = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "clip_sample": False}
KNOWN = ("trailing", "linspace", "ays", "ays_sdxl")


def rms(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).square().mean().sqrt())


def normal(rows: int, columns: int, seed: int = 1) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def model_of(mixture: Any, scheduler: Any) -> Any:
    """The exact model of a mixture for any kind of levels: x / length is a variance preserving sample."""
    noise, prediction = scheduler.noise_schedule, scheduler.settings.prediction_type
    times = noise.times.float().tolist()

    def model(x: Tensor, t: Tensor) -> Tensor:
        level = noise.level_at(times.index(float(t)))
        x0 = mixture.x0(x / level.length, level.alpha_bar)
        if prediction == "sample":
            return x0.to(x.dtype)
        epsilon = (x.double() - level.alpha * x0) / level.sigma
        outputs = {
            "epsilon": epsilon,
            "v_prediction": level.alpha * epsilon - level.sigma * x0,
            "flow_prediction": epsilon - x0,
            "inverted_flow_prediction": x0 - epsilon,
        }
        return outputs[prediction].to(x.dtype)

    return model


def edm() -> DDIMScheduler:
    """Levels of EDM (2206.00364, equation 5) from 0.002 to 80."""
    rows = torch.linspace(0.002 ** (1 / 7), 80 ** (1 / 7), 200, dtype=torch.float64) ** 7
    return DDIMScheduler.from_settings(SigmaConfig("variance_exploding", tuple(rows.tolist()), time_scale=1.0))


def flow() -> DDIMFlowScheduler:
    scheduler = DDIMFlowScheduler(shift=3.0)
    scheduler.set_timesteps(250)
    return scheduler


KINDS = {
    "epsilon": lambda: DDIMScheduler(**SD),
    "v at zero SNR": lambda: DDIMScheduler(**SD, prediction_type="v_prediction", rescale_betas_zero_snr=True),
    "x_0, without the last bit of noise": lambda: DDIMScheduler(**SD, prediction_type="sample", set_alpha_to_one=False),
    "cosine": lambda: DDIMScheduler(
        beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", clip_sample=False
    ),
    "flow": flow,
    "flow, training levels": DDIMFlowScheduler,
    "Mochi": lambda: DDIMFlowScheduler(invert_sigmas=True),
    "EDM": edm,
}


def spaced(scheduler: Any, spacing: str, steps: int) -> Any:
    return make_plan(steps, len(scheduler.noise_schedule), spacing)


def ends(scheduler: Any, model: Any, x: Tensor, plan: Any) -> Tensor:
    scheduler.set_plan(plan)
    return sample(model, x, scheduler)


def exact_end(scheduler: Any, model: Any, x: Tensor) -> Tensor:
    """Heun's second-order method through every level down to the last but one, then one step of DDIM to the end."""
    noise, times = scheduler.noise_schedule, scheduler.noise_schedule.times.float()
    t = len(noise) - 1
    first = ddim.TimestepPlan(tuple((t, t - 1) for t in range(t, -1, -1)))
    scheduler.set_plan(first)

    def direction(x: Tensor, t: int) -> tuple[Tensor, Tensor]:
        level, kind, output = noise.level_at(t), scheduler.settings.prediction_type, model(x, times[t])
        return ddim.predict_x0(output, x, level, kind), ddim.predict_epsilon(output, x, level, kind)

    while t > 0:
        at, to = noise.level_at(t), noise.level_at(t - 1)
        here = direction(x, t)
        there = direction(to.alpha * here[0] + to.sigma * here[1], t - 1)
        x0, epsilon = ((a + b) / 2 for a, b in zip(here, there, strict=True))
        x, t = x + (to.alpha - at.alpha) * x0 + (to.sigma - at.sigma) * epsilon, t - 1
    x0, epsilon = direction(x, 0)
    end = noise.level_at(END)
    return end.alpha * x0 + end.sigma * epsilon


# -- the quality that users get ---------------------------------------------------------------------------------------


def mixtures(mixture: Any) -> dict[str, Any]:
    drawn = torch.Generator().manual_seed(3)
    return {
        "one of unit size": mixture(torch.zeros(1, 2, dtype=torch.float64), 1.0),
        "one narrow": mixture(torch.full((1, 4), 0.7, dtype=torch.float64), 0.05),
        "three": mixture(torch.tensor([[-1.0], [0.2], [1.5]], dtype=torch.float64), 0.35),
        "two narrow": mixture(torch.tensor([[-1.0], [1.0]], dtype=torch.float64), 0.1),
        "twenty": mixture(torch.randn(20, 64, generator=drawn, dtype=torch.float64), 0.1),
    }


@pytest.mark.parametrize("name", ["one of unit size", "one narrow", "three", "two narrow", "twenty"])
def test_no_known_spacing_ends_nearer_to_the_exact_solution(mixture: Any, name: str) -> None:
    scheduler, data = DDIMScheduler(**SD, timestep_spacing="trailing"), mixtures(mixture)[name]
    model, x = model_of(data, scheduler), normal(16, data.means.shape[1])
    exact = exact_end(scheduler, model, x)
    for steps in (2, 3, 5, 8, 12, 20):
        scheduler.set_timesteps(steps)
        fitted = rms(ends(scheduler, model, x, fit_timesteps(model, x, scheduler, steps)), exact)
        for spacing in KNOWN:
            assert fitted <= rms(ends(scheduler, model, x, spaced(scheduler, spacing, steps)), exact) * 1.001, (
                steps, spacing,
            )  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_level_gains_on_other_starts_too(mixture: Any, kind: str) -> None:
    scheduler = KINDS[kind]()
    model = model_of(mixtures(mixture)["three"], scheduler)
    size = scheduler.noise_schedule.level_at(len(scheduler.noise_schedule) - 1).length
    x, others = size * normal(32, 1), size * normal(64, 1, 2)
    exact = exact_end(scheduler, model, others)
    first = len(scheduler.noise_schedule) - 1
    scheduler.set_plan(spaced(scheduler, "trailing", 6))
    trailing = rms(sample(model, others, scheduler), exact)
    plan = fit_timesteps(model, x, scheduler, 6, grid=40)
    assert len(plan) == 6 and plan.timesteps[0] == first and plan.pairs[-1][1] == END
    # With cosine levels even spacing is the best there is for this data, to 0.1%.
    assert rms(ends(scheduler, model, others, plan), exact) < trailing * (1.01 if kind == "cosine" else 1.0)


def test_the_fast_method_gains_as_well(six_modes: Any) -> None:
    scheduler = DDIMScheduler(**SD, timestep_spacing="trailing")
    model, others = model_of(six_modes, scheduler), normal(24, 16, 2)
    exact = exact_end(scheduler, model, others)
    for steps in (5, 10):
        scheduler.set_timesteps(steps)
        trailing = rms(sample(model, others, scheduler), exact)
        plan = fit_timesteps(model, normal(8, 16), scheduler, steps, method="fast")
        assert rms(ends(scheduler, model, others, plan), exact) < trailing


def test_the_fast_method_finds_the_path_of_least_sum(six_modes: Any) -> None:
    """Against every choice of three of six levels, with the teacher's states from the search itself."""
    from itertools import combinations

    from ddim.sampling.fit_search import Trials, _errors, best_sums, solve

    scheduler = DDIMScheduler(**SD)
    levels = [999, 800, 600, 400, 200, 100, END]
    trials = Trials(model_of(six_modes, scheduler), normal(4, 16), scheduler, 6, None)
    teacher = solve(trials, levels)
    errors = _errors(trials, teacher, teacher, levels, range(1, 7))
    paths = [(0, *middle, 6) for middle in combinations(range(1, 6), 2)]
    least = min(paths, key=lambda path: sum(errors[i, j] for i, j in zip(path[:-1], path[1:], strict=True)))
    assert best_sums(trials, teacher, levels, 3) == [levels[i] for i in least]


def test_the_teacher_is_of_second_order(six_modes: Any) -> None:
    from ddim.sampling.fit import _grid
    from ddim.sampling.fit_search import Trials, solve

    scheduler = DDIMScheduler(**SD, prediction_type="v_prediction", rescale_betas_zero_snr=True)
    model, x, errors = model_of(six_modes, scheduler), normal(8, 16), []
    exact = exact_end(scheduler, model, x)
    for count in (40, 80):
        run = solve(Trials(model, x, scheduler, count, None), _grid(scheduler, count))
        errors.append(rms(run.states[count], exact))
    assert math.log2(errors[0] / errors[1]) > 1.5, errors
    scheduler.set_timesteps(250)
    assert errors[0] < rms(sample(model, x, scheduler), exact), "40 of the teacher's steps against 250 of DDIM"


# -- the plan and the search -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", FIT_METHODS)
@pytest.mark.parametrize("steps", [1, 2, 7, 20])
def test_model_calls_are_those_of_the_docstring_and_progress_reaches_them(
    six_modes: Any, method: str, steps: int
) -> None:
    scheduler, grid, calls, seen = DDIMScheduler(**SD), 20, [], []
    exact = model_of(six_modes, scheduler)

    def model(x: Tensor, t: Tensor) -> Tensor:
        calls.append(int(t))
        return exact(x, t)

    plan = fit_timesteps(
        model, normal(2, 16), scheduler, steps, grid=grid, method=method, callback=lambda *a: seen.append(a)
    )
    total = grid + (0 if method == "fast" else (steps - 1) * (grid + steps + 6))
    assert seen[-1] == (total, total) and [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert len(calls) <= total and (method == "accurate" or len(calls) == total)
    assert len(plan) == steps


def test_the_same_start_gives_the_same_plan_and_nothing_is_changed(six_modes: Any) -> None:
    scheduler = DDIMScheduler(**SD)
    scheduler.set_timesteps(12)
    exact, x = model_of(six_modes, scheduler), normal(2, 16)
    before, timesteps, plan = x.clone(), scheduler.timesteps, scheduler.plan

    def model(x: Tensor, t: Tensor) -> Tensor:
        output = exact(x, t)
        x.zero_()  # a model that writes into its argument
        return output

    found = [fit_timesteps(model, x, scheduler, 5, grid=20) for _ in range(2)]
    assert found[0] == found[1] == fit_timesteps(exact, x, scheduler, 5, grid=20)
    assert torch.equal(x, before) and scheduler.timesteps is timesteps and scheduler.plan is plan


@pytest.mark.parametrize("method", FIT_METHODS)
def test_a_model_may_write_every_output_into_the_same_memory(six_modes: Any, method: str) -> None:
    scheduler, x = DDIMScheduler(**SD), normal(2, 16)
    exact, memory = model_of(six_modes, scheduler), torch.empty_like(x)
    plan = fit_timesteps(lambda x, t: memory.copy_(exact(x, t)), x, scheduler, 5, grid=20, method=method)
    assert plan == fit_timesteps(exact, x, scheduler, 5, grid=20, method=method)


def test_a_part_of_a_plan_keeps_its_ends(six_modes: Any) -> None:
    scheduler = DDIMScheduler(**SD)
    scheduler.set_timesteps(20)
    model, whole = model_of(six_modes, scheduler), scheduler.plan
    for part in (whole.part(0, 10), whole.part(5, 15), whole.last_fraction(0.5)):
        scheduler.set_plan(part)
        for method in FIT_METHODS:
            plan = fit_timesteps(model, normal(2, 16), scheduler, 4, grid=12, method=method)
            assert plan.timesteps[0] == part.timesteps[0] and plan.pairs[-1][1] == part.pairs[-1][1]
            assert [t for t, _ in plan.pairs[1:]] == [t_next for _, t_next in plan.pairs[:-1]]
    scheduler.set_plan(whole.part(19, 20))
    assert fit_timesteps(model, normal(2, 16), scheduler, 1, grid=1) == ddim.TimestepPlan(whole.part(19, 20).pairs)


def test_a_grid_of_every_level_and_all_of_them_as_steps(six_modes: Any) -> None:
    scheduler = DDIMFlowScheduler()
    scheduler.set_timesteps(12)
    model = model_of(six_modes, scheduler)
    for method in FIT_METHODS:
        plan = fit_timesteps(model, normal(2, 16), scheduler, 12, grid=12, method=method)
        assert plan == scheduler.plan


def test_guided_outputs_and_half_precision_give_nearly_the_plan_of_plain_tensors(six_modes: Any) -> None:
    scheduler = DDIMScheduler(**SD, prediction_type="v_prediction")
    exact, x = model_of(six_modes, scheduler), normal(4, 16)
    plain = fit_timesteps(exact, x, scheduler, 5, grid=20)

    def guided(x: Tensor, t: Tensor) -> Guided:
        return Guided(exact(x, t), exact(x, t), 3.0)

    assert fit_timesteps(guided, x, scheduler, 5, grid=20) == plain
    end = ends(scheduler, exact, x, plain)
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        seen = set()

        def model(x: Tensor, t: Tensor, seen: set = seen) -> Tensor:
            seen.add(x.dtype)
            return exact(x, t)

        half = fit_timesteps(model, x.to(dtype), scheduler, 5, grid=20)
        assert seen == {dtype}
        assert rms(ends(scheduler, exact, x, half), end) < 0.1


def test_the_x0_processing_of_the_scheduler_takes_part(six_modes: Any) -> None:
    for settings in ({"clip_sample": True}, {"thresholding": True}):
        scheduler = DDIMScheduler(**{**SD, **settings})
        model, x = model_of(six_modes, scheduler), normal(4, 16)
        plan = fit_timesteps(model, x, scheduler, 4, grid=15)
        assert ends(scheduler, model, x, plan).abs().max() <= 1.0 + 1e-9
        unprocessed = DDIMScheduler(**SD)
        assert plan != fit_timesteps(model, x, unprocessed, 4, grid=15)


def test_the_plan_is_taken_by_runs_inversion_and_noise_files(six_modes: Any, tmp_path: Path) -> None:
    scheduler = DDIMScheduler(**SD)
    model, x = model_of(six_modes, scheduler), normal(2, 16)
    plan = fit_timesteps(model, x, scheduler, 6, grid=20, method="fast")
    schedule = Schedule(scheduler.settings, plan)
    schedule.check()
    images = sample(model, x, schedule.scheduler())
    assert torch.equal(images, ends(scheduler, model, x, plan))
    for method in ("fixed_point", "edict", "variance_noise"):
        arguments = {"seed": 1} if method == "variance_noise" else {}
        inversion = invert(model, images, schedule.scheduler(), method=method, **arguments)
        save_noise(inversion, tmp_path / f"{method}.safetensors")
        loaded = load_noise(tmp_path / f"{method}.safetensors")
        assert loaded.schedule.plan == plan
        assert rms(reconstruct(model, loaded), images) < 0.05


def test_a_flow_plan_is_taken_by_its_scheduler_and_its_schedule(six_modes: Any) -> None:
    scheduler = flow()
    model, x = model_of(six_modes, scheduler), normal(2, 16)
    plan = fit_timesteps(model, x, scheduler, 6, grid=20, method="fast")
    schedule = Schedule(scheduler.settings, plan)
    end = ends(scheduler, model, x, plan)
    assert torch.equal(end, sample(model, x, schedule.scheduler()))
    assert rms(reconstruct(model, invert(model, end, schedule.scheduler(), method="fixed_point")), end) < 0.02


# -- what is refused --------------------------------------------------------------------------------------------------


def refuses(sentence: str, **changed: Any) -> None:
    def model(x: Tensor, t: Tensor) -> Tensor:
        raise AssertionError("the model must not be called")

    usual = {"model": model, "x": normal(2, 3), "scheduler": DDIMScheduler(**SD), "steps": 5}
    with pytest.raises(DDIMError, match=sentence):
        fit_timesteps(**{**usual, **changed})


def test_wrong_arguments_are_refused_before_the_model_is_called() -> None:
    refuses("steps must be a whole number between 1 and 60 .the grid., got 61", steps=61)
    refuses("steps must be a whole number between 1 and 60", steps=0)
    refuses("grid must be a whole number between 1 and 1000 .the levels from timestep 999", grid=1001)
    refuses("method must be one of 'accurate', 'fast', got 'fats'; did you mean 'fast'", method="fats")
    refuses("x must hold at least one image", x=normal(0, 3))
    refuses("callback must be a function", callback=3)
    refuses("scheduler must be", scheduler=3)
    refuses("model must be a function", model=3)
    short = DDIMFlowScheduler()
    short.set_timesteps(5)
    refuses("grid must be a whole number between 1 and 5 .the levels from timestep 4", scheduler=short)
    refuses("epsilon prediction says nothing", scheduler=DDIMScheduler(**SD, rescale_betas_zero_snr=True))


@pytest.mark.parametrize("method", FIT_METHODS)
@pytest.mark.parametrize("wrong", [math.nan, math.inf])
@pytest.mark.parametrize("at", [0, 3, 19])
def test_an_output_without_values_is_reported_with_its_timestep(method: str, wrong: float, at: int) -> None:
    called: list[int] = []

    def model(x: Tensor, t: Tensor) -> Tensor:
        called.append(int(t))
        return torch.full_like(x, wrong) if len(called) == at + 1 else x * 0.1

    with pytest.raises(DDIMError, match="must be finite, got NaN or infinity at timestep") as error:
        fit_timesteps(model, normal(2, 3), DDIMScheduler(**SD), 5, grid=20, method=method)
    assert str(error.value).endswith(f"at timestep {called[at]}; try float32, or another start")


def test_nan_in_the_search_itself_is_reported_with_its_timestep() -> None:
    called: list[int] = []

    def model(x: Tensor, t: Tensor) -> Tensor:
        called.append(int(t))
        return torch.full_like(x, math.nan) if len(called) == 30 else x * 0.1

    with pytest.raises(DDIMError, match="got NaN or infinity at timestep") as error:
        fit_timesteps(model, normal(2, 3), DDIMScheduler(**SD), 5, grid=20)
    assert f"at timestep {called[29]};" in str(error.value)


def test_an_exception_of_the_callback_stops_the_search() -> None:
    seen = []

    def stop(done: int, total: int) -> None:
        seen.append(done)
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_timesteps(lambda x, t: x * 0.1, normal(2, 3), DDIMScheduler(**SD), 5, callback=stop)
    assert seen == [1, 2, 3, 4, 5, 6, 7]

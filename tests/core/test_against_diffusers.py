"""Thousands of random configurations, step by step against the installed diffusers; every mismatch is printed."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ddim import BETA_SCHEDULES, DDIMError, DDIMInverseScheduler, DDIMScheduler

diffusers = pytest.importorskip("diffusers")

COUNT = 2500
SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")
RANGES = ((0.0001, 0.02), (0.00085, 0.012), (0.001, 0.05))
SHAPES = ((2, 4, 4, 4), (1, 3, 5), (2, 2, 3, 2, 2), (3, 8))
DTYPES = (torch.float32, torch.float32, torch.float64, torch.float16, torch.bfloat16)
# What a float of each dtype can tell apart; diffusers computes in the dtype of its inputs.
ROUNDING = {torch.float64: 2.4e-7, torch.float32: 2.4e-7, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}


@dataclass
class Case:
    """One configuration with the arguments of one step."""

    config: dict[str, Any]
    steps: int
    timestep: int
    arguments: dict[str, Any]
    sample: Tensor
    output: Tensor
    noise: Tensor

    def __str__(self) -> str:
        tensors = f"{self.sample.dtype} {tuple(self.sample.shape)}"
        return f"S={self.steps} t={self.timestep} {tensors} {self.arguments} {self.config}"


def random_config(rng: random.Random) -> dict[str, Any]:
    start, end = rng.choice(RANGES)
    return {
        "num_train_timesteps": rng.choice((1000, 1000, 1000, 400, 50, 7)),
        "beta_start": start,
        "beta_end": end,
        "beta_schedule": rng.choice(SCHEDULES),
        "clip_sample": rng.random() < 0.5,
        "clip_sample_range": rng.choice((1.0, 0.5, 3.0)),
        "thresholding": rng.random() < 0.25,
        "dynamic_thresholding_ratio": rng.choice((0.995, 0.9, 0.5, 1.0)),
        "sample_max_value": rng.choice((1.0, 1.5, 4.0)),
        "set_alpha_to_one": rng.random() < 0.6,
        "steps_offset": rng.choice((0, 0, 1, 2)),
        "prediction_type": rng.choice(("epsilon", "sample", "v_prediction")),
        "timestep_spacing": rng.choice(("leading", "trailing", "linspace")),
        "rescale_betas_zero_snr": rng.random() < 0.3,
    }


def random_plan(rng: random.Random) -> tuple[dict[str, Any], int]:
    config = random_config(rng)
    total = config["num_train_timesteps"]
    return config, rng.choice((rng.randint(1, total), rng.randint(1, min(60, total))))


def random_case(
    rng: random.Random, timesteps_of: Any, dtypes: tuple[torch.dtype, ...], accept: Any = lambda config, steps: True
) -> Case:
    config, steps = random_plan(rng)
    while not accept(config, steps):
        config, steps = random_plan(rng)
    timesteps = timesteps_of(config, steps)
    shape, dtype = rng.choice(SHAPES), rng.choice(dtypes)
    if config["thresholding"] and len(shape) < 3:
        shape = SHAPES[0]  # diffusers cannot threshold fewer dimensions
    draw = torch.Generator().manual_seed(rng.getrandbits(32))
    tensors = [torch.randn(shape, generator=draw, dtype=torch.float64).to(dtype) for _ in range(3)]
    eta = rng.choice((0.0, 0.0, rng.random(), 1.0))
    arguments = {"eta": eta, "use_clipped_model_output": rng.random() < 0.3}
    return Case(config, steps, int(rng.choice(timesteps)), arguments, *tensors)


def scale_of(case: Case, scheduler: DDIMScheduler) -> float:
    """How large the terms of the step are: what cancels among them is lost in rounding."""
    c = scheduler.coefficients(scheduler.step_index(case.timestep), case.arguments["eta"])
    x, m = float(case.sample.double().abs().max()), float(case.output.double().abs().max())
    x0 = abs(c.x0.x) * x + abs(c.x0.m) * m
    epsilon = abs(c.epsilon.x) * x + abs(c.epsilon.m) * m
    if case.arguments["use_clipped_model_output"]:
        epsilon = max(epsilon, abs(c.rederived.x) * x + abs(c.rederived.m) * x0)
    return 1 + x + m + x0 * max(c.alpha_next, 1e-3) + epsilon * c.direction


def distance(ours: Tensor, theirs: Tensor) -> float:
    return float((ours.double() - theirs.double()).abs().max())


def run_ours(case: Case, parity: str) -> tuple[DDIMScheduler, Any] | str:
    try:
        scheduler = DDIMScheduler(**case.config, parity=parity)
        scheduler.set_timesteps(case.steps)
        return scheduler, scheduler.step(
            case.output, case.timestep, case.sample, variance_noise=case.noise, **case.arguments
        )
    except DDIMError as error:
        return str(error)


def run_theirs(case: Case) -> Any | None:
    """diffusers' output, or None where it raises or is not finite."""
    scheduler = diffusers.DDIMScheduler(**case.config)
    scheduler.set_timesteps(case.steps)
    try:
        output = scheduler.step(
            case.output, case.timestep, case.sample, variance_noise=case.noise, **case.arguments, return_dict=True
        )
    except IndexError:
        return None
    return output if bool(output.prev_sample.isfinite().all()) else None


def diffusers_timesteps(config: dict[str, Any], steps: int) -> list[int]:
    scheduler = diffusers.DDIMScheduler(**config)
    scheduler.set_timesteps(steps)
    return [t for t in scheduler.timesteps.tolist() if t < config["num_train_timesteps"]] or [0]


def test_parity_diffusers_equals_diffusers_wherever_it_is_finite() -> None:
    """The same list, the same step to rounding; a sentence where diffusers raises or gives NaN."""
    rng = random.Random(20241122)
    mismatches, compared, refused, worst = [], 0, 0, 0.0
    for _ in range(COUNT):
        case = random_case(rng, diffusers_timesteps, DTYPES)
        theirs, ours = run_theirs(case), run_ours(case, "diffusers")
        if isinstance(ours, str):
            refused += 1
            # A plan is refused whole where any of its steps is: diffusers may still be finite at this one.
            if theirs is not None and "past the last of" not in ours and "epsilon prediction says nothing" not in ours:
                mismatches.append(f"refused, but diffusers is finite: {ours}\n   {case}")
            continue
        if theirs is None:
            mismatches.append(f"diffusers raises or gives NaN, we give numbers\n   {case}")
            continue
        compared += 1
        scheduler, output = ours
        allowed = 2 * ROUNDING[case.sample.dtype] * scale_of(case, scheduler)
        found = distance(output.prev_sample, theirs.prev_sample)
        worst = max(worst, found / allowed)
        if not found <= allowed:
            mismatches.append(f"{found:.3g} apart, {allowed:.3g} allowed\n   {case}")
    print(f"\n{compared} steps equal to rounding (worst {worst:.2f} of the allowance), {refused} refused")
    assert not mismatches, f"{len(mismatches)} mismatches:\n" + "\n".join(mismatches[:10])
    assert compared > 0.75 * COUNT and refused > 10


def test_parity_diffusers_has_diffusers_timestep_lists_for_every_count() -> None:
    mismatches = []
    for spacing in ("leading", "trailing", "linspace"):
        for offset in (0, 1):
            theirs = diffusers.DDIMScheduler(timestep_spacing=spacing, steps_offset=offset)
            ours = DDIMScheduler(timestep_spacing=spacing, steps_offset=offset, parity="diffusers")
            for steps in range(1, 1001):
                theirs.set_timesteps(steps)
                try:
                    ours.set_timesteps(steps)
                except DDIMError:
                    assert int(theirs.timesteps[0]) >= 1000  # diffusers raises IndexError at its first step
                    continue
                if ours.timesteps.tolist() != theirs.timesteps.tolist():
                    mismatches.append((spacing, offset, steps))
    assert not mismatches


def same_meaning(config: dict[str, Any], steps: int) -> bool:
    """Whether diffusers' list and its rule t - T // S name the same pairs as ours, end included."""
    total, spacing, offset = config["num_train_timesteps"], config["timestep_spacing"], config["steps_offset"]
    if spacing == "leading":
        return offset < total // steps  # else its last step does not reach the end
    return spacing == "trailing" and total % steps == 0


def test_parity_exact_equals_diffusers_where_both_mean_the_same() -> None:
    rng = random.Random(7)
    mismatches, compared = [], 0
    while compared < COUNT // 2:
        case = random_case(rng, diffusers_timesteps, (torch.float32,), same_meaning)
        theirs, ours = run_theirs(case), run_ours(case, "exact")
        if theirs is None:
            continue  # what ours does there: test_truth.py
        if isinstance(ours, str):
            assert "epsilon prediction says nothing" in ours, ours
            continue
        compared += 1
        scheduler, output = ours
        # diffusers' float32 tables are off by up to 2e-4 in 1 - alpha_bar[0], and by more next to zero SNR.
        loose = 3e-3 if case.config["rescale_betas_zero_snr"] else 2e-4
        found = distance(output.prev_sample, theirs.prev_sample) / scale_of(case, scheduler)
        if not found <= loose:
            mismatches.append(f"{found:.3g} apart (relative)\n   {case}")
    assert not mismatches, f"{len(mismatches)} mismatches:\n" + "\n".join(mismatches[:10])


def reference_betas(name: str, start: float, end: float, count: int) -> np.ndarray:
    if name == "linear":
        return np.linspace(start, end, count)
    if name == "scaled_linear":
        return np.linspace(math.sqrt(start), math.sqrt(end), count) ** 2
    cosine = np.cos((np.arange(count + 1) / count + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.minimum(1 - cosine[1:] / cosine[:-1], 0.999)


def reference_step(case: Case, pairs: dict[int, int]) -> tuple[Tensor, Tensor]:
    """Equations (9), (12) and (16) of 2010.02502 written out once more, in float64."""
    config, total = case.config, case.config["num_train_timesteps"]
    betas = reference_betas(config["beta_schedule"], config["beta_start"], config["beta_end"], total)
    levels = np.cumprod(1 - betas)
    if config["rescale_betas_zero_snr"]:
        roots = np.sqrt(levels)
        levels = ((roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])) ** 2
    final = 1.0 if config["set_alpha_to_one"] else levels[0]
    a = levels[case.timestep]
    b = final if pairs[case.timestep] < 0 else levels[pairs[case.timestep]]
    x, m = case.sample.double(), case.output.double()
    if config["prediction_type"] == "epsilon":
        x0, epsilon = (x - math.sqrt(1 - a) * m) / math.sqrt(a), m
    elif config["prediction_type"] == "sample":
        x0, epsilon = m, (x - math.sqrt(a) * m) / math.sqrt(1 - a)
    else:
        x0 = math.sqrt(a) * x - math.sqrt(1 - a) * m
        epsilon = math.sqrt(a) * m + math.sqrt(1 - a) * x
    if config["thresholding"]:
        rows = x0.flatten(1)
        s = torch.quantile(rows.abs(), config["dynamic_thresholding_ratio"], dim=1, keepdim=True)
        s = s.clamp(1, config["sample_max_value"])
        x0 = (rows.clamp(-s, s) / s).reshape(x0.shape)
    elif config["clip_sample"]:
        x0 = x0.clamp(-config["clip_sample_range"], config["clip_sample_range"])
    if case.arguments["use_clipped_model_output"]:
        epsilon = (x - math.sqrt(a) * x0) / math.sqrt(1 - a)
    variance = case.arguments["eta"] ** 2 * (1 - b) / (1 - a) * (1 - a / b)
    direction = math.sqrt(max(1 - b - variance, 0.0))
    return math.sqrt(b) * x0 + direction * epsilon + math.sqrt(max(variance, 0.0)) * case.noise.double(), x0


def exact_timesteps(config: dict[str, Any], steps: int) -> list[int]:
    scheduler = DDIMScheduler(**{**config, "prediction_type": "v_prediction"})
    scheduler.set_timesteps(steps)
    return scheduler.timesteps.tolist()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_parity_exact_equals_the_papers_equations_in_float64(dtype: torch.dtype) -> None:
    rng = random.Random(str(dtype))
    mismatches, compared = [], 0
    for _ in range(COUNT // 4):
        case = random_case(rng, exact_timesteps, (dtype,))
        ours = run_ours(case, "exact")
        if isinstance(ours, str):
            assert "epsilon prediction says nothing" in ours, ours
            continue
        compared += 1
        scheduler, output = ours
        scheduler_pairs = dict(scheduler.plan.pairs)
        expected, x0 = reference_step(case, scheduler_pairs)
        scale = scale_of(case, scheduler)
        # The state is float32 also for half precision; only the result is rounded to the input's dtype.
        last = {torch.float64: 1e-13, torch.float32: 3e-7, torch.float16: 5e-4, torch.bfloat16: 4e-3}[dtype]
        working = 1e-12 if dtype == torch.float64 else 2e-6
        allowed = working * scale + last * float(expected.abs().max())
        found = distance(output.prev_sample, expected)
        if not found <= allowed:
            mismatches.append(f"{found:.3g} apart, {allowed:.3g} allowed\n   {case}")
    assert not mismatches, f"{len(mismatches)} mismatches:\n" + "\n".join(mismatches[:10])
    assert compared > COUNT // 5


def test_the_generators_noise_is_diffusers_noise() -> None:
    for dtype in (torch.float32, torch.float64, torch.float16):
        x, m = torch.linspace(-2, 2, 192).to(dtype).reshape(2, 2, 3, 4, 4)
        theirs = diffusers.DDIMScheduler(clip_sample=False)
        ours = DDIMScheduler(clip_sample=False, parity="diffusers")
        for scheduler in (theirs, ours):
            scheduler.set_timesteps(10)
        for make in (
            lambda: torch.Generator().manual_seed(5),
            lambda: [torch.Generator().manual_seed(i) for i in (1, 2)],
        ):
            expected = theirs.step(m, 500, x, eta=1.0, generator=make()).prev_sample
            found = ours.step(m, 500, x, eta=1.0, generator=make()).prev_sample
            assert distance(found, expected) < (1e-5 if dtype != torch.float16 else 2e-2)


def test_eta_above_one_is_diffusers_where_that_is_finite_and_a_sentence_where_not() -> None:
    theirs = diffusers.DDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False
    )
    ours = DDIMScheduler.from_config(theirs.config, parity="diffusers")
    x, m, z = (torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(i)) for i in range(3))
    outcomes = {"equal": 0, "refused": 0}
    for scheduler in (theirs, ours):
        scheduler.set_timesteps(20)
    for eta in (1.05, 1.5, 2.0):
        for t in theirs.timesteps.tolist():
            expected = theirs.step(m, t, x, eta=eta, variance_noise=z).prev_sample
            if expected.isfinite().all():
                found = ours.step(m, t, x, eta=eta, variance_noise=z).prev_sample
                assert distance(found, expected) < 1e-4
                outcomes["equal"] += 1
            else:
                with pytest.raises(DDIMError, match="diffusers gives NaN"):
                    ours.step(m, t, x, eta=eta, variance_noise=z)
                outcomes["refused"] += 1
    assert outcomes["equal"] > 20 and outcomes["refused"] > 20  # both kinds are there


def test_the_inverse_scheduler_equals_diffusers_inverse() -> None:
    rng = random.Random(99)
    mismatches, compared = [], 0
    while compared < COUNT // 5:
        config = random_config(rng) | {"thresholding": False, "timestep_spacing": rng.choice(("leading", "trailing"))}
        keys = ("thresholding", "dynamic_thresholding_ratio", "sample_max_value")
        config = {key: value for key, value in config.items() if key not in keys}
        total = config["num_train_timesteps"]
        steps = rng.randint(1, total)
        theirs, ours = diffusers.DDIMInverseScheduler(**config), DDIMInverseScheduler(**config, parity="diffusers")
        theirs.set_timesteps(steps)
        draw = torch.Generator().manual_seed(rng.getrandbits(32))
        x, m = (torch.randn(2, 3, 4, generator=draw) for _ in range(2))
        t = int(rng.choice([t for t in theirs.timesteps.tolist() if t < total]))
        expected = theirs.step(m, t, x)
        try:
            ours.set_timesteps(steps)
            found = ours.step(m, t, x)
        except DDIMError as error:
            reasons = ("past the last of", "divides by zero")
            if expected.prev_sample.isfinite().all() and not any(reason in str(error) for reason in reasons):
                mismatches.append(f"refused: {error} {config}")
            continue
        assert ours.timesteps.tolist() == theirs.timesteps.tolist()
        compared += 1
        c = ours.coefficients(ours.step_index(t))
        scale = 1 + 5 * (abs(c.x0.x) + abs(c.x0.m) + (abs(c.epsilon.x) + abs(c.epsilon.m)) * c.direction)
        if not distance(found.prev_sample, expected.prev_sample) <= 2e-6 * scale:
            mismatches.append(f"S={steps} t={t} {distance(found.prev_sample, expected.prev_sample):.3g} {config}")
    assert not mismatches, f"{len(mismatches)} mismatches:\n" + "\n".join(mismatches[:10])


def test_a_step_for_many_timesteps_equals_diffusers_parallel_scheduler() -> None:
    rng = random.Random(3)
    for _ in range(100):
        config = random_config(rng) | {"rescale_betas_zero_snr": False}
        steps = rng.randint(1, config["num_train_timesteps"])
        theirs = diffusers.DDIMParallelScheduler(**config)
        ours = DDIMScheduler(**config, parity="diffusers")
        theirs.set_timesteps(steps)
        try:
            ours.set_timesteps(steps)
        except DDIMError:
            continue
        draw = torch.Generator().manual_seed(rng.getrandbits(32))
        x, m = (torch.randn(5, 3, 4, 4, generator=draw) for _ in range(2))
        t = torch.randint(0, config["num_train_timesteps"], (5,), generator=draw)
        expected = theirs.batch_step_no_noise(m, t, x)
        found = ours.batch_step_no_noise(m, t, x)
        scale = 1 + float(expected.abs().max()) + 6 / float(ours.alphas_cumprod[t].min()) ** 0.5
        assert distance(found, expected) <= 3e-5 * scale, (config, steps, t)


def test_the_noise_tables_are_diffusers_to_the_bit_with_parity_and_close_to_it_without() -> None:
    for schedule in SCHEDULES:
        for rescale in (False, True):
            config = {"beta_schedule": schedule, "rescale_betas_zero_snr": rescale}
            theirs = diffusers.DDIMScheduler(**config)
            same, exact = DDIMScheduler(**config, parity="diffusers"), DDIMScheduler(**config)
            assert torch.equal(same.alphas_cumprod, theirs.alphas_cumprod), config
            assert torch.equal(same.betas, theirs.betas), config
            assert torch.allclose(exact.alphas_cumprod, theirs.alphas_cumprod, rtol=2e-3, atol=1e-7)
    assert set(SCHEDULES) < set(BETA_SCHEDULES)

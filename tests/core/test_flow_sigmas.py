"""The sigmas of flow runs against diffusers' ``FlowMatchEulerDiscreteScheduler``, and what is refused instead."""

from __future__ import annotations

import logging
import math
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ddim.errors import DDIMError
from ddim.schedule.flow_settings import FLOW_SETTINGS, FlowConfig
from ddim.schedule.flow_sigmas import flow_sigmas, shifted, trained_sigmas

diffusers = pytest.importorskip("diffusers")

TO_ROUNDING = 2e-6  # diffusers computes in float32, and the shift amplifies its rounding

SPACINGS = ({}, {"use_karras_sigmas": True}, {"use_exponential_sigmas": True}, {"use_beta_sigmas": True})


def theirs(config: FlowConfig, **arguments) -> tuple[torch.Tensor, torch.Tensor]:
    """diffusers' sigmas without the terminal one, as levels of noise, and its timesteps."""
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(**{name: config[name] for name in FLOW_SETTINGS[:-1]})
    logging.disable(logging.WARNING)  # it logs one about timesteps without sigmas, and the next run another
    scheduler.set_timesteps(**arguments)
    logging.disable(logging.NOTSET)
    sigmas = scheduler.sigmas[:-1].double()
    return 1 - sigmas if config.invert_sigmas else sigmas, scheduler.timesteps.double()


def rounding_of(config: FlowConfig, **arguments) -> float:
    """How far float32 may be off: a stretch divides by 1 - sigma, and a spacing by the sigma that it ends at."""
    if not config.shift_terminal:
        return TO_ROUNDING
    plain = replace(config, shift_terminal=None, **{name: False for spacing in SPACINGS for name in spacing})
    stretched = 5e-7 / (1 - float(flow_sigmas(plain, **arguments).sigmas[-1]))
    return TO_ROUNDING + stretched + 5e-7 / config.shift_terminal


def assert_same(config: FlowConfig, **arguments) -> None:
    ours = flow_sigmas(config, **arguments)
    sigmas, times = theirs(config, **arguments)
    assert ours.sigmas.dtype == ours.times.dtype == torch.float64
    rounding = rounding_of(config, **arguments)
    torch.testing.assert_close(ours.sigmas, sigmas, rtol=0, atol=rounding)
    torch.testing.assert_close(ours.times, times, rtol=0, atol=rounding * config.num_train_timesteps)


def test_settings_are_those_of_diffusers() -> None:
    default = diffusers.FlowMatchEulerDiscreteScheduler().config
    names = [name for name in default if not name.startswith("_")]
    assert [*names, "eta"] == list(FlowConfig())
    assert {name: default[name] for name in names} == {name: FlowConfig()[name] for name in names}


# The settings that published models use: Flux, SD3, Qwen-Image, LTX, Wan, and each spacing.
PUBLISHED = (
    FlowConfig(),
    FlowConfig(shift=3.0),
    FlowConfig(shift=3.0, use_dynamic_shifting=True),
    FlowConfig(use_dynamic_shifting=True, shift_terminal=0.02, max_image_seq_len=8192, max_shift=0.9),
    FlowConfig(
        use_dynamic_shifting=True, shift_terminal=0.1, base_shift=0.95, max_shift=2.05, time_shift_type="linear"
    ),
    FlowConfig(shift=5.0, use_karras_sigmas=True),
    FlowConfig(shift=1.5, use_exponential_sigmas=True),
    FlowConfig(shift=0.7, use_beta_sigmas=True),
    FlowConfig(invert_sigmas=True),
)


@pytest.mark.parametrize("config", PUBLISHED, ids=range(len(PUBLISHED)))
def test_every_number_of_steps(config: FlowConfig) -> None:
    mu = {"mu": 0.8} if config.use_dynamic_shifting else {}
    for steps in (*range(1 if not config.shift_terminal else 2, 101), *range(107, 1001, 31), 1000):
        assert_same(config, num_inference_steps=steps, **mu)


@st.composite
def configs(draw: st.DrawFn) -> FlowConfig:
    return FlowConfig(
        num_train_timesteps=draw(st.sampled_from((1000, 100, 17))),
        shift=draw(st.floats(0.2, 12.0)),
        use_dynamic_shifting=draw(st.booleans()),
        time_shift_type=draw(st.sampled_from(("exponential", "linear"))),
        invert_sigmas=draw(st.booleans()),
        shift_terminal=draw(st.none() | st.floats(0.001, 0.5)),
        **draw(st.sampled_from(SPACINGS)),
    )


@st.composite
def falling(draw: st.DrawFn) -> list[float]:
    """Custom levels that are a thousandth or more apart."""
    return [i / 1000 for i in sorted(draw(st.sets(st.integers(1, 1000), min_size=1, max_size=60)), reverse=True)]


@settings(deadline=None, max_examples=200)
@given(config=configs(), mu=st.floats(0.2, 3.0), steps=st.integers(2, 60), custom=falling(), data=st.data())
def test_any_combination_of_settings_and_arguments(
    config: FlowConfig, mu: float, steps: int, custom: list[float], data: st.DataObject
) -> None:
    times = [level * config.num_train_timesteps for level in custom]
    choices = (
        {"num_inference_steps": steps}, {"sigmas": custom}, {"timesteps": times},
        {"sigmas": custom, "timesteps": times, "num_inference_steps": len(custom)},
    )  # fmt: skip
    arguments = {**data.draw(st.sampled_from(choices)), **({"mu": mu} if config.use_dynamic_shifting else {})}
    try:
        assert_same(config, **arguments)
    except DDIMError:
        with np.errstate(all="ignore"):
            sigmas, _ = theirs(config, **arguments)
        only_noise = (
            config.shift_terminal is not None and len(sigmas) == 1
        )  # stretched by what rounding leaves of 1 - 1
        assert only_noise or not (sigmas.diff() < -3e-7).all() or sigmas.isnan().any()


@pytest.mark.parametrize("given_as", [list, tuple, np.array, lambda x: np.array(x, np.float32), torch.tensor])
def test_custom_levels_in_every_form(given_as) -> None:
    levels = [1.0, 0.75, 0.25]
    assert flow_sigmas(FlowConfig(), sigmas=given_as(levels)).sigmas.tolist() == levels
    times = flow_sigmas(FlowConfig(shift=3.0), timesteps=given_as([900.0, 500.0]))
    assert times.times.tolist() == [900.0, 500.0]
    assert times.sigmas.tolist() == pytest.approx([2.7 / 2.8, 0.75])


def test_mu_without_dynamic_shifting_has_no_effect() -> None:
    """Flux pipelines pass it to every scheduler."""
    assert flow_sigmas(FlowConfig(), 7, mu=1.2).sigmas.equal(flow_sigmas(FlowConfig(), 7).sigmas)


def test_shift_argument_is_what_set_shift_does_in_diffusers() -> None:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_shift(5.0)
    scheduler.set_timesteps(10)
    ours = flow_sigmas(FlowConfig(shift=3.0), 10, shift=5.0)
    torch.testing.assert_close(ours.sigmas, scheduler.sigmas[:-1].double(), rtol=0, atol=TO_ROUNDING)


@pytest.mark.parametrize("dynamic", [False, True])
def test_trained_levels(dynamic: bool) -> None:
    config = {"shift": 3.0, "num_train_timesteps": 500, "use_dynamic_shifting": dynamic}
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(**config)
    table = trained_sigmas(FlowConfig(**config))
    torch.testing.assert_close(table, scheduler.sigmas.double(), rtol=0, atol=TO_ROUNDING)


@given(sigma=st.floats(0, 1), shift=st.floats(1e-6, 1e6))
def test_a_shift_stays_in_range_and_can_be_undone(sigma: float, shift: float) -> None:
    there = shifted(torch.tensor([sigma], dtype=torch.float64), shift)
    assert 0 <= float(there) <= 1
    assert float(shifted(there, 1 / shift)) == pytest.approx(sigma, abs=1e-9)


REFUSED = {
    "no count": ({}, {}, "got none of them"),
    "count 0": ({}, {"num_inference_steps": 0}, "num_inference_steps must be a whole number between 1"),
    "huge count": ({}, {"num_inference_steps": 10**9}, "num_inference_steps must be"),
    "no mu": ({"use_dynamic_shifting": True}, {"num_inference_steps": 5}, "needs mu"),
    "mu too large": ({"use_dynamic_shifting": True}, {"num_inference_steps": 5, "mu": 1e4}, "mu must be"),
    "mu is NaN": ({"use_dynamic_shifting": True}, {"num_inference_steps": 5, "mu": math.nan}, "mu must be"),
    "linear mu": (
        {"use_dynamic_shifting": True, "time_shift_type": "linear"}, {"num_inference_steps": 5, "mu": -1.0}, "linear",
    ),
    "lengths": ({}, {"sigmas": [1.0, 0.5], "timesteps": [900.0]}, "sigmas: 2, timesteps: 1"),
    "length and count": ({}, {"sigmas": [1.0, 0.5], "num_inference_steps": 3}, "num_inference_steps: 3"),
    "the end": ({}, {"sigmas": [1.0, 0.5, 0.0]}, "leave the last 0 out"),
    "negative": ({}, {"sigmas": [1.0, -0.5]}, "above 0"),
    "above 1": ({}, {"sigmas": [1.5, 0.5]}, "at most 1"),
    "NaN": ({}, {"sigmas": [1.0, math.nan]}, "above 0"),
    "rising": ({}, {"sigmas": [0.5, 1.0]}, "fall strictly"),
    "twice": ({}, {"timesteps": [900.0, 900.0]}, "fall strictly"),
    "above T": ({}, {"timesteps": [1001.0]}, "at most 1000"),
    "text": ({}, {"sigmas": "abc"}, "must be numbers"),
    "nested": ({}, {"sigmas": [[1.0]]}, "flat list"),
    "empty": ({}, {"sigmas": []}, "flat list"),
    "stretch of one step": ({"shift_terminal": 0.1}, {"num_inference_steps": 1}, "needs a last sigma below 1"),
    "too close": ({"shift": 1e6}, {"num_inference_steps": 100}, "in float32"),
    "one level, two steps": ({"num_train_timesteps": 1}, {"num_inference_steps": 2}, "in float32"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_arguments_that_are_refused(name: str) -> None:
    config, arguments, message = REFUSED[name]
    with pytest.raises(DDIMError, match=message):
        flow_sigmas(FlowConfig(**config), **arguments)


def test_beta_spacing_without_scipy_is_refused_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.special", None)
    with pytest.raises(DDIMError, match="pip install scipy"):
        flow_sigmas(FlowConfig(use_beta_sigmas=True), 5)


INVALID = {
    "num_train_timesteps": (0, -5, 10**12, 1.5, True, "1000", None, math.nan),
    "shift": (0, -1.0, math.inf, math.nan, 1e9, "3", None, True, [1.0]),
    "use_dynamic_shifting": (1, "true", None),
    "base_shift": (math.nan, math.inf, "0.5", True),
    "max_shift": (math.nan, "1.15", {}),
    "base_image_seq_len": (0, 2.5, None, "256"),
    "max_image_seq_len": (10**12, [4096]),
    "invert_sigmas": (None, 0),
    "shift_terminal": (-0.1, 1.0, 2, math.nan, "0.1"),
    "use_karras_sigmas": ("yes", 1),
    "use_exponential_sigmas": (None,),
    "use_beta_sigmas": (2,),
    "time_shift_type": ("exp", "", None, ["linear"]),
    "stochastic_sampling": (True, None),
    "eta": (-0.1, 1.1, math.nan, "sigma", None, True),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in INVALID.items() for value in values])
def test_invalid_settings_are_refused_by_name(name: str, value) -> None:
    with pytest.raises(DDIMError, match=name):
        FlowConfig(**{name: value})


def test_every_setting_has_invalid_values() -> None:
    assert set(INVALID) == set(FLOW_SETTINGS)


def test_two_spacings_are_refused() -> None:
    with pytest.raises(DDIMError, match="only one of"):
        FlowConfig(use_karras_sigmas=True, use_beta_sigmas=True)


def test_numbers_of_a_file_stay_as_they_were_written() -> None:
    config = FlowConfig(shift=3, shift_terminal=None, base_shift=None)
    assert type(config.shift) is int and config.base_shift is None
    assert type(FlowConfig(shift=np.float32(3)).shift) is float
    assert hash(config) == hash(FlowConfig(shift=3.0, base_shift=None))

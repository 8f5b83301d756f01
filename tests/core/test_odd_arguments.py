"""Tensors of every odd kind, and things that are no tensors, at every public function: right, or a DDIMError.

Right means: what the same values give as a plain contiguous tensor, in shape, dtype, device and number.
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import ddim
from ddim import DDIMError

# -- odd values ---------------------------------------------------------------------------------------------------

# From a plain tensor, another one: of the same values where that is possible.
ODD_TENSORS: dict[str, Callable[[Tensor], Any]] = {
    **{
        f"as {dtype}": lambda x, dtype=dtype: x.to(dtype)
        for name in (
            "float64", "float16", "bfloat16", "int64", "int8", "uint8", "uint16", "bool", "float8_e4m3fn",
            "float8_e5m2", "float8_e8m0fnu",
        )
        if (dtype := getattr(torch, name, None)) is not None  # the newest come with newer torches
    },
    "complex": lambda x: x + 1j * x,
    "complex without an imaginary part": lambda x: x.to(torch.complex64),
    "quantised": lambda x: torch.quantize_per_tensor(x.float(), 0.1, 0, torch.qint8),
    "on meta": lambda x: x.to("meta"),
    "sparse": lambda x: x.to_sparse(),
    "sparse by rows": lambda x: x.reshape(1, -1).to_sparse_csr(),
    "mkldnn": lambda x: x.float().to_mkldnn(),
    "nested": lambda x: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "expanded": lambda x: x[:1].expand(x.shape),
    "transposed": lambda x: x.movedim(-1, 0).contiguous().movedim(0, -1),
    "every second element": lambda x: torch.stack([x, x + 1], -1)[..., 0],
    "overlapping": lambda x: x.flatten().repeat(2).as_strided(x.shape, (1,) * x.ndim),
    "negated lazily": lambda x: torch._neg_view(x),
    "with a gradient": lambda x: x.detach().clone().requires_grad_(),
    "a parameter": lambda x: torch.nn.Parameter(x.detach().clone()),
    "recorded noise": lambda x: x.as_subclass(ddim.VarianceNoise),
    "made in inference mode": lambda x: _made_in_inference_mode(x),
    "empty batch": lambda x: x[:0],
    "empty images": lambda x: x[..., :0],
    "without dimensions": lambda x: x.flatten()[0],
    "of one dimension": lambda x: x.flatten(),
    "of five dimensions": lambda x: x.reshape(*x.shape, *[1] * (5 - x.ndim)),
    "larger": lambda x: torch.cat([x, x], -1),
    "NaN": lambda x: torch.full_like(x, math.nan),
    "infinity": lambda x: torch.full_like(x, math.inf),
    "zeros": lambda x: torch.zeros_like(x),
    "minus one": lambda x: torch.full_like(x, -1),
}  # fmt: skip

ONLY_FLOATS = ("with a gradient", "a parameter", "NaN", "infinity")

# Things that are no tensors.
OTHERS: dict[str, Any] = {
    "None": None,
    "a string": "cpu:x",
    "bytes": b"x",
    "zero": 0,
    "minus two": -2,
    "a fraction": Fraction(10**400, 3),
    "a huge integer": 10**400,
    "a huge float": 1e308,
    "not a number": math.nan,
    "an infinity": -math.inf,
    "a complex number": 1j,
    "true": True,
    "numpy": np.ones((2, 3, 4), np.float32),
    "a numpy scalar": np.float32(0.5),
    "numpy without dimensions": np.array(1.0),
    "numpy of strings": np.array(["a"]),
    "a list": [1.0, 2.0],
    "an empty list": [],
    "a list of None": [None, None],
    "a list of lists": [[1, 2], [3]],
    "a dict": {"a": 1},
    "a set": {1, 2},
    "an object": object(),
    "a dtype": torch.int8,
    "a device": torch.device("meta"),
    "a generator": torch.Generator(),
}


def _made_in_inference_mode(x: Tensor) -> Tensor:
    with torch.inference_mode():
        return x.detach().clone()


# The kinds of tensors that are tried where no tensor is usual.
INSTEAD_OF_OTHERS = (
    "as torch.float64", "as torch.int64", "as torch.bool", "complex", "quantised", "on meta", "sparse", "nested",
    "without dimensions", "of one dimension", "with a gradient", "empty batch", "NaN",
)  # fmt: skip


def kinds_for(usual: Any) -> list[str]:
    return [*(ODD_TENSORS if isinstance(usual, Tensor) else INSTEAD_OF_OTHERS), *OTHERS]


def odd(kind: str, plain: Any) -> Any:
    """A value of a kind, made from the plain one; tensors also where a number or another thing is expected."""
    if kind in OTHERS:
        return OTHERS[kind]
    base = plain if isinstance(plain, Tensor) and not isinstance(plain, ddim.VarianceNoise) else torch.ones(2, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns that some of these kinds are new, others that they are old
        base = base.float() if kind in ONLY_FLOATS else base
        return ODD_TENSORS[kind](base.reshape(1) if base.ndim == 0 else base)


def plain_copy(value: Any, usual: Any) -> Any:
    """The same values as a contiguous tensor, or as a number where one is usual."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
        value = torch.from_numpy(value)
    if not isinstance(value, Tensor):
        return value
    if (value.is_meta or value.is_nested or value.is_complex()) and not isinstance(usual, Tensor):
        return value  # accepted, because it is ignored
    assert not value.is_meta and not value.is_nested, "a tensor without values was accepted"
    value = value.detach().resolve_neg()
    assert not (value.is_complex() and value.imag.any()), "complex numbers were accepted"
    value = value.real if value.is_complex() else value
    value = value.dequantize() if value.is_quantized else value if value.layout is torch.strided else value.to_dense()
    if not isinstance(usual, Tensor):
        listed = value.tolist()
        return int(listed) if isinstance(usual, int) and isinstance(listed, float) and listed.is_integer() else listed
    if not usual.is_floating_point():
        value = value.long()
    elif value.dtype not in FLOATS:
        value = value.double()
    return value.clone(memory_format=torch.contiguous_format)


FLOATS = {torch.float16, torch.bfloat16, torch.float32, torch.float64}

# -- calls --------------------------------------------------------------------------------------------------------


def image(seed: int = 0, shape: tuple[int, ...] = (2, 3, 4)) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


LEVELS = torch.linspace(0.99, 0.1, 10)
PLANNED: dict[str, Any] = {"num_train_timesteps": 10, "beta_end": 0.5}


def scheduler(cls: type = ddim.DDIMScheduler, **settings: Any) -> Any:
    made = cls(**PLANNED, **settings)
    made.set_timesteps(5)
    return made


def model(x: Tensor, t: Tensor) -> Tensor:
    return torch.tanh(x)


def inversion(method: str) -> ddim.Inversion:
    return ddim.invert(model, image(), scheduler(), method=method, seed=3)


def call_method(name: str, cls: type = ddim.DDIMScheduler, **settings: Any) -> Callable[..., Any]:
    return lambda **arguments: getattr(scheduler(cls, **settings), name)(**arguments)


def flow_scheduler() -> ddim.DDIMFlowScheduler:
    made = ddim.DDIMFlowScheduler(num_train_timesteps=10, eta=0.5)
    made.set_timesteps(5)
    return made


def call_flow(name: str) -> Callable[..., Any]:
    return lambda **arguments: getattr(flow_scheduler(), name)(**arguments)


def set_up_flow_and_look(name: str) -> Callable[..., Any]:
    def call(**arguments: Any) -> Any:
        changed = flow_scheduler()
        getattr(changed, name)(**arguments)
        return changed.timesteps, changed.sigmas, changed.shift, changed.begin_index

    return call


def set_up_and_look(name: str, cls: type = ddim.DDIMScheduler) -> Callable[..., Any]:
    def call(**arguments: Any) -> Any:
        changed = scheduler(cls)
        getattr(changed, name)(**arguments)
        return changed.timesteps, changed.plan.pairs

    return call


def sample_from_model_output(**arguments: Any) -> Any:
    return ddim.sample(lambda x, t: arguments["output"], image(), scheduler())


STEP = {"model_output": image(1), "timestep": 4, "sample": image(2), "eta": 0.5, "variance_noise": image(3)}
KEYED_STEP = {"model_output": image(1), "timestep": torch.tensor(4), "sample": image(2), "eta": 1.0}
BATCHED_STEP = {**STEP, "timestep": torch.tensor([4, 2])}
FLOW_TIMES = flow_scheduler().timesteps
FLOW_STEP = {"model_output": image(1), "timestep": FLOW_TIMES[2], "sample": image(2), "eta": 0.5}
FLOW_NOISY = {"noise": image(1), "timesteps": FLOW_TIMES[[1, 3]]}
NOISY = {"noise": image(1), "timesteps": torch.tensor([1, 9])}
RUN = {"model": model, "x": image(), "scheduler": scheduler(), "eta": 0.5, "seed": 3, "image_indices": [4, 5]}
RECORDED = {**RUN, "seed": None, "image_indices": None, "variance_noise": image(5, (5, 2, 3, 4))}
DRAWN = {**RUN, "seed": None, "image_indices": None, "generator": None}
LEVELS_OF_BETAS = ddim.make_noise_schedule(10, 0.01, 0.5)
SCHEDULE = ddim.make_schedule(5, ddim.SchedulerConfig(**PLANNED))
PREDICT = {"model_output": image(1), "x_t": image(2), "alpha_bar": 0.5, "prediction_type": "v_prediction"}
NUMBERS = {"num_train_timesteps": 10, "beta_start": 0.01, "beta_end": 0.5, "beta_schedule": "linear"}
SETTINGS = dict(ddim.SchedulerConfig(**PLANNED))
INVERT = {"model": model, "x0": image(), "scheduler": scheduler(), "seed": 3, "refinements": 1}

OF_SIGMAS = dict(ddim.SigmaConfig("flow", tuple(i / 10 for i in range(1, 11))))
LEVELS_OF_SIGMAS = ddim.SigmaConfig(**OF_SIGMAS).noise_schedule
INVERSION = inversion("variance_noise")

# For each public function: what to call, and usual arguments; each of them is replaced by each odd value.
CALLS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "betas_from_alpha_bar": (ddim.betas_from_alpha_bar, {"alpha_bar": LEVELS}),
    "rescale_zero_terminal_snr": (ddim.rescale_zero_terminal_snr, {"alpha_bar": LEVELS}),
    "make_noise_schedule": (lambda **a: ddim.make_noise_schedule(**a).alpha_bar, {**NUMBERS, "parity": "exact"}),
    "make_noise_schedule, betas": (
        lambda **a: ddim.make_noise_schedule(**a).alpha_bar,
        {"trained_betas": 1 - LEVELS.double()},
    ),
    "SchedulerConfig": (lambda **a: [*ddim.SchedulerConfig(**a).values()], SETTINGS),
    "SchedulerConfig, betas": (
        lambda **a: [*ddim.SchedulerConfig(**a).values()],
        {"trained_betas": 1 - LEVELS.double()},
    ),
    "DDIMScheduler": (lambda **a: ddim.DDIMScheduler(**a).alphas_cumprod, SETTINGS),
    "DDIMInverseScheduler": (lambda **a: ddim.DDIMInverseScheduler(**a).alphas_cumprod, SETTINGS),
    "make_plan": (
        ddim.make_plan,
        {
            "num_steps": 5, "num_train_timesteps": 10, "spacing": "leading", "steps_offset": 1, "parity": "exact",
        },
    ),
    "plan_from_timesteps": (ddim.plan_from_timesteps, {"timesteps": torch.tensor([5, 1]), "num_train_timesteps": 10}),
    "make_schedule": (ddim.make_schedule, {"num_inference_steps": 5, "config": ddim.SchedulerConfig(**PLANNED)}),
    "make_schedule, timesteps": (ddim.make_schedule, {"num_inference_steps": 2, "timesteps": [5, 1]}),
    "import_config": (ddim.import_config, {"config": {"beta_end": 0.5}, "overrides": {"beta_start": 0.1}}),
    **{
        f"import_config, {key}": (lambda key=key, **a: ddim.import_config({key: a["value"]}).config, {"value": value})
        for key, value in {
            "prediction_type": "epsilon", "_use_default_values": ["beta_end"], "snr_shift_scale": 3.0,
            "trained_betas": [0.1, 0.2], "num_train_timesteps": 10, "_class_name": "A", "use_flow_sigmas": False,
        }.items()
    },
    "predict_x0": (ddim.predict_x0, PREDICT),
    "predict_epsilon": (ddim.predict_epsilon, PREDICT),
    "output_from_x0": (
        ddim.output_from_x0,
        {"x0": image(1), "x_t": image(2), "alpha_bar": 0.5, "prediction_type": "epsilon"},
    ),
    "guide": (
        ddim.guide,
        {"pred_uncond": image(1), "pred_text": image(2), "guidance_scale": 2.0, "guidance_rescale": 0.5},
    ),
    "guide, scales": (
        ddim.guide,
        {"pred_uncond": image(1), "pred_text": image(2), "guidance_scale": torch.tensor([2.0, 3.0])[:, None, None]},
    ),
    "rescale_noise_cfg": (
        ddim.rescale_noise_cfg,
        {"noise_cfg": image(1), "noise_pred_text": image(2), "guidance_rescale": 0.5},
    ),
    "Guided": (
        lambda **a: ddim.Guided(**a).tensor(),
        {"uncond": image(1), "text": image(2), "scale": 2.0, "rescale": 0.5},
    ),
    "guide_plus_plus": (
        ddim.guide_plus_plus,
        {"pred_uncond": image(1), "pred_text": image(2), "guidance_scale": 0.4, "guidance_rescale": 0.5},
    ),
    "proximal_guide": (
        ddim.proximal_guide,
        {
            "pred_source": image(1), "pred_target": image(2), "guidance_scale": 2.0, "quantile_kept": 0.7,
            "operator": "soft",
        },
    ),
    "proximal_guided_model": (
        lambda **a: ddim.proximal_guided_model(**a)(image(), torch.tensor(1)),
        {"target": model, "source": model, "guidance_scale": 2.0, "quantile_kept": 0.7, "operator": "hard"},
    ),
    "edit_guide": (
        ddim.edit_guide,
        {
            "guided": image(1)[..., None], "pred_reference": image(2)[..., None], "pred_edit": image(3)[..., None],
            "weight": 2.0, "threshold": 0.5,
        },
    ),
    "edit_mask": (
        ddim.edit_mask,
        {"pred_reference": image(1)[..., None], "pred_edit": image(2)[..., None], "threshold": 0.5},
    ),
    "check_lambda": (ddim.check_lambda, {"guidance_scale": 0.4}),
    "CFGPlusPlus": (
        lambda **a: ddim.sample(lambda x, t: ddim.CFGPlusPlus(**a), image(), scheduler()),
        {"guided": image(1), "uncond": image(2)},
    ),
    "guided_model": (
        lambda **a: ddim.guided_model(**a)(image(), torch.tensor(1)),
        {
            "conditional": model, "unconditional": model, "guidance_scale": 1.0, "guidance_rescale": 0.5,
            "mode": "cfg++", "active": None,
        },
    ),
    "GuidanceInterval": (
        lambda **a: ddim.GuidanceInterval(**a).timesteps(SCHEDULE),
        {"start": 0.2, "end": 0.8, "unit": "share"},
    ),
    "GuidanceInterval.timesteps": (ddim.GuidanceInterval(0.2, 0.8).timesteps, {"schedule": SCHEDULE}),
    "GuidanceInterval.on": (
        lambda **a: [ddim.GuidanceInterval(0.2, 0.8).on(**a)(t) for t in scheduler().timesteps],
        {"scheduler": scheduler()},
    ),
    "slerp": (ddim.slerp, {"a": image(1), "b": image(2), "t": torch.tensor([0.2, 0.7])}),
    "slerp, one t": (ddim.slerp, {"a": image(1), "b": image(2), "t": 0.5}),
    "slerp_path": (ddim.slerp_path, {"points": image(), "frames": 3}),
    "keyed_noise": (
        ddim.keyed_noise,
        {
            "shape": (2, 3), "seed": 1, "step": 2, "image_indices": [4, 5], "device": "cpu", "dtype": torch.float32,
        },
    ),
    "sample": (ddim.sample, RUN),
    "sample, recorded": (ddim.sample, RECORDED),
    "sample, drawn": (ddim.sample, DRAWN),
    "sample, model output": (sample_from_model_output, {"output": image()}),
    "sample_parallel": (lambda **a: ddim.sample_parallel(**a).sample, {**RUN, "window": 3, "tolerance": 0.0}),
    "sample_parallel, recorded": (
        lambda **a: ddim.sample_parallel(**a).sample,
        {**RECORDED, "window": 3, "generator": None},
    ),
    "fit_timesteps": (
        lambda **a: ddim.fit_timesteps(**a).pairs,
        {
            "model": model, "x": image(), "scheduler": scheduler(), "steps": 2, "grid": 4, "method": "fast",
            "callback": None,
        },
    ),
    "find_prediction_type": (
        lambda **a: ddim.find_prediction_type(**a).prediction_type,
        {"model": lambda x, t: 0.1 * x, "x": image(), "noise": LEVELS_OF_BETAS, "seed": 3},
    ),
    "capture_sample": (ddim.capture_sample, {**RECORDED}),
    **{
        f"invert, {method}": (
            lambda method=method, **a: ddim.invert(method=method, **a).latent,
            {**INVERT, "tolerance": 1e-3, "mixing": 0.9, **more},
        )
        for method, more in {
            "ddim": {"eta": 0.0}, "fixed_point": {"eta": 0.0}, "edict": {"eta": 0.0}, "bdia": {"eta": 0.0},
            "variance_noise": {
                "eta": 1.0, "noise_path": "cycle", "noise_dtype": torch.float16, "image_indices": [4, 5],
            },
        }.items()
    },
    "invert": (lambda **a: ddim.invert(**a).latent, {**INVERT, "method": "ddim"}),
    "invert, model output": (
        lambda **a: ddim.invert(lambda x, t: a["output"], image(), scheduler()).latent,
        {"output": image()},
    ),
    "reconstruct": (ddim.reconstruct, {"model": model, "inversion": inversion("ddim"), "scheduler": scheduler()}),
    "reconstruct, edict": (ddim.reconstruct, {"model": model, "inversion": inversion("edict")}),
    "reconstruct, bdia": (ddim.reconstruct, {"model": model, "inversion": inversion("bdia")}),
    "save_noise": (
        ddim.save_noise,
        {"inversion": INVERSION, "path": "noise.safetensors", "dtype": torch.float16, "max_bytes": 10**6},
    ),
    "load_noise": (ddim.load_noise, {"path": "noise.safetensors", "max_bytes": 10**6}),
    "model_calls": (ddim.model_calls, {"method": "ddim", "steps": 5, "refinements": 4}),
    "NoiseSchedule.add_noise": (LEVELS_OF_BETAS.add_noise, {"x0": image(1), "z": image(2), "t": torch.tensor([1, 9])}),
    "NoiseSchedule.velocity": (LEVELS_OF_BETAS.velocity, {"x0": image(1), "z": image(2), "t": 9}),
    "NoiseSchedule.alpha_bar_at": (LEVELS_OF_BETAS.alpha_bar_at, {"timestep": 3}),
    "Level.of": (ddim.Level.of, {"level": 0.5}),
    "NoiseSchedule.level_at": (LEVELS_OF_BETAS.level_at, {"timestep": 3}),
    "NoiseSchedule.index_of_times": (LEVELS_OF_SIGMAS.index_of_times, {"times": torch.tensor([100.0, 500.0])}),
    "SigmaConfig": (lambda **a: [*ddim.SigmaConfig(**a).values()], OF_SIGMAS),
    "NoiseSchedule.log_snr_at": (LEVELS_OF_BETAS.log_snr_at, {"timestep": 3}),
    "Schedule.part": (SCHEDULE.part, {"start": 1, "stop": 3}),
    "Schedule.last_fraction": (SCHEDULE.last_fraction, {"strength": 0.5}),
    "Schedule.scheduler": (lambda **a: SCHEDULE.scheduler(**a).timesteps, {"device": "cpu"}),
    "Schedule.inverse_scheduler": (lambda **a: SCHEDULE.inverse_scheduler(**a).timesteps, {"device": "cpu"}),
    "TimestepPlan.part": (SCHEDULE.plan.part, {"start": 1, "stop": 3}),
    "TimestepPlan.last_fraction": (SCHEDULE.plan.last_fraction, {"strength": 0.5}),
    "Inversion.check_fits": (
        lambda **a: inversion("ddim").check_fits(**a),
        {"schedule": SCHEDULE, "eta": 0.0, "shape": (2, 3, 4)},
    ),
    "DDIMScheduler.step": (call_method("step"), STEP),
    "DDIMScheduler.step, out": (call_method("step"), {**STEP, "out": torch.zeros(2, 3, 4)}),
    "DDIMScheduler.step, keyed": (call_method("step"), KEYED_STEP),
    "DDIMScheduler.step, drawn": (call_method("step"), {**KEYED_STEP, "generator": None}),
    "DDIMScheduler.step, batched": (call_method("step"), BATCHED_STEP),
    "DDIMScheduler.step, thresholded": (call_method("step", thresholding=True, sample_max_value=2.0), STEP),
    "DDIMScheduler.step, as diffusers": (call_method("step", parity="diffusers"), STEP),
    "DDIMScheduler.index_of": (call_method("index_of"), {"timestep": torch.tensor(4)}),
    "DDIMScheduler.unused_draws": (call_method("unused_draws", parity="diffusers"), {"etas": [0.0, 0.5]}),
    "DDIMScheduler.batch_step_no_noise": (
        call_method("batch_step_no_noise"),
        {"model_output": image(1), "timesteps": torch.tensor([4, 2]), "sample": image(2), "eta": 0.5},
    ),
    "DDIMInverseScheduler.step": (
        call_method("step", ddim.DDIMInverseScheduler),
        {"model_output": image(1), "timestep": torch.tensor([4, 2]), "sample": image(2)},
    ),
    **{
        f"{cls.__name__}.{name}": (call, usual)
        for cls in (ddim.DDIMScheduler, ddim.DDIMInverseScheduler)
        for name, call, usual in [
            ("add_noise", call_method("add_noise", cls), {"original_samples": image(), **NOISY}),
            ("get_velocity", call_method("get_velocity", cls), {"sample": image(), **NOISY}),
            (
                "set_timesteps",
                set_up_and_look("set_timesteps", cls),
                {"num_inference_steps": 2, "device": "cpu", "timesteps": [5, 1]},
            ),
            ("set_plan", set_up_and_look("set_plan", cls), {"plan": SCHEDULE.plan, "device": "cpu"}),
            ("coefficients", call_method("coefficients", cls), {"index": 2, "eta": 0.0}),
            ("step_index", call_method("step_index", cls), {"timestep": torch.tensor(4)}),
            (
                "from_settings",
                lambda cls=cls, **a: cls.from_settings(**a).settings,
                {"config": SCHEDULE.config, "extras": None},
            ),
            ("load_config", cls.load_config, {"folder": ".", "subfolder": "scheduler"}),
            ("from_pretrained", cls.from_pretrained, {"folder": ".", "subfolder": "scheduler"}),
            ("save_config", call_method("save_config", cls), {"save_directory": "folder"}),
            ("save_pretrained", call_method("save_pretrained", cls), {"save_directory": "folder"}),
            ("register_to_config", set_up_and_look("register_to_config", cls), {"beta_end": 0.5}),
            ("from_config", lambda cls=cls, **a: cls.from_config(**a).alphas_cumprod, {"config": {"beta_end": 0.5}}),
        ]
    },
    "FlowConfig": (lambda **a: [*ddim.FlowConfig(**a).values()], dict(ddim.FlowConfig())),
    "DDIMFlowScheduler": (lambda **a: ddim.DDIMFlowScheduler(**a).sigmas, dict(ddim.FlowConfig())),
    **{
        f"DDIMFlowScheduler.{name}": (call, usual)
        for name, call, usual in [
            ("step", call_flow("step"), {**FLOW_STEP, "variance_noise": image(3)}),
            ("step, out", call_flow("step"), {**FLOW_STEP, "out": torch.zeros(2, 3, 4)}),
            ("step, drawn", call_flow("step"), {**FLOW_STEP, "generator": None}),
            ("step, batched", call_flow("step"),
             {**FLOW_STEP, "timestep": FLOW_TIMES[[1, 3]], "variance_noise": image(3)}),
            ("batch_step_no_noise", call_flow("batch_step_no_noise"),
             {"model_output": image(1), "timesteps": FLOW_TIMES[[1, 3]], "sample": image(2), "eta": 0.5}),
            ("scale_noise", call_flow("scale_noise"),
             {"sample": image(), "timestep": FLOW_TIMES[[1, 3]], "noise": image(1)}),
            ("add_noise", call_flow("add_noise"), {"original_samples": image(), **FLOW_NOISY}),
            ("get_velocity", call_flow("get_velocity"), {"sample": image(), **FLOW_NOISY}),
            ("set_timesteps", set_up_flow_and_look("set_timesteps"),
             {"num_inference_steps": 2, "device": "cpu", "sigmas": [0.9, 0.3], "mu": None, "timesteps": [9.0, 3.0]}),
            ("set_plan", set_up_flow_and_look("set_plan"), {"plan": SCHEDULE.plan, "device": "cpu"}),
            ("set_shift", set_up_flow_and_look("set_shift"), {"shift": 3.0}),
            ("set_begin_index", set_up_flow_and_look("set_begin_index"), {"begin_index": 1}),
            ("coefficients", call_flow("coefficients"), {"index": 2, "eta": 0.0}),
            ("unused_draws", call_flow("unused_draws"), {"etas": [0.0, 0.5]}),
            ("index_of", call_flow("index_of"), {"timestep": FLOW_TIMES[2]}),
            ("from_settings", lambda **a: ddim.DDIMFlowScheduler.from_settings(**a).flow_settings,
             {"config": ddim.FlowConfig(shift=2.0), "extras": None}),
            ("load_config", ddim.DDIMFlowScheduler.load_config, {"folder": ".", "subfolder": "flow"}),
            ("from_pretrained", lambda **a: ddim.DDIMFlowScheduler.from_pretrained(**a).sigmas,
             {"folder": ".", "subfolder": "flow"}),
            ("save_config", call_flow("save_config"), {"save_directory": "folder"}),
            ("save_pretrained", call_flow("save_pretrained"), {"save_directory": "folder"}),
            ("register_to_config", set_up_flow_and_look("register_to_config"), {"shift": 2.0}),
            ("from_config", lambda **a: ddim.DDIMFlowScheduler.from_config(**a).sigmas, {"config": {"shift": 2.0}}),
        ]
    },
}  # fmt: skip

# Arguments that are not replaced: what is only asked whether it is true, and what is only called.
NOT_REPLACED = {
    "callback", "check", "closed", "rescale_betas_zero_snr", "return_dict", "set_alpha_to_one",
    "use_clipped_model_output",
}  # fmt: skip

# What is not called here, and why.
NOT_CALLED = {
    **dict.fromkeys(
        ("CapturedSample", "ConfigReport", "DDIMError", "DDIMSchedulerOutput", "Inversion", "MappedKey",
         "NoiseSchedule", "ParallelSample", "PredictionCheck", "Schedule", "TimestepPlan", "VarianceNoise"),
        "holds what a function gives",
    ),
    "DDIMSchedulerOutput.get": "is that of a dict",
    "Level": "holds what a function gives",
    "NoiseSchedule.of_betas": "takes what make_noise_schedule has checked",
    "NoiseSchedule.of_sigmas": "takes what SigmaConfig has checked",
    "Schedule.of": "takes a scheduler alone",
    "DDIMScheduler.scale_model_input": "returns its argument, whatever it is",
    "DDIMFlowScheduler.scale_model_input": "returns its argument, whatever it is",
    "DDIMInverseScheduler.scale_model_input": "returns its argument, whatever it is",
}  # fmt: skip


# -- tests --------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _in_a_folder_with_files(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    ddim.save_noise(INVERSION, "noise.safetensors")
    ddim.DDIMScheduler(**PLANNED).save_config("scheduler")
    ddim.DDIMFlowScheduler(shift=2.0).save_config("flow")


def answer(name: str, arguments: dict[str, Any]) -> Any:
    OTHERS["a generator"].manual_seed(1)
    return CALLS[name][0](**arguments)


def assert_same(found: Any, expected: Any) -> None:
    if isinstance(found, ddim.DDIMSchedulerOutput):
        found, expected = found.to_tuple(), expected.to_tuple()
    if isinstance(found, Tensor):
        assert found.dtype == expected.dtype and found.device == expected.device and found.shape == expected.shape
        assert found.layout is torch.strided
        found, expected = (value.detach().resolve_neg().as_subclass(Tensor) for value in (found, expected))
        torch.testing.assert_close(found, expected, equal_nan=True)
    elif isinstance(found, tuple | list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    else:
        assert repr(found) == repr(expected)


def check_answer(name: str, arguments: dict[str, Any]) -> bool:
    """Whether the arguments are accepted; the result is then that of the same values in plain form."""
    try:
        found = answer(name, arguments)
    except OSError:
        assert name in ("load_noise", "save_noise")  # whose file may be missing
        return False
    except DDIMError as error:
        assert 20 < len(str(error)) < 1000
        return False
    usual = CALLS[name][1]
    expected = answer(name, {key: plain_copy(value, usual[key]) for key, value in arguments.items()})
    assert_same(found, expected)
    return True


@pytest.mark.parametrize("name", CALLS)
def test_each_argument_of_each_odd_kind_gives_the_right_result_or_a_sentence(name: str) -> None:
    usual = CALLS[name][1]
    failures = []
    for argument in usual:
        for kind in kinds_for(usual[argument]):
            try:
                check_answer(name, {**usual, argument: odd(kind, usual[argument])})
            except Exception as error:
                failures.append(f"{argument} {kind}: {type(error).__name__}: {str(error)[:150]}")
    assert failures == []


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.data())
def test_several_odd_arguments_at_once(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(CALLS)))
    usual = CALLS[name][1]
    arguments = {}
    for argument, value in usual.items():
        kind = data.draw(st.sampled_from(["usual", "usual", *kinds_for(value)]), argument)
        arguments[argument] = value if kind == "usual" else odd(kind, value)
    check_answer(name, arguments)


def test_every_tensor_of_one_kind_at_once() -> None:
    """The strong check where many kinds are accepted; and it counts them, so that it cannot pass by refusing all."""
    accepted = set()
    for name, (_, usual) in CALLS.items():
        tensors = [argument for argument, value in usual.items() if isinstance(value, Tensor)]
        for kind in ODD_TENSORS if tensors else ():
            if check_answer(name, {**usual, **{argument: odd(kind, usual[argument]) for argument in tensors}}):
                accepted.add((name, kind))
    usual_kinds = ("as torch.float64", "every second element", "made in inference mode", "transposed")
    for name in ("DDIMScheduler.step, keyed", "sample", "sample_parallel", "guide", "slerp", "NoiseSchedule.velocity"):
        assert {kind for called, kind in accepted if called == name} >= set(usual_kinds), name


def public_functions() -> dict[str, Callable[..., Any]]:
    """Every public function, class and method that takes arguments, by name."""
    found: dict[str, Callable[..., Any]] = {}
    for name in ddim.__all__:
        value = getattr(ddim, name)
        if not callable(value):
            continue
        found[name] = value
        for method in dir(value) if inspect.isclass(value) else ():
            member = getattr(value, method)
            ours = (getattr(member, "__module__", None) or "").startswith("ddim")
            if (
                not method.startswith("_")
                and inspect.isroutine(member)
                and ours
                and {*inspect.signature(member).parameters} - {"self"}
            ):
                found[f"{name}.{method}"] = member
    return found


def parameters_of(function: Callable[..., Any]) -> set[str]:
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    given = inspect.signature(function).parameters.values()
    return {parameter.name for parameter in given if parameter.kind not in kinds} - {"self"}


def test_every_public_function_is_called_with_each_of_its_arguments() -> None:
    called: dict[str, set[str]] = {}
    for name, (_, usual) in CALLS.items():
        called.setdefault(name.split(",")[0], set()).update(usual)
    functions = public_functions()
    assert set(functions) - set(called) == set(NOT_CALLED)
    assert set(called) <= set(functions)
    missing = {name: parameters_of(functions[name]) - called[name] - NOT_REPLACED for name in called}
    assert {name: names for name, names in missing.items() if names} == {}

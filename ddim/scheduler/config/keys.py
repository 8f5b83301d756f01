"""What the keys of other schedulers' configurations mean here: an equivalent setting, nothing, or another model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...errors import check_choice
from ...schedule.flow_settings import FLOW_SETTINGS
from ...schedule.settings import SETTINGS

__all__ = [
    "EQUIVALENT_FLOW_KEYS",
    "EQUIVALENT_KEYS",
    "IGNORED_FLOW_KEYS",
    "IGNORED_KEYS",
    "PREDICTION_NAMES",
    "RESTORED_KEYS",
    "UNSUPPORTED_MODELS",
    "Convert",
]

Convert = Callable[[Any], Any]

# Keys of other classes that are written back with the value of our setting, so that those classes can be restored.
RESTORED_KEYS = frozenset({"flow_shift"})

_OWN_SCHEDULER = "use the scheduler that the model was published with"
_OWN_SIGMAS = (
    "make_schedule(steps, SigmaConfig(kind='variance_exploding', sigmas=...)) plans a run over any list of sigmas, for "
    "a model that returns x_0"
)
_VARIANCE_EXPLODING = ("its model is conditioned on sigma, and its sigmas are not in the configuration", _OWN_SIGMAS)

# Parts of the names of scheduler classes whose configuration cannot be read: the reason, and what to use.
UNSUPPORTED_MODELS: dict[str, tuple[str, str]] = {
    "FlowMap": ("a flow-map model jumps between any two levels and does not say where x_0 is", _OWN_SCHEDULER),
    "EDM": _VARIANCE_EXPLODING,
    "CMStochastic": ("a consistency model has steps of its own", _OWN_SCHEDULER),
    "VQDiffusion": ("its data are discrete tokens", _OWN_SCHEDULER),
    "DiscreteDDIM": ("its data are discrete tokens", _OWN_SCHEDULER),
    "ScoreSdeVe": _VARIANCE_EXPLODING,
    "KarrasVe": _VARIANCE_EXPLODING,
}

# Names of prediction types in other tools.
PREDICTION_NAMES = {
    "v": "v_prediction",
    "velocity": "v_prediction",
    "v-prediction": "v_prediction",
    "eps": "epsilon",
    "noise": "epsilon",
    "x0": "sample",
}


def _ends_at_sigma_zero(value: Any) -> bool:
    """Whether the last step ends at sigma 0 (alpha_bar = 1) rather than at the smallest training sigma."""
    return check_choice("final_sigmas_type", value, ("zero", "sigma_min")) == "zero"


# Keys of other schedulers and tools with the meaning of a setting: its name, and the conversion of the value.
EQUIVALENT_KEYS: dict[str, tuple[str, Convert]] = {
    "final_sigmas_type": ("set_alpha_to_one", _ends_at_sigma_zero),  # DPMSolver, UniPC, Euler
    "set_alpha_to_zero": ("set_alpha_to_one", lambda value: value),  # the former name in DDIMInverseScheduler
    "zero_terminal_snr": ("rescale_betas_zero_snr", lambda value: value),  # training scripts
    "ztsnr": ("rescale_betas_zero_snr", lambda value: value),
    "_parity": ("parity", lambda value: value),  # written to our own files, under a name that diffusers ignores
}

EQUIVALENT_FLOW_KEYS: dict[str, tuple[str, Convert]] = {
    "flow_shift": ("shift", lambda value: value),  # UniPC, DPMSolver
    "_eta": ("eta", lambda value: value),  # as _parity
}

_OTHER_SOLVER = "is an option of other solvers; DDIM is first order and has no such option"
_OTHER_TIMESTEPS = "selects the timesteps of other schedulers; DDIM uses timestep_spacing and steps_offset"
_NOT_SAMPLING = "concerns training or loading, not sampling"

_SOLVER_KEYS = (
    "skip_prk_steps", "solver_order", "solver_type", "algorithm_type", "lower_order_final", "euler_at_final",
    "predict_x0", "disable_corrector", "solver_p", "predictor_order", "corrector_order", "tau_func", "use_lu_lambdas",
    "lambda_min_clipped", "interpolation_type", "noise_sampler_seed", "scale_factors", "upscale_mode",
)  # fmt: skip
_TIMESTEP_KEYS = (
    "use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_flow_sigmas", "flow_shift",
    "use_dynamic_shifting", "time_shift_type", "shift_terminal", "timestep_type", "sigma_min", "sigma_max", "rho",
    "original_inference_steps", "timestep_scaling", "set_sigmas",
)  # fmt: skip

# Keys without effect here; the reason continues a sentence that begins with the key.
_COMMON_IGNORED = {
    **dict.fromkeys(_SOLVER_KEYS, _OTHER_SOLVER),
    **dict.fromkeys(("_class_name", "_diffusers_version", "_commit_hash", "_name_or_path", "auto_map",
                     "quantization_config", "num_inference_steps"), _NOT_SAMPLING),
}  # fmt: skip
IGNORED_KEYS: dict[str, str] = {
    **_COMMON_IGNORED,
    **dict.fromkeys(_TIMESTEP_KEYS, _OTHER_TIMESTEPS),
    "variance_type": "selects DDPM's variance; use the argument eta (1 for fixed_small, 'sigma_hat' for fixed_large)",
    "eta": "is an argument of step(), not a setting",
    "snr_shift_scale": "has no effect at 1",
}
IGNORED_FLOW_KEYS: dict[str, str] = {
    **_COMMON_IGNORED,
    **{
        key: "belongs to variance preserving models; a flow model has alpha = 1 - sigma"
        for key in (*SETTINGS, *EQUIVALENT_KEYS, "variance_type", "snr_shift_scale")
        if key not in FLOW_SETTINGS
    },
    **{
        key: "selects the timesteps of other schedulers; the sigmas of a flow model are shifted and spaced instead"
        for key in (*_TIMESTEP_KEYS, "timestep_spacing", "steps_offset")
        if key not in FLOW_SETTINGS
    },
    "prediction_type": "is the same for every flow model: the output is epsilon - x_0",
    "use_flow_sigmas": "is the rule for every flow model",
}

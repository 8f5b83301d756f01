"""What the keys of other schedulers' configurations mean here: an equivalent setting, nothing, or another model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...errors import check_choice

__all__ = ["EQUIVALENT_KEYS", "IGNORED_KEYS", "PREDICTION_NAMES", "UNSUPPORTED_MODELS"]

# Parts of the names of scheduler classes whose models DDIM cannot sample, and the reason.
UNSUPPORTED_MODELS = {
    "FlowMatch": "a flow-matching model interpolates linearly between data and noise and has no alpha_bar",
    "FlowMap": "a flow-map model interpolates linearly between data and noise and has no alpha_bar",
    "EDM": "an EDM model is conditioned on sigma and has no training timesteps",
    "CMStochastic": "a consistency model is conditioned on sigma and has no alpha_bar",
    "VQDiffusion": "its data are discrete tokens",
    "DiscreteDDIM": "its data are discrete tokens",
    "ScoreSdeVe": "a variance-exploding model has no alpha_bar",
    "KarrasVe": "a variance-exploding model has no alpha_bar",
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
EQUIVALENT_KEYS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "final_sigmas_type": ("set_alpha_to_one", _ends_at_sigma_zero),  # DPMSolver, UniPC, Euler
    "set_alpha_to_zero": ("set_alpha_to_one", lambda value: value),  # the former name in DDIMInverseScheduler
    "zero_terminal_snr": ("rescale_betas_zero_snr", lambda value: value),  # training scripts
    "ztsnr": ("rescale_betas_zero_snr", lambda value: value),
    "_parity": ("parity", lambda value: value),  # written to our own files, under a name that diffusers ignores
}

_OTHER_SOLVER = "is an option of other solvers; DDIM is first order and has no such option"
_OTHER_TIMESTEPS = "selects the timesteps of other schedulers; DDIM uses timestep_spacing and steps_offset"
_NOT_SAMPLING = "concerns training or loading, not sampling"

# Keys without effect here; the reason continues a sentence that begins with the key.
IGNORED_KEYS: dict[str, str] = {
    **dict.fromkeys(
        ("skip_prk_steps", "solver_order", "solver_type", "algorithm_type", "lower_order_final", "euler_at_final",
         "predict_x0", "disable_corrector", "solver_p", "predictor_order", "corrector_order", "tau_func",
         "use_lu_lambdas", "lambda_min_clipped", "interpolation_type", "noise_sampler_seed"),
        _OTHER_SOLVER,
    ),
    **dict.fromkeys(
        ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_flow_sigmas", "flow_shift",
         "use_dynamic_shifting", "time_shift_type", "shift_terminal", "timestep_type", "sigma_min", "sigma_max", "rho",
         "original_inference_steps", "timestep_scaling", "set_sigmas"),
        _OTHER_TIMESTEPS,
    ),
    "variance_type": "selects DDPM's variance; use the argument eta (1 for fixed_small, 'sigma_hat' for fixed_large)",
    "eta": "is an argument of step(), not a setting",
    "snr_shift_scale": "has no effect at 1",
    **dict.fromkeys(("_class_name", "_diffusers_version", "_commit_hash", "_name_or_path", "auto_map",
                     "quantization_config", "num_inference_steps"), _NOT_SAMPLING),
}  # fmt: skip

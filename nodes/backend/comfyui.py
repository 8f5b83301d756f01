"""What ComfyUI answers to the list at the top of ``bridge``: its MODEL, folders, routes and Cancel.

Sampling is in ``bridge_comfyui_run``. No other file names ComfyUI.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.model_sampling
import comfy.supported_models_base
import folder_paths
import torch
from torch import Tensor

from ..ddim import DDIMError, NoiseSchedule, SchedulerConfig, make_schedule
from .bridge import ModelFacts, sigmas_of_levels
from .bridge_comfyui_run import make_sampler, raw_output, refuse_flow, run

__all__ = [
    "add_route",
    "check_cancelled",
    "folder",
    "make_sampler",
    "model_facts",
    "model_from_network",
    "pictures",
    "run",
    "save_path",
    "with_levels",
    "with_output_patch",
]

_KINDS = {
    "epsilon": comfy.model_sampling.EPS,
    "v_prediction": comfy.model_sampling.V_PREDICTION,
    "sample": comfy.model_sampling.X0,
}


# -- MODEL ---------------------------------------------------------------------------------------------------


def model_facts(model: Any) -> ModelFacts:
    """Read the MODEL's ``model_sampling``."""
    sampling = model.get_model_object("model_sampling")
    refuse_flow(sampling)
    if not hasattr(sampling, "sigmas"):
        raise DDIMError(f"the MODEL has no table of noise levels ({type(sampling).__name__}); use the stock KSampler")
    sigmas = sampling.sigmas.detach().float().cpu()
    alpha_bar = 1 / (1 + sigmas.double() ** 2)
    if alpha_bar[-1] < 1e-7:  # ComfyUI's stand-in for zero
        alpha_bar[-1] = 0.0
    return ModelFacts(alpha_bar, sigmas, _prediction_type(sampling))


def with_levels(model: Any, noise: NoiseSchedule, prediction_type: str) -> Any:
    """Patch ``model_sampling`` on a clone."""
    refuse_flow(model.get_model_object("model_sampling"))
    patched = model.clone()
    patched.add_object_patch("model_sampling", _discrete_sampling(noise, prediction_type, model.model.model_config))
    return patched


def with_output_patch(model: Any, patch: Callable[[Tensor, Tensor], Tensor]) -> Any:
    """Add a post-CFG function on a clone; it works on raw outputs of any kind of model, flow models included."""

    def post_cfg(args: dict[str, Any]) -> Tensor:
        sampling, sigma, x = args["model"].model_sampling, args["sigma"], args["input"]
        guided = raw_output(sampling, sigma, args["denoised"], x)
        conditional = raw_output(sampling, sigma, args["cond_denoised"], x)
        return sampling.calculate_denoised(sigma, patch(guided, conditional), x)

    patched = model.clone()
    patched.set_model_sampler_post_cfg_function(post_cfg)
    return patched


def model_from_network(network: torch.nn.Module, config: SchedulerConfig) -> Any:
    """A BaseModel around the network, so that every stock sampler runs on it too."""
    settings = _NetworkSettings({"disable_unet_model_creation": True, "in_channels": 3, "dtype": torch.float32})
    base = comfy.model_base.BaseModel(settings)
    base.diffusion_model = _Network(network)
    base.model_sampling = _discrete_sampling(make_schedule(1, config).noise, config.prediction_type, settings)
    load, offload = comfy.model_management.get_torch_device(), comfy.model_management.unet_offload_device()
    return comfy.model_patcher.ModelPatcher(base.to(offload), load_device=load, offload_device=offload)


class _RGB(comfy.latent_formats.LatentFormat):
    """Latents that are pictures in [-1, 1]."""

    latent_channels = 3
    spacial_downscale_ratio = 1
    latent_rgb_factors = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]


class _NetworkSettings(comfy.supported_models_base.BASE):
    """What BaseModel asks of a model's configuration."""

    latent_format = _RGB
    memory_usage_factor = 0.1
    supported_inference_dtypes = [torch.float32]


class _Network(torch.nn.Module):
    """The network behind the signature that BaseModel calls: one row of label weights as the only text token."""

    dtype = torch.float32

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor | None = None, **_: Any) -> Tensor:
        """x is (B, 3, H, W); context (B, 1, N), N weights over the labels."""
        if context is None or context.ndim != 3 or context.shape[1] != 1:
            raise DDIMError("the demo model takes its prompt from DDIM Demo Prompt, got another conditioning")
        return self.network(x, timesteps.round().long(), context[:, 0])


def _discrete_sampling(noise: NoiseSchedule, prediction_type: str, model_config: Any) -> Any:
    """ComfyUI's model_sampling for these levels."""

    class DDIMModelSampling(comfy.model_sampling.ModelSamplingDiscrete, _KINDS[prediction_type]):
        pass

    sampling = DDIMModelSampling(model_config)
    sampling.set_sigmas(sigmas_of_levels(noise.alpha_bar))
    sampling.num_timesteps, sampling.zsnr = len(noise), noise.zero_terminal_snr
    return sampling


def _prediction_type(sampling: Any) -> str | None:
    """What the raw output is, judged by the conversion that is in force, not by the class's family."""
    if getattr(sampling, "sigma_data", 1.0) != 1.0:
        return None
    used = type(sampling).calculate_denoised
    return next((name for name, kind in _KINDS.items() if used is kind.calculate_denoised), None)


# -- folders, routes, Cancel ---------------------------------------------------------------------------------


def folder(kind: str) -> str:
    """The directory of that kind."""
    return {
        "input": folder_paths.get_input_directory,
        "output": folder_paths.get_output_directory,
        "temp": folder_paths.get_temp_directory,
        "models": lambda: folder_paths.models_dir,
    }[kind]()


def save_path(prefix: str) -> tuple[str, str, int, str]:
    """Where the next numbered output file goes."""
    full, name, counter, subfolder, _ = folder_paths.get_save_image_path(prefix, folder("output"))
    os.makedirs(full, exist_ok=True)
    return full, name, counter, subfolder


def add_route(method: str, path: str, handler: Callable[..., Any]) -> None:
    """Add to the server's routes, before it starts."""
    from server import PromptServer

    instance = getattr(PromptServer, "instance", None)
    if instance is not None:
        instance.routes.route(method, path)(handler)


def pictures(model: Any, latent: Tensor) -> Tensor | None:
    """The linear map from latents to colours that ComfyUI's own previews use."""
    latent_format = model.get_model_object("latent_format")
    factors = getattr(latent_format, "latent_rgb_factors", None)
    # Packed latents (newer formats) have to be unpacked first, by a function of the format.
    unpack = getattr(latent_format, "latent_rgb_factors_reshape", None)
    latent = latent if unpack is None else unpack(latent)
    if factors is None or latent.ndim < 3 or len(factors) != latent.shape[1]:
        return None
    rgb = torch.einsum("bc...,cr->br...", latent.float(), torch.tensor(factors, device=latent.device)).cpu()
    bias = getattr(latent_format, "latent_rgb_factors_bias", None)
    return rgb if bias is None else rgb + torch.tensor(bias).reshape(1, 3, *[1] * (rgb.ndim - 2))


def check_cancelled() -> None:
    """Raise ComfyUI's interruption."""
    comfy.model_management.throw_exception_if_processing_interrupted()

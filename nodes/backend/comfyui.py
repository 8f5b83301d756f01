"""ComfyUI as a backend: its MODEL, folders, routes and Cancel. Sampling is in ``comfyui_sampling``.

ComfyUI's modules have no types: ``Any`` in these three files is one of its objects, named by an alias.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.model_sampling
import comfy.sampler_helpers
import comfy.samplers
import comfy.supported_models_base
import comfy_execution.utils
import folder_paths
import latent_preview
import torch
from torch import Tensor

from ...ddim import VARIANCE_PRESERVING, DDIMError, NoiseSchedule, SchedulerConfig, make_schedule
from ..values import Conditioning
from .comfyui_levels import ModelSampling, OutputMap, coordinates_of, sigma_config
from .comfyui_sampling import Patcher, run_request, sigmas_sampler
from .contract import (
    Advance,
    Combine,
    Edit,
    FolderName,
    ModelFacts,
    OutputPatch,
    OutputPath,
    RouteHandler,
    Sampled,
    SamplingRequest,
    Work,
)
from .measured import reference_to
from .sigmas import sigmas_of_levels

__all__ = ["ComfyUIBackend"]

ModelConfig: TypeAlias = Any  # comfy.supported_models_base.BASE

ZERO_SNR = 1e-7  # ComfyUI stores alpha_bar = 0 as 4.9e-8

_PREDICTIONS = {
    "epsilon": comfy.model_sampling.EPS,
    "v_prediction": comfy.model_sampling.V_PREDICTION,
    "sample": comfy.model_sampling.X0,
}


class ComfyUIBackend:
    """What the nodes need from a host, for ComfyUI; see :class:`~.contract.Backend`."""

    def model_facts(self, model: Patcher) -> ModelFacts:
        """Read the MODEL's ``model_sampling``."""
        sampling = model.get_model_object("model_sampling")
        coordinates = coordinates_of(sampling)
        if not hasattr(sampling, "sigmas"):
            raise DDIMError(
                f"the MODEL has no table of noise levels ({type(sampling).__name__}); use the stock KSampler"
            )
        sigmas = sampling.sigmas.detach().float().cpu()
        alpha_bar = 1 / (1 + sigmas.double() ** 2)
        if alpha_bar[-1] < ZERO_SNR:
            alpha_bar[-1] = 0.0
        config = sigma_config(sampling, sigmas)
        network = reference_to(model.model)  # the same for every patched copy of the MODEL
        return ModelFacts(alpha_bar, sigmas, _prediction_type(sampling), config, coordinates.host_sigma, network)

    def with_levels(self, model: Patcher, noise: NoiseSchedule, prediction_type: str) -> Patcher:
        """Patch ``model_sampling`` on a clone."""
        kinds = {coordinates_of(model.get_model_object("model_sampling")).kind, noise.kind}
        if kinds != {VARIANCE_PRESERVING}:
            raise DDIMError(
                "DDIM Model Sampling changes betas, zero SNR and prediction type, which flow and EDM models do not "
                "have; use ModelSamplingSD3, ModelSamplingAuraFlow, ModelSamplingFlux or ModelSamplingContinuousEDM"
            )
        patched = model.clone()
        sampling = _discrete_sampling(noise, prediction_type, model.model.model_config)
        patched.add_object_patch("model_sampling", sampling)
        return patched

    def with_output_patch(self, model: Patcher, patch: OutputPatch) -> Patcher:
        """Add a post-CFG function on a clone; it works on the raw output of any kind of model, also of flow models."""

        def post_cfg(args: dict[str, Any]) -> Tensor:
            outputs = OutputMap.at(args["model"].model_sampling, args["sigma"], args["input"])
            guided, conditional = outputs.output(args["denoised"]), outputs.output(args["cond_denoised"])
            return outputs.denoised(patch(guided, conditional))

        patched = model.clone()
        patched.set_model_sampler_post_cfg_function(post_cfg)
        return patched

    def with_guidance(self, model: Patcher, combine: Combine) -> Patcher:
        """Set the CFG function on a clone; ComfyUI's x_0 is linear in the output, so both are combined as x_0."""

        def cfg_function(args: dict[str, Any]) -> Tensor:
            guided = combine(args["uncond_denoised"], args["cond_denoised"], args["cond_scale"])
            return args["input"] - guided  # ComfyUI subtracts it from the input again

        patched = model.clone()
        patched.set_model_sampler_cfg_function(cfg_function, disable_cfg1_optimization=True)
        return patched

    def with_edit(self, model: Patcher, prompt: Conditioning, edit: Edit, begin: float) -> Patcher:
        """Add a post-CFG function on a clone, which evaluates one more prompt as the stock Perp-Neg does."""
        first = float(model.get_model_object("model_sampling").percent_to_sigma(begin))
        conditions = comfy.sampler_helpers.convert_cond(prompt)

        def post_cfg(args: dict[str, Any]) -> Tensor:
            denoised: Tensor = args["denoised"]
            inner, x, sigma = args["model"], args["input"], args["sigma"]
            if begin > 0 and float(sigma[0]) > first:
                return denoised
            encoded = comfy.samplers.encode_model_conds(inner.extra_conds, conditions, x, x.device, "positive")
            (edited,) = comfy.samplers.calc_cond_batch(inner, [encoded], x, sigma, args["model_options"])
            # ComfyUI gives zeros for a prompt that it has left out.
            reference = args["cond_denoised" if args["uncond"] is None else "uncond_denoised"]
            return edit(denoised, reference, edited)

        patched = model.clone()
        patched.set_model_sampler_post_cfg_function(post_cfg)
        return patched

    def model_from_network(self, network: torch.nn.Module, config: SchedulerConfig) -> Patcher:
        """Build a BaseModel around the network, so that every stock sampler can use it too."""
        base = comfy.model_base.BaseModel(_network_settings())
        base.diffusion_model = _Network(network)
        noise = make_schedule(1, config).noise
        base.model_sampling = _discrete_sampling(noise, config.prediction_type, base.model_config)
        return _patcher(base)

    def flow_model_from_network(self, network: torch.nn.Module) -> Patcher:
        """Build a flow model around the network: ComfyUI's own ModelSamplingDiscreteFlow with shift 1."""
        base = comfy.model_base.BaseModel(_network_settings(), model_type=comfy.model_base.ModelType.FLOW)
        base.diffusion_model = _Network(network, whole_timesteps=False)
        return _patcher(base)

    def latent_to_rgb(self, model: Patcher, latent: Tensor) -> Tensor | None:
        """Apply the linear map from latents to colours that ComfyUI's own previews use."""
        latent_format = model.get_model_object("latent_format")
        factors = getattr(latent_format, "latent_rgb_factors", None)
        # Packed latents (newer formats) have to be unpacked first, by a function of the format.
        unpack = getattr(latent_format, "latent_rgb_factors_reshape", None)
        latent = latent if unpack is None else unpack(latent)
        if factors is None or latent.ndim < 3 or len(factors) != latent.shape[1]:
            return None
        bias = getattr(latent_format, "latent_rgb_factors_bias", None) or (0.0, 0.0, 0.0)
        weights, offset = _colours(tuple(map(tuple, factors)), tuple(bias), latent.device)
        return (latent.float().movedim(1, -1) @ weights + offset).movedim(-1, 1)

    def run(self, request: SamplingRequest, work: Work) -> Sampled:
        """Call ``work`` inside ``sample_custom``."""
        return run_request(request, self.model_facts(request.model), work)

    def make_sampler(self, work: Work, *, add_noise: bool) -> object:
        """Build a KSAMPLER."""
        return sigmas_sampler(work, add_noise=add_noise)

    def progress_bar(self, model: Patcher) -> Advance:
        """Use the bar and the previews of ComfyUI's own samplers."""
        show = latent_preview.prepare_callback(model, 1)

        def advance(done: int, total: int, x0: Tensor) -> None:
            self.check_cancelled()
            show(done - 1, x0, x0, total)

        return advance

    def folder(self, name: FolderName) -> Path:
        """Ask ``folder_paths``."""
        directories = {
            "input": folder_paths.get_input_directory,
            "output": folder_paths.get_output_directory,
            "temp": folder_paths.get_temp_directory,
            "models": lambda: folder_paths.models_dir,
        }
        return Path(directories[name]())

    def output_path(self, prefix: str) -> OutputPath:
        """Ask ``folder_paths``, which refuses a prefix that leaves the output folder."""
        output = folder_paths.get_output_directory()
        folder, name, _, subfolder, _ = folder_paths.get_save_image_path(prefix, output)
        os.makedirs(folder, exist_ok=True)
        return OutputPath(Path(folder), name, subfolder)

    def add_route(self, method: str, path: str, handler: RouteHandler) -> None:
        """Add to the routes of ``PromptServer``, which has not started yet when packs are loaded."""
        from server import PromptServer

        instance = getattr(PromptServer, "instance", None)
        if instance is not None:
            instance.routes.route(method, path)(handler)

    def check_cancelled(self) -> None:
        """Raise ComfyUI's ``InterruptProcessingException``."""
        comfy.model_management.throw_exception_if_processing_interrupted()

    def running_node(self) -> tuple[str, str] | None:
        """Ask ComfyUI's execution context."""
        running = comfy_execution.utils.get_executing_context()
        return None if running is None else (running.prompt_id, running.node_id)


@lru_cache(maxsize=8)
def _colours(
    factors: tuple[tuple[float, ...], ...], bias: tuple[float, ...], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return the map from latent channels to colours, ``(C, 3)`` and ``(3,)``; copied to a device once."""
    return torch.tensor(factors, device=device), torch.tensor(bias, device=device)


class _RGB(comfy.latent_formats.LatentFormat):
    """Latents that are images in [-1, 1]."""

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

    def __init__(self, network: torch.nn.Module, *, whole_timesteps: bool = True) -> None:
        super().__init__()
        self.network, self.whole_timesteps = network, whole_timesteps

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor | None = None, **_: Any) -> Tensor:
        """Call the network with x ``(B, 3, H, W)`` and context ``(B, 1, N)``, N weights over the labels."""
        if context is None or context.ndim != 3 or context.shape[1] != 1:
            raise DDIMError("the demo model takes its prompt from DDIM Demo Prompt, got another conditioning")
        return self.network(x, timesteps.round().long() if self.whole_timesteps else timesteps, context[:, 0])


def _network_settings() -> _NetworkSettings:
    return _NetworkSettings({"disable_unet_model_creation": True, "in_channels": 3, "dtype": torch.float32})


def _patcher(base: torch.nn.Module) -> Patcher:
    """Make a MODEL of a BaseModel."""
    load, offload = comfy.model_management.get_torch_device(), comfy.model_management.unet_offload_device()
    return comfy.model_patcher.ModelPatcher(base.to(offload), load_device=load, offload_device=offload)


def _discrete_sampling(noise: NoiseSchedule, prediction_type: str, model_config: ModelConfig) -> ModelSampling:
    """Build ComfyUI's model_sampling for these levels."""
    bases = (comfy.model_sampling.ModelSamplingDiscrete, _PREDICTIONS[prediction_type])
    sampling: ModelSampling = type("DDIMModelSampling", bases, {})(model_config)
    sampling.set_sigmas(sigmas_of_levels(noise.alpha_bar))
    sampling.num_timesteps, sampling.zsnr = len(noise), noise.zero_terminal_snr
    return sampling


def _prediction_type(sampling: ModelSampling) -> str | None:
    """Name the raw output by the conversion that is in force: subclasses may replace that of their family."""
    if getattr(sampling, "sigma_data", 1.0) != 1.0:
        return None
    conversion = type(sampling).calculate_denoised
    return next((name for name, kind in _PREDICTIONS.items() if conversion is kind.calculate_denoised), None)

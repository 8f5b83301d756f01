"""Flow and EDM MODELs for the worker, made of ComfyUI's own classes. Imported in ComfyUI's interpreter."""

import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.model_sampling
import comfy.ops
import comfy.sd
import comfy.supported_models_base
import torch
from safetensors.torch import save_file


class _Pixels(comfy.latent_formats.LatentFormat):
    latent_channels = 3
    spacial_downscale_ratio = 1


class _Settings(comfy.supported_models_base.BASE):
    latent_format = _Pixels
    memory_usage_factor = 0.1
    supported_inference_dtypes = [torch.float32]


class _Behind(torch.nn.Module):
    """A network ``f(x, t, rows)`` with BaseModel's signature; t is scaled so that times from 0 to 1 matter too."""

    dtype = torch.float32

    def __init__(self, network, time_scale):
        super().__init__()
        self.network, self.time_scale = network, time_scale

    def forward(self, x, timesteps, context=None, **_):
        return self.network(x, timesteps * self.time_scale, context[:, 0])


def sampled_as(network, schedule, prediction, settings, noise_scale=None, time_scale=1.0):
    """A MODEL around the network with a model_sampling of two of ComfyUI's classes, as model_base puts them together.

    Args:
        network: ``f(x, t, rows)`` for latents of any rank.
        schedule: A schedule class of comfy.model_sampling.
        prediction: A prediction class of it.
        settings: Of the schedule's set_parameters.
        noise_scale: Of a newer ModelSamplingDiscreteFlow.
        time_scale: By which the network multiplies the time that it gets.
    """
    config = _Settings({"disable_unet_model_creation": True, "in_channels": 3, "dtype": torch.float32})
    base = comfy.model_base.BaseModel(config)
    base.diffusion_model = _Behind(network, time_scale)
    bases = tuple(getattr(comfy.model_sampling, name) for name in (schedule, prediction))
    base.model_sampling = type("Sampling", bases, {})(config)
    base.model_sampling.set_parameters(**settings)
    if noise_scale is not None:
        base.model_sampling.set_noise_scale(noise_scale)
    load, offload = comfy.model_management.get_torch_device(), comfy.model_management.unet_offload_device()
    return comfy.model_patcher.ModelPatcher(base.to(offload), load_device=load, offload_device=offload)


def sd3():
    """ComfyUI's MMDiT as its loader would build it: two joint blocks of 128 channels."""
    from comfy.ldm.modules.diffusionmodules.mmdit import OpenAISignatureMMDITWrapper

    embedder = {"target": "torch.nn.Linear", "params": {"in_features": 4096, "out_features": 128}}
    return OpenAISignatureMMDITWrapper(input_size=None, in_channels=16, depth=2, adm_in_channels=2048,
                                       context_embedder_config=embedder, num_patches=256, pos_embed_max_size=16,
                                       dtype=torch.float32, operations=comfy.ops.disable_weight_init)  # fmt: skip


def wan():
    """ComfyUI's Wan 2.1 (text to video), one block of 128 channels."""
    from comfy.ldm.wan.model import WanModel

    return WanModel(model_type="t2v", dim=128, ffn_dim=256, num_heads=1, num_layers=1, in_dim=16, out_dim=16,
                    dtype=torch.float32, operations=comfy.ops.disable_weight_init)  # fmt: skip


ARCHITECTURES = {"sd3": sd3, "wan": wan}


def write_flow_network(path, architecture, random_weights):
    """A diffusion model file of that architecture with random weights."""
    shapes = {name: tensor.shape for name, tensor in ARCHITECTURES[architecture]().state_dict().items()}
    save_file(random_weights(shapes, torch.Generator().manual_seed(6)), path)


def load_flow_network(path):
    """What UNETLoader calls."""
    return comfy.sd.load_diffusion_model(path, {})

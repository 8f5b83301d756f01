"""ComfyUI's own samplers and what feeds them, as ``/object_info`` describes them: the embedded host has none."""

from __future__ import annotations

from typing import Any

SAMPLERS = ["euler", "euler_ancestral", "dpmpp_2m", "ddpm", "ddim"]
SCHEDULERS = ["simple", "sgm_uniform", "karras", "exponential", "ddim_uniform", "beta", "normal"]
_SEED = ["INT", {"default": 0, "min": 0, "max": 0xFFFFFFFFFFFFFFFF, "control_after_generate": True}]
_STEPS = ["INT", {"default": 20, "min": 1, "max": 10000}]
_CFG = ["FLOAT", {"default": 8.0, "min": 0.0, "max": 100.0, "step": 0.1, "round": 0.01}]
_DENOISE = ["FLOAT", {"default": 1.0, "min": 0.0, "max": 1.0, "step": 0.01}]
_WIRES = {"positive": ["CONDITIONING"], "negative": ["CONDITIONING"], "latent_image": ["LATENT"]}


def _node(name: str, inputs: dict[str, Any], outputs: dict[str, str]) -> dict[str, Any]:
    return {
        "name": name, "display_name": name, "description": "", "python_module": "nodes", "category": "sampling",
        "input": {"required": inputs}, "input_order": {"required": list(inputs)}, "output_node": False,
        "output": list(outputs.values()), "output_name": list(outputs), "output_is_list": [False] * len(outputs),
    }  # fmt: skip


STOCK = {
    definition["name"]: definition
    for definition in (
        _node(
            "KSampler",
            {
                "model": ["MODEL"], "seed": _SEED, "steps": _STEPS, "cfg": _CFG, "sampler_name": [SAMPLERS],
                "scheduler": [SCHEDULERS], **_WIRES, "denoise": _DENOISE,
            },
            {"LATENT": "LATENT"},
        ),
        _node(
            "KSamplerAdvanced",
            {
                "model": ["MODEL"], "add_noise": [["enable", "disable"]], "noise_seed": _SEED, "steps": _STEPS,
                "cfg": _CFG, "sampler_name": [SAMPLERS], "scheduler": [SCHEDULERS], **_WIRES,
                "start_at_step": ["INT", {"default": 0, "min": 0, "max": 10000}],
                "end_at_step": ["INT", {"default": 10000, "min": 0, "max": 10000}],
                "return_with_leftover_noise": [["disable", "enable"]],
            },
            {"LATENT": "LATENT"},
        ),
        _node(
            "SamplerCustom",
            {
                "model": ["MODEL"], "add_noise": ["BOOLEAN", {"default": True}], "noise_seed": _SEED, "cfg": _CFG,
                **_WIRES, "sampler": ["SAMPLER"], "sigmas": ["SIGMAS"],
            },
            {"output": "LATENT", "denoised_output": "LATENT"},
        ),
        _node("KSamplerSelect", {"sampler_name": [SAMPLERS]}, {"SAMPLER": "SAMPLER"}),
        _node(
            "BasicScheduler",
            {"model": ["MODEL"], "scheduler": [SCHEDULERS], "steps": _STEPS, "denoise": _DENOISE},
            {"SIGMAS": "SIGMAS"},
        ),
        _node("FlipSigmas", {"sigmas": ["SIGMAS"]}, {"SIGMAS": "SIGMAS"}),
    )
}  # fmt: skip

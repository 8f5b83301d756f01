"""Runs in ComfyUI's own interpreter: KSampler and DDIM KSampler on a UNet of real size, with random weights.

Usage: full_size.py COMFYUI_PATH REQUEST; see ``main`` for the request. One process for each network, because its peak
memory is part of the answer. The time inside the network is measured by hooks, so that the time beyond it is exact
although the network's own time varies.
"""

from start import REQUEST, answer, defaults, finish_replay, load_pack, run  # isort: skip (it makes the rest possible)
import os
import resource
import tempfile
import time

import comfy.model_detection
import comfy.ops
import comfy.sd
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from safetensors.torch import save_file

import nodes as comfyui_nodes

CFG = 7.0
STORED = torch.float16  # the weights in the file; ComfyUI decides in which dtype it computes
BOTH = {"image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 320, "use_spatial_transformer": True}
# The published configurations: v1-inference.yaml of Stable Diffusion, sd_xl_base.yaml of generative-models.
NETWORKS = {
    "SD15": {
        **BOTH,
        "num_res_blocks": [2, 2, 2, 2],
        "channel_mult": [1, 2, 4, 4],
        "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
        "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
        "transformer_depth_middle": 1,
        "context_dim": 768,
        "num_heads": 8,
        "legacy": False,
    },
    "SDXL": {
        **BOTH,
        "num_res_blocks": [2, 2, 2],
        "channel_mult": [1, 2, 4],
        "transformer_depth": [0, 0, 2, 2, 10, 10],
        "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
        "transformer_depth_middle": 10,
        "context_dim": 2048,
        "num_head_channels": 64,
        "use_linear_in_transformer": True,
        "num_classes": "sequential",
        "adm_in_channels": 2816,
        "legacy": False,
    },
}
# As small as ComfyUI still recognises: of an SDXL it compares the depths of the first half and the sizes of conditions.
REDUCED = {
    "SD15": {
        "num_res_blocks": [1],
        "channel_mult": [1],
        "transformer_depth": [1],
        "transformer_depth_output": [0, 0],
        "transformer_depth_middle": -1,
    },
    "SDXL": {"channel_mult": [1, 1, 1], "transformer_depth_output": [0] * 9, "transformer_depth_middle": -1},
}


def network_on_meta(config):
    """Return the network without memory for its weights."""
    return UNetModel(**config, dtype=STORED, device="meta", operations=comfy.ops.disable_weight_init)


def recognised(config):
    """Return the name of the class that ComfyUI's detection finds for such a state dict, and its parameters."""
    weights = network_on_meta(config).state_dict()
    found = comfy.model_detection.model_config_from_unet(weights, "")
    return {"recognised": type(found).__name__, "parameters": sum(weight.numel() for weight in weights.values())}


def random_weights(config, generator):
    """Return weights with which activations neither vanish nor explode: normal, scaled by what each output sums over.

    Norms are the identity and biases 0.
    """
    made = {}
    for name, weight in network_on_meta(config).state_dict().items():
        if weight.ndim > 1:
            scale = weight.shape[1:].numel() ** -0.5
            made[name] = torch.randn(weight.shape, generator=generator).mul_(scale).to(STORED)
        else:
            made[name] = torch.full(weight.shape, float(name.endswith("weight")), dtype=STORED)
    return made


def load(config):
    """Return a MODEL made by ComfyUI's own loader from a file that is removed again.

    The random weights are released before the loader maps the file, so that two copies never take memory at once.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "unet.safetensors")
        save_file(random_weights(config, torch.Generator().manual_seed(1)), path)
        return comfy.sd.load_diffusion_model(path)


def prompts(name, pixels):
    """Return two CONDITIONINGs as the text encoders and CLIPTextEncodeSDXL make them, filled with noise."""
    generator = torch.Generator().manual_seed(2)
    size = {f"{prefix}{side}": pixels for prefix in ("", "target_") for side in ("width", "height")}
    made = []
    for _ in range(2):
        extra = {"pooled_output": torch.randn(1, 1280, generator=generator), "crop_w": 0, "crop_h": 0, **size}
        context = torch.randn(1, 77, NETWORKS[name]["context_dim"], generator=generator)
        made.append([[context, extra if name == "SDXL" else {"pooled_output": None}]])
    return made


class Clock:
    """When each call of a network began and ended; the rows and the dtype that it was given.

    Args:
        network: The module, watched until ``close``.
    """

    def __init__(self, network):
        self.began, self.ended, self.rows, self.dtype = [], [], [], None
        self.hooks = [network.register_forward_pre_hook(self._begin), network.register_forward_hook(self._end)]

    def _begin(self, module, args):
        self.rows.append(len(args[0]))
        self.dtype = str(args[0].dtype).removeprefix("torch.")
        self.began.append(time.perf_counter())

    def _end(self, module, args, output):
        self.ended.append(time.perf_counter())

    def close(self):
        """Stop watching."""
        for hook in self.hooks:
            hook.remove()


def timed(work, network):
    """Run it; return what it returned, and its times in seconds: of the run, of each call, between calls."""
    clock = Clock(network)
    began = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - began
    clock.close()
    finish_replay()
    return result, {
        "run": seconds,
        "network": [end - begin for begin, end in zip(clock.began, clock.ended, strict=True)],
        "between": [begin - end for begin, end in zip(clock.began[1:], clock.ended[:-1], strict=True)],
        "rows": clock.rows,
        "dtype": clock.dtype,
    }


def runs(pack, name, model, pixels, steps):
    """Return the same run by ComfyUI's nodes and by ours, both on the timesteps of ComfyUI's `simple`."""
    positive, negative = prompts(name, pixels)
    latent = {"samples": torch.zeros(1, 4, pixels // 8, pixels // 8)}
    schedule, sample = pack["DDIMSchedule"], pack["DDIMSample"]
    timesteps = ", ".join(str(999 - int(step * 1000 / steps)) for step in range(steps))  # as `simple` rounds them
    plan = run(schedule, **{**defaults(schedule), "timesteps": timesteps, "model": model})[0]
    links = {"model": model, "schedule": plan, "positive": positive, "negative": negative, "latent_image": latent}
    ours = {**defaults(sample), **links, "cfg": CFG, "seed": 1}

    def stock():
        return comfyui_nodes.KSampler().sample(model, 1, steps, CFG, "ddim", "simple", positive, negative, latent, 1.0)

    return {"stock": stock, "ours": lambda: run(sample, **ours)}


def measure(pack, name, config, pixels, steps, rounds):
    """Print the times of ``rounds`` runs of each side, taking turns after one run of each that does not count."""
    model = load(config)
    network = model.model.diffusion_model
    results, times = {}, {"stock": [], "ours": []}
    for number in range(-1, rounds):
        sides = list(runs(pack, name, model, pixels, steps).items())
        for side, work in sides if number % 2 else reversed(sides):
            result, row = timed(work, network)
            results[side] = result[0]["samples"]
            if number >= 0:
                times[side].append(row)
    difference = (results["stock"] - results["ours"]).abs().max() / results["stock"].abs().max()
    answer(
        {
            **recognised(config),
            "loaded": type(model.model.model_config).__name__,
            "stored": str(STORED).removeprefix("torch."),
            "weights": str(next(network.parameters()).dtype).removeprefix("torch."),
            "largest": float(results["stock"].abs().max()),
            "difference": float(difference),
            "steps": steps,
            "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "threads": torch.get_num_threads(),
            **times,
        }
    )


def main():
    """Do what the request says.

    ``network`` is a key of NETWORKS, ``reduced`` chooses its small version. With ``pixels`` (a side), ``steps`` and
    ``rounds`` it is run; without them only its configuration is shown to ComfyUI's detection.
    """
    name = REQUEST["network"]
    config = {**NETWORKS[name], **(REDUCED[name] if REQUEST.get("reduced") else {})}
    with torch.inference_mode():
        if "steps" in REQUEST:
            measure(load_pack(), name, config, REQUEST["pixels"], REQUEST["steps"], REQUEST["rounds"])
        else:
            answer(recognised(config))


if __name__ == "__main__":
    main()

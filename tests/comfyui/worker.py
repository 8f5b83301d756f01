"""Runs in ComfyUI's own interpreter and does what the tests ask: call nodes, evaluate networks, write checkpoints.

Usage: worker.py COMFYUI_PATH, with requests on stdin and answers on stdout. A message is a JSON header and a
safetensors payload, each preceded by its length (8 bytes, big-endian). In a header, ``{"$tensor": name}`` stands for a
tensor of the payload and ``{"$ref": n}`` for the n-th value that an earlier call returned.
"""

import importlib
import importlib.util
import json
import os
import struct
import sys
import time
import traceback

ROOT = sys.argv[1]
sys.path[0] = ROOT
sys.argv = ["main.py", "--cpu"]
OUT, sys.stdout = os.fdopen(os.dup(1), "wb"), sys.stderr  # what ComfyUI prints must not end up between the answers

_started = time.perf_counter()
import torch  # noqa: E402

TORCH_SECONDS = time.perf_counter() - _started

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()
importlib.import_module(
    "utils.extra_config"
)  # first, as in main.py: nodes.py puts a folder with another utils in front
import comfy.sd  # noqa: E402
import server  # noqa: E402, F401 (ComfyUI has imported it before it looks for packs)
from safetensors.torch import load, save, save_file  # noqa: E402

import nodes  # noqa: E402

VALUES = []
PACK = {}


def decode(value, tensors):
    if isinstance(value, dict):
        if "$tensor" in value:
            return tensors[value["$tensor"]].clone()
        if "$ref" in value:
            return VALUES[value["$ref"]]
        return {key: decode(item, tensors) for key, item in value.items()}
    return [decode(item, tensors) for item in value] if isinstance(value, list) else value


def keep(values):
    VALUES.extend(values)
    return list(range(len(VALUES) - len(values), len(VALUES)))


def load_pack(path):
    """Import the pack as ComfyUI does; say how long that took beside importing torch, and what else it imported."""
    before = set(sys.modules)
    started = time.perf_counter()
    spec = importlib.util.spec_from_file_location("pack", os.path.join(path, "__init__.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules["pack"] = module
    spec.loader.exec_module(module)
    PACK.update(module.NODE_CLASS_MAPPINGS)
    seconds = time.perf_counter() - started
    new = sorted({name.split(".")[0] for name in set(sys.modules) - before} - {"pack"})
    return {"seconds": seconds, "torch_seconds": TORCH_SECONDS, "imported": new}


def call(node, inputs, module=None):
    """Run a node of the pack, of ComfyUI's nodes.py, or of one of its extra modules."""
    if module is None:
        cls = PACK[node]
    else:
        cls = getattr(importlib.import_module(module), node)
    if hasattr(cls, "define_schema"):
        result = cls.execute(**inputs).result
    else:
        result = getattr(cls(), cls.FUNCTION)(**inputs)
    return {"refs": keep(result["result"] if isinstance(result, dict) else result)}


def attribute(value, path):
    """Follow keys and attributes from a value to a number, string or tensor."""
    for step in path:
        value = value[step] if isinstance(value, (dict, list, tuple)) else getattr(value, step)
    return {"value": None if torch.is_tensor(value) else value, "tensor": value if torch.is_tensor(value) else None}


def knows(module, path):
    """Whether this ComfyUI has a class or a method."""
    value = importlib.import_module(module) if importlib.util.find_spec(module) else None
    for step in path:
        value = getattr(value, step, None)
    return {"known": value is not None}


def pack_value(name, arguments):
    """An object of the pack's own, such as RecordedNoise."""
    return {"refs": keep([getattr(sys.modules["pack.nodes.values"], name)(**arguments)])}


def network(model, x, timestep, context):
    """The raw output of a MODEL's network."""
    diffusion = model.model.diffusion_model
    return {"tensor": diffusion(x, torch.full((len(x),), float(timestep)), context=context)}


def add_levels(model, prediction, zsnr):
    """The stock ModelSamplingDiscrete."""
    return call("ModelSamplingDiscrete", {"model": model, "sampling": prediction, "zsnr": zsnr},
                module="comfy_extras.nodes_model_advanced")  # fmt: skip


def random_weights(shapes, generator):
    """Weights that neither vanish nor explode: normal, scaled by what each output sums over."""
    made = {}
    for name, shape in shapes.items():
        if len(shape) > 1:
            made[name] = torch.randn(shape, generator=generator) / max(1, shape[1:].numel()) ** 0.5
        else:
            made[name] = torch.ones(shape) if name.endswith(("weight", "scale")) else torch.zeros(shape)
    return made


def write_checkpoint(path, seed, full):
    """A checkpoint of SD1.5's shapes at reduced depth, one level of 320 channels; full: with text encoder and VAE."""
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
    from comfy.taesd.taesd import TAESD

    generator = torch.Generator().manual_seed(seed)
    unet = UNetModel(image_size=32, in_channels=4, out_channels=4, model_channels=320, num_res_blocks=[1],
                     channel_mult=[1], transformer_depth=[1], transformer_depth_output=[0, 0],
                     transformer_depth_middle=-1, context_dim=768, use_spatial_transformer=True, num_heads=8,
                     num_head_channels=-1, legacy=False, dtype=torch.float32)  # fmt: skip
    parts = {"model.diffusion_model.": unet}
    if full:
        from comfy.sd1_clip import SDClipModel

        parts["cond_stage_model.transformer."] = SDClipModel(dtype=torch.float16).transformer
        parts["first_stage_model."] = TAESD()
    weights = {}
    for prefix, part in parts.items():
        shapes = {name: tensor.shape for name, tensor in part.state_dict().items()}
        dtype = torch.float16 if prefix.startswith("cond") else torch.float32
        weights.update({prefix + name: w.to(dtype) for name, w in random_weights(shapes, generator).items()})
    save_file(weights, path)
    return {"bytes": os.path.getsize(path)}


def load_model(path):
    """Through ComfyUI's own checkpoint loader."""
    loaded = comfy.sd.load_checkpoint_guess_config(path, output_vae=False, output_clip=False)
    return {"refs": keep([loaded[0]])}


def beside(name):
    """Import a module from this folder, which is not on the path here."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, os.path.join(os.path.dirname(__file__), f"{name}.py"))
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def wavy_sampled_as(**settings):
    """A MODEL around tests/comfyui/wavy.py with one of ComfyUI's own model_samplings; see worker_models.py."""
    return {"refs": keep([beside("worker_models").sampled_as(beside("wavy").Wavy(), **settings)])}


def flow_network(path, architecture):
    """A real flow architecture with random weights, through ComfyUI's own loader."""
    models = beside("worker_models")
    models.write_flow_network(path, architecture, random_weights)
    return {"refs": keep([models.load_flow_network(path)])}


def nested_latent(parts):
    """A LATENT with several streams, as newer versions have it."""
    nested = importlib.import_module("comfy.nested_tensor").NestedTensor(parts)
    return {"refs": keep([{"samples": nested}])}


def wavy_model(prediction, zsnr):
    """A MODEL around tests/comfyui/wavy.py, whose latents may have any rank, made by the pack."""
    wavy = beside("wavy")
    core, backend = sys.modules["pack.ddim"], sys.modules["pack.nodes.backend"].current()
    if prediction == "flow":
        return {"refs": keep([backend.flow_model_from_network(wavy.Wavy())])}
    config = core.SchedulerConfig(**wavy.CONFIG, prediction_type=prediction, rescale_betas_zero_snr=zsnr)
    return {"refs": keep([backend.model_from_network(wavy.Wavy(), config)])}


def cancel_during(model, call_number, node, inputs):
    """Press Cancel while the network runs for the given time; say how often it was called and what came of the run."""
    calls = 0

    def wrapper(apply, arguments):
        nonlocal calls
        calls += 1
        if calls == call_number:
            nodes.interrupt_processing()
        return apply(arguments["input"], arguments["timestep"], **arguments["c"])

    watched = model.clone()
    watched.set_model_unet_function_wrapper(wrapper)
    try:
        call(node, {**inputs, "model": watched})
        ended = "finished"
    except BaseException as error:  # newer versions interrupt with one that is no Exception
        ended = type(error).__name__
    nodes.interrupt_processing(False)
    return {"calls": calls, "ended": ended}


def watched_run(node, inputs):
    """Run a node of the pack; give its outputs, what it shows, and the progress that ComfyUI was told of."""
    import comfy.utils

    progress, before = [], comfy.utils.PROGRESS_BAR_HOOK
    comfy.utils.set_progress_bar_global_hook(lambda value, total, *_, **__: progress.append([value, total]))
    try:
        result = getattr(PACK[node](), PACK[node].FUNCTION)(**inputs)
    finally:
        comfy.utils.set_progress_bar_global_hook(before)
    return {"outputs": keep(result["result"]), "ui": result["ui"], "progress": progress}


def with_control(conditioning):
    """The conditioning with a ControlNet that pushes the middle of the network, by an amount that depends on sigma."""
    from comfy.controlnet import ControlBase

    class Push(ControlBase):
        def get_control(self, x_noisy, t, cond, batched_number, transformer_options):
            amount = torch.tanh(t).reshape(-1, 1, 1, 1)
            return {"middle": [amount * torch.ones(len(x_noisy), 320, *x_noisy.shape[2:])]}

    told = {"control": Push(), "control_apply_to_uncond": True}
    return {"refs": keep([[[tensor, {**options, **told}] for tensor, options in conditioning]])}


def inputs_of_network(model, node, inputs):
    """Run a node and return what the network was given at each call, first image of each, in its own coordinates."""
    seen = []
    hook = model.model.diffusion_model.register_forward_pre_hook(lambda module, args: seen.append(args[0][0]))
    try:
        call(node, {**inputs, "model": model})
    finally:
        hook.remove()
    return {"tensor": torch.stack(seen)}


def rows_of_network(model, node, inputs):
    """Run a node and say how many images the network was given at each call: two prompts are one batch, or two calls.

    Calls at the same timestep are counted together.
    """
    rows = {}

    def count(module, args):
        time = float(args[1].flatten()[0])
        rows[time] = rows.get(time, 0) + len(args[0])

    hook = model.model.diffusion_model.register_forward_pre_hook(count)
    try:
        call(node, {**inputs, "model": model})
    finally:
        hook.remove()
    return {"rows": [rows[time] for time in sorted(rows, reverse=True)]}


OPERATIONS = {
    function.__name__: function
    for function in (
        load_pack,
        call,
        attribute,
        knows,
        pack_value,
        network,
        add_levels,
        write_checkpoint,
        load_model,
        wavy_model,
        wavy_sampled_as,
        flow_network,
        nested_latent,
        cancel_during,
        inputs_of_network,
        rows_of_network,
        watched_run,
        with_control,
    )
}


def read(stream):
    length = stream.read(8)
    return stream.read(struct.unpack(">Q", length)[0]) if length else None


def main():
    stream = sys.stdin.buffer
    while (header := read(stream)) is not None:
        tensors = load(payload) if (payload := read(stream)) else {}
        request = json.loads(header)
        try:
            with torch.inference_mode():
                operation = OPERATIONS[request["do"]]
                answer = operation(**decode(request["with"], tensors))
        except BaseException as error:
            answer = {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
        tensor = answer.pop("tensor", None)
        blob = b"" if tensor is None else save({"tensor": tensor.detach().float().contiguous().clone()})
        text = json.dumps(answer, default=str).encode()
        for part in (text, blob):
            OUT.write(struct.pack(">Q", len(part)) + part)
        OUT.flush()


if __name__ == "__main__":
    main()

"""Runs in ComfyUI's own interpreter: our nodes and stock ones side by side, on a network that costs nothing.

Usage: cells.py COMFYUI_PATH REQUEST, where REQUEST is JSON; prints one JSON object per line. Started by
``bench/comfyui_overhead.py`` and by the tests.
"""

from start import REQUEST, answer, defaults, finish_replay, load_pack, run  # isort: skip (it makes the rest possible)
import sys
import time

import comfy.samplers
import comfy_extras.nodes_custom_sampler as custom_sampling
import comfy_extras.nodes_model_advanced as model_nodes
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import nodes as comfyui_nodes

torch.set_num_threads(1)

CFG, RESCALE = 7.0, 0.7
# Operators after which the host has to wait for a device.
WAITING = ("aten::_local_scalar_dense", "aten::is_nonzero", "aten::equal", "aten::nonzero", "aten::masked_select")


class Free(torch.nn.Module):
    """A network that costs one operator."""

    def forward(self, x, t, rows):
        """Return an output that depends on x."""
        return x * 0.1


class Cells:
    """Pairs of runs that do the same, one by ComfyUI's nodes and one by ours.

    Args:
        pack: The pack's nodes.
        shape: Of the latents, ``(B, 3, H, W)``.
        steps: S, a number for which ComfyUI's ddim_uniform has exactly S steps (10, 20, 40).
    """

    def __init__(self, pack, shape, steps):
        core, backend = sys.modules["pack.ddim"], sys.modules["pack.nodes.backend"].current()
        config = core.SchedulerConfig(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
        self.pack, self.steps = pack, steps
        self.model = backend.model_from_network(Free(), config)
        self.flow = backend.flow_model_from_network(Free())
        self.prompt = [[torch.ones(1, 1, 11), {}]]
        self.latent = {"samples": torch.zeros(shape)}
        self.rescaled = run(model_nodes.RescaleCFG, model=self.model, multiplier=RESCALE)[0]
        self.schedules = {model: self._schedule(model) for model in (self.model, self.flow)}

    def _schedule(self, model):
        node = self.pack["DDIMSchedule"]
        given = {"steps": self.steps, "timestep_spacing": "leading", "model": model}
        return run(node, **{**defaults(node), **given})

    def stock(self, cfg, sampler, scheduler="ddim_uniform", model=None):
        """Run KSampler."""
        return comfyui_nodes.KSampler().sample(
            model or self.model, 1, self.steps, cfg, sampler, scheduler, self.prompt, self.prompt, self.latent, 1.0
        )

    def ours(self, cfg, model=None, **options):
        """Run DDIM KSampler, with its replay."""
        node, model = self.pack["DDIMSample"], model or self.model
        links = {"positive": self.prompt, "negative": self.prompt, "latent_image": self.latent}
        given = {"model": model, "schedule": self.schedules[model][0], "cfg": cfg, "seed": 1, **links, **options}
        return run(node, **{**defaults(node), **given})

    def custom(self, sampler):
        """Run SamplerCustom."""
        links = {"positive": self.prompt, "negative": self.prompt, "latent_image": self.latent}
        settings = {"add_noise": True, "noise_seed": 1, "cfg": CFG, "sigmas": self.schedules[self.model][1]}
        return run(custom_sampling.SamplerCustom, model=self.model, sampler=sampler, **settings, **links)

    def pairs(self):
        """Return ``{name: (stock, ours)}``."""
        sampler, node = comfy.samplers.sampler_object("ddim"), self.pack["DDIMSampler"]
        our_sampler = run(node, **defaults(node))[0]
        return {
            "cfg 1": (lambda: self.stock(1.0, "ddim"), lambda: self.ours(1.0)),
            "cfg 7": (lambda: self.stock(CFG, "ddim"), lambda: self.ours(CFG)),
            "SamplerCustom, cfg 7": (lambda: self.custom(sampler), lambda: self.custom(our_sampler)),
            "rescale, cfg 7": (
                lambda: self.stock(CFG, "ddim", model=self.rescaled),
                lambda: self.ours(CFG, guidance_rescale=RESCALE),
            ),
            "eta 1, cfg 1": (lambda: self.stock(1.0, "euler_ancestral"), lambda: self.ours(1.0, eta=1.0)),
            "eta 1, stream, cfg 1": (
                lambda: self.stock(1.0, "euler_ancestral"),
                lambda: self.ours(1.0, eta=1.0, noise_mode="stream"),
            ),
            "flow, cfg 1": (
                lambda: self.stock(1.0, "euler", "simple", self.flow),
                lambda: self.ours(1.0, model=self.flow),
            ),
        }


class Operators(TorchDispatchMode):
    """Counts operators, and those after which the host has to wait for a device."""

    def __init__(self):
        super().__init__()
        self.operators = self.waits = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name()
        self.operators += 1
        indexed_by_mask = name.startswith("aten::index.") and any(
            torch.is_tensor(index) and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        self.waits += name.startswith(WAITING) or indexed_by_mask
        return func(*args, **(kwargs or {}))


class Copies(TorchFunctionMode):
    """Counts copies to the host, as if every tensor were on a device.

    ``Tensor.numpy`` does not count: it refuses a tensor that is not in host memory.
    """

    def __init__(self):
        super().__init__()
        self.copies = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in ("cpu", "tolist") or (name == "to" and "cpu" in map(str, (*args[1:], *kwargs.values()))):
            self.copies += 1
        return func(*args, **kwargs)


def counted(work):
    """Return operators, waits and copies of one run."""
    with Operators() as operators, Copies() as copies:
        work()
    return torch.tensor([operators.operators, operators.waits, copies.copies])


def counts(pack, shape):
    """Print the counts of a step: the difference between runs of 40 and of 20 steps."""
    long, short = (Cells(pack, shape, steps).pairs() for steps in (40, 20))
    for name in long:
        row = {"cell": name}
        for side, (longer, shorter) in enumerate(zip(long[name], short[name], strict=True)):
            for work in (longer, shorter):
                work()  # what the first run of all prepares is not part of a step
                finish_replay()
            difference = (counted(longer) - counted(shorter)).tolist()
            finish_replay()
            row[("stock", "ours")[side]] = [count / 20 for count in difference]
        answer(row)


def times(pack, shape, rounds, steps):
    """Print the seconds of whole runs, taking turns, each side first in every other round."""
    for name, pair in Cells(pack, shape, steps).pairs().items():
        measured: tuple[list[list[float]], list[list[float]]] = ([], [])
        for number in range(-2, rounds):
            for side in (0, 1) if number % 2 else (1, 0):
                began = time.perf_counter(), time.thread_time()
                pair[side]()
                ended = time.perf_counter(), time.thread_time()
                finish_replay()
                if number >= 0:
                    measured[side].append([end - begin for begin, end in zip(began, ended, strict=True)])
        answer({"cell": name, "shape": shape, "steps": steps, "stock": measured[0], "ours": measured[1]})


def set_up(pack, rounds):
    """Print the seconds of what a user waits for beside the steps: the schedule node, and runs of one step."""
    cells = Cells(pack, (1, 3, 64, 64), 10)
    schedule, node = cells.schedules[cells.model][0].part(9, 10), cells.pack["DDIMSchedule"]
    cells.schedules[cells.model] = (schedule, None)
    cells.steps = 1
    work = {
        "DDIM Schedule": lambda: run(node, **{**defaults(node), "steps": 40, "model": cells.model}),
        "DDIM KSampler, one step": lambda: cells.ours(1.0),
        "KSampler, one step": lambda: cells.stock(1.0, "ddim"),
    }
    measured: dict[str, list[float]] = {name: [] for name in work}
    for number in range(-2, rounds):
        for name, function in work.items():
            began = time.perf_counter()
            function()
            if number >= 0:
                measured[name].append(time.perf_counter() - began)
            finish_replay()
    answer({"set_up": measured})


def main():
    """Do what the request says: ``counts``, ``times`` of ``shapes`` or ``set_up``."""
    pack = load_pack()
    with torch.inference_mode():
        if "counts" in REQUEST:
            counts(pack, REQUEST["counts"])
        for shape in REQUEST.get("times", ()):
            times(pack, shape, REQUEST["rounds"], REQUEST.get("steps", 40))
        if "set_up" in REQUEST:
            set_up(pack, REQUEST["set_up"])


if __name__ == "__main__":
    main()

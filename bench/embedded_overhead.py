"""What the nodes cost in the embedded host: ``python -m bench.embedded_overhead``.

DDIM KSampler, with its replay and previews, beside a plain loop around ``ddim.sample`` that makes the same calls, on a
network that costs nothing; both take turns in one process, on one thread.
"""

from __future__ import annotations

import importlib.util
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from bench.timing import print_table
from ddim import DDIMScheduler, SchedulerConfig, guided_model, sample

ROOT = Path(__file__).resolve().parent.parent
SHAPES = ((1, 3, 64, 64), (1, 3, 128, 128), (8, 3, 64, 64))
STEPS, LABELS, SEED = 40, 11, 1
CONFIG = SchedulerConfig(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False)


def free_network(x: Tensor, timestep: Tensor, rows: Tensor) -> Tensor:
    """Return an output of one operator."""
    return x * 0.1


def load_pack() -> ModuleType:
    """Import the pack from its folder, as a host does."""
    spec = importlib.util.spec_from_file_location("pack", ROOT / "__init__.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["pack"] = module
    spec.loader.exec_module(module)
    assert module.NODE_CLASS_MAPPINGS  # asked for, the pack imports its nodes
    return module


def node_run(pack: ModuleType, shape: tuple[int, ...], cfg: float, eta: float) -> Callable[[], object]:
    """Return a run of DDIM KSampler."""
    backend = sys.modules["pack.nodes.backend"].current()
    model = backend.model_from_network(free_network, sys.modules["pack.ddim"].SchedulerConfig(**CONFIG))
    schedule = _called(pack, "DDIMSchedule", steps=STEPS, timestep_spacing="leading", model=model)["result"][0]
    prompt = [[torch.ones(1, 1, LABELS), {}]]
    given = {"model": model, "positive": prompt, "negative": prompt, "schedule": schedule, "cfg": cfg, "eta": eta}
    return lambda: _called(pack, "DDIMSample", **given, latent_image={"samples": torch.zeros(shape)}, seed=SEED)


def _called(pack: ModuleType, name: str, **given: Any) -> Any:
    node = pack.NODE_CLASS_MAPPINGS[name]
    return getattr(node(), node.FUNCTION)(**given)


def plain_run(shape: tuple[int, ...], cfg: float, eta: float) -> Callable[[], object]:
    """Return the same run, written with the core alone."""
    rows = torch.ones(shape[0], LABELS)
    scheduler = DDIMScheduler.from_config(CONFIG)
    scheduler.set_timesteps(STEPS)

    def network(x: Tensor, t: Tensor) -> Tensor:
        return free_network(x, t.expand(len(x)), rows[: len(x)])

    def run() -> Tensor:
        model = network if cfg == 1.0 else guided_model(network, network, cfg)
        start = torch.randn(shape, generator=torch.Generator().manual_seed(SEED))
        return sample(model, start, scheduler, eta=eta, seed=SEED)

    return run


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    pack, rows = load_pack(), []
    for shape in SHAPES:
        for name, cfg, eta in (("cfg 1", 1.0, 0.0), ("cfg 7", 7.0, 0.0), ("eta 1, cfg 1", 1.0, 1.0)):
            runs = (plain_run(shape, cfg, eta), node_run(pack, shape, cfg, eta))
            plain, node = _interleaved(runs, sys.modules["pack.nodes.editor.replay_sheet"].pending)
            cell = f"{plain * 1e6:.0f} / {node * 1e6:.0f} / {node / plain:.2f}"
            rows.append(["x".join(map(str, shape)), name, cell, f"{(node - plain) * 1e6:.0f}"])
    head = ("", "", "plain / node / ratio", "node beyond plain")
    print_table("embedded host: microseconds of a step", head, rows)


def _interleaved(runs: tuple[Callable[[], object], ...], pending: Callable[[], Any], rounds: int = 21) -> list[float]:
    """Return the median seconds of a step, per run; the sheet of a replay is waited for between runs."""
    measured: list[list[float]] = [[] for _ in runs]
    for number in range(-2, rounds):
        for run, seconds in zip(runs, measured, strict=True):
            began = time.perf_counter()
            run()
            if number >= 0:
                seconds.append((time.perf_counter() - began) / STEPS)
            if (left := pending()) is not None:
                left.result()
    return [statistics.median(seconds) for seconds in measured]


if __name__ == "__main__":
    main()

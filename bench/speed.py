"""Speed relative to diffusers: operators, passes over memory, host time, time per step: ``python -m bench.speed``."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import ddim
from bench.fresh import ALLOCATORS, in_fresh_process
from bench.peer import CASES, SHAPES, both_schedulers, step_runs, tensors
from bench.timing import interleaved, print_table
from ddim.noise.keyed import KeyedStep
from ddim.noise.source import noise_source

ROOT = Path(__file__).resolve().parent.parent
NOISE_SHAPES = ((1, 3, 64, 64), (1, 4, 64, 64), (8, 3, 64, 64), (1, 4, 128, 128), (1, 16, 128, 128))
VIEWS = ("view", "select", "slice", "reshape", "expand", "detach", "alias", "t.", "unsqueeze", "as_strided", "flatten")


class Cost(TorchDispatchMode):
    """Counts operators, and tensor passes: bytes read and written, in units of the sample's size."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size, self.operators, self.bytes = size, 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.operators += 1
        if not func.name().removeprefix("aten::").startswith(VIEWS):
            out = (kwargs or {}).get("out")
            read = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor) and t is not out]
            written = [t for t in tree_leaves(result) if isinstance(t, torch.Tensor)]
            self.bytes += sum(t.nbytes for t in (*read, *written))
        return result

    def __str__(self) -> str:
        return f"{self.operators} / {self.bytes / self.size:.0f}"


def counts_table() -> None:
    """Print operators and passes of a step."""
    rows = []
    for case in CASES:
        found = []
        for run in step_runs(case, (1, 4, 64, 64), buffer=True):
            run()  # the first step also computes the coefficients of all steps
            with Cost(4 * 64 * 64 * case.dtype.itemsize) as cost:
                run()
            found.append(cost)
        rows.append((case.name, *found))
    print_table("Aten operators / tensor passes of one step (exact)", ("case", "ddim", "diffusers"), rows)


def verdict(ratio: float, target: float | None) -> str:
    """Format a ratio with its target, if it has one, and mark it if the target is missed."""
    return f"{ratio:.1f}" if target is None else f"{ratio:.1f} ({target:g}){'' if ratio >= target else ' MISSED'}"


def step_times(case: int, shape: tuple[int, ...], seconds: float, buffer: bool) -> list[float]:
    """Seconds of one step of ``CASES[case]``, ours and diffusers'."""
    return interleaved(step_runs(CASES[case], shape, buffer=buffer), seconds)


RESULTS = {"both allocate the result": False, "ours writes to a buffer (out=)": True}


def steps_table(seconds: float) -> None:
    """Print the time of a step for all cases and shapes; the targets are for steps that allocate their result."""
    for result, buffer in RESULTS.items():
        for allocator in ALLOCATORS:
            rows = []
            for i, case in enumerate(CASES):
                measured = [in_fresh_process(allocator, step_times, i, shape, seconds, buffer) for shape in SHAPES]
                rows.append(_row(case.name, measured, None if buffer else case.at_least))
            print_table(f"One step, one thread; {result}; {allocator}", _head(), rows)


def _head() -> tuple[str, ...]:
    return ("times faster than diffusers (target)", *("x".join(map(str, shape)) for shape in SHAPES))


def _row(name: str, measured: list[list[float]], target: float | None = None) -> tuple[str, ...]:
    return (name, *(verdict(theirs / ours, target) for ours, theirs in measured))


def host_table() -> None:
    """Print the time that Python spends on a step, independent of the size of the tensors."""
    ours, theirs = both_schedulers({"clip_sample": False})
    x, m, *_ = tensors((1,))
    t, their_t = ours.timesteps[20], theirs.timesteps[20]
    runs: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "step, one element": (lambda: ours.step(m, t, x), lambda: theirs.step(m, their_t, x)),
        "step, timestep as a number": (lambda: ours.step(m, int(t), x), lambda: theirs.step(m, int(their_t), x)),
        "two bare operators": (lambda: torch.mul(x, 0.5).add_(m, alpha=0.5), lambda: theirs.step(m, their_t, x)),
        "constructor": (ddim.DDIMScheduler, diffusers.DDIMScheduler),
        "set_timesteps(50)": (lambda: ours.set_timesteps(50), lambda: theirs.set_timesteps(50)),
        "coefficients of 50 steps": (lambda: _all_coefficients(ours), lambda: theirs.set_timesteps(50)),
    }
    rows = []
    for name, pair in runs.items():
        a, b = interleaved(pair)
        rows.append((name, f"{a * 1e6:.1f} us", f"{b * 1e6:.1f} us", f"{b / a:.1f}"))
    print_table("Host time", ("operation", "ddim", "diffusers", "times faster"), rows)


def _all_coefficients(scheduler: ddim.DDIMScheduler) -> None:
    scheduler.set_timesteps(50)
    for i in range(50):
        scheduler.coefficients(i)


OTHERS = ("CFG combine", "CFG with rescale", "add_noise")


def other_times(name: str, shape: tuple[int, ...], seconds: float) -> list[float]:
    """Seconds of one call of an entry of ``OTHERS``, ours and diffusers'."""
    ours, theirs = both_schedulers({})
    u, c, z, _ = tensors(shape)
    t = torch.full((shape[0],), 500)
    pairs: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "CFG combine": (lambda: ddim.guide(u, c, 7.5), lambda: u + 7.5 * (c - u)),
        "CFG with rescale": (
            lambda: ddim.guide(u, c, 7.5, 0.7),
            lambda: rescale_of_diffusers(u + 7.5 * (c - u), c, 0.7),
        ),
        "add_noise": (lambda: ours.add_noise(u, z, t), lambda: theirs.add_noise(u, z, t)),
    }
    return interleaved(pairs[name], seconds)


def other_table(seconds: float) -> None:
    """Print the times of guidance, of guidance with rescale, and of ``add_noise``."""
    for allocator in ALLOCATORS:
        rows = []
        for name in OTHERS:
            measured = [in_fresh_process(allocator, other_times, name, shape, seconds) for shape in SHAPES]
            rows.append(_row(name, measured))
        print_table(f"Guidance and forward process; {allocator}", _head(), rows)


def rescale_of_diffusers(guided: torch.Tensor, text: torch.Tensor, phi: float) -> torch.Tensor:
    """Rescale guidance with diffusers' own function."""
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

    return rescale_noise_cfg(guided, text, guidance_rescale=phi)


NOISE_STEPS = 20


def noise_of_a_run(shape: tuple[int, ...]) -> None:
    """Draw the keyed noise of every step of a run."""
    source = noise_source(torch.empty(shape), NOISE_STEPS, unseeded=1)
    for step in range(NOISE_STEPS):
        noise = source.at(step, 1.0)
        assert isinstance(noise, KeyedStep)
        noise.draw()


def noise_table(seconds: float) -> None:
    """Print the time of keyed noise and of torch's generator, which is not keyed and gives other numbers on a GPU."""
    rows = []
    generator = torch.Generator().manual_seed(1)

    def repeated(draw: Callable[[], object]) -> None:
        for _ in range(NOISE_STEPS):  # turns of about the same length meet about the same load
            draw()

    for shape in NOISE_SHAPES:
        single = partial(repeated, partial(ddim.keyed_noise, shape, 1, 2))
        randn = partial(repeated, partial(torch.randn, shape, generator=generator))
        times = interleaved((single, partial(noise_of_a_run, shape), randn), seconds)
        each = [time / NOISE_STEPS / torch.Size(shape).numel() * 1e9 for time in times]
        rows.append(("x".join(map(str, shape)), *(f"{time:.1f} ns" for time in each), f"{each[1] / each[2]:.1f}"))
    head = ("shape", "keyed_noise", "in a run of 20 steps", "torch.randn", "run / torch.randn")
    print_table("Keyed noise, per number", head, rows)


def import_table() -> None:
    """Print the time to import each library after torch."""
    rows = []
    for module in ("ddim", "diffusers.schedulers.scheduling_ddim"):
        code = f"import torch, time; began = time.perf_counter(); import {module}; print(time.perf_counter() - began)"
        found = [
            float(
                subprocess.run(
                    [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
                ).stdout
            )
            for _ in range(5)
        ]
        rows.append((f"import {module}", f"{sorted(found)[1] * 1e3:.0f} ms"))
    print_table("Import, beyond torch (target 50 ms)", ("module", "time"), rows)


def main(seconds: float = 0.6) -> None:
    """Print every table."""
    torch.set_num_threads(1)
    counts_table()
    host_table()
    steps_table(seconds)
    other_table(seconds)
    noise_table(seconds)
    import_table()


if __name__ == "__main__":
    main()

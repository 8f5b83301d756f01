"""Everything that needs a CUDA device, in one call of a few minutes: ``python -m bench.gpu``.

Kernel launches and synchronisations of a run, also of one that keeps a picture of every step, exactness of the noise,
noise without Triton, accuracy relative to float64 on the CPU, bandwidth relative to a copy on the device, time of a
step, and whole runs with and without a CUDA graph. Without a device, the result is 'not measured'.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

import ddim
from bench.timing import print_table
from ddim.noise.keyed import KeyedStep, NoiseKey, draw_by_torch
from ddim.step.apply import apply_step
from ddim.step.coefficients import coefficients_between
from ddim.step.equations import StepCoefficients
from ddim.step.x0 import Clip

SHAPE = (2, 4, 64, 64)
ITEMS = (
    "launches and synchronisations",
    "a picture of every step",
    "noise bits",
    "noise without Triton",
    "accuracy",
    "bandwidth",
    "time of a step",
    "CUDA graph",
)
STEP = coefficients_between(0.3, 0.4, "epsilon", 0.0)
NOISY = coefficients_between(0.3, 0.4, "epsilon", 1.0)


def milliseconds(run: Callable[[], object], repeats: int = 30) -> float:
    """Milliseconds of a call by the device's clock: the 20th percentile."""
    for _ in range(3):
        run()
    times = []
    for _ in range(repeats):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return sorted(times)[len(times) // 5]


def run_of(x: Tensor, steps: int, **options: Any) -> Callable[[], Tensor]:
    """Return a whole ``sample()`` run with a model of one operator, whose output is float16 unless x is float64."""
    scheduler = ddim.make_schedule(steps, ddim.SchedulerConfig(clip_sample=True)).scheduler(x.device)
    half = x.dtype == torch.float32
    return lambda: ddim.sample(lambda x, t: x.half() if half else x.half().double(), x, scheduler, **options)


def launches(run: Callable[[], object]) -> int:
    """Count the kernels that a call launches."""
    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as record:
        run()
        torch.cuda.synchronize()
    return sum(str(event.device_type).endswith("CUDA") and "mem" not in event.name.lower() for event in record.events())


def synchronisations(run: Callable[[], object]) -> str:
    """Return "0" if a call never makes the CPU wait for the device, else the first line of the error."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        run()
        return "0"
    except RuntimeError as error:
        return str(error).splitlines()[0]
    finally:
        torch.cuda.set_sync_debug_mode("default")


def launches_table() -> None:
    """Print launches per step, not counting the model's one launch, and synchronisations over a whole run."""
    x = torch.randn(SHAPE, device="cuda")
    rows = []
    for name, options in (("eta 0, clip", {}), ("eta 1, keyed noise, clip", {"eta": 1.0, "seed": 1})):
        few, many = (run_of(x, steps, **options) for steps in (10, 30))
        few(), many()
        rows.append((name, f"{(launches(many) - launches(few)) / 20 - 1:.2f}", synchronisations(many)))
    print_table(
        "sample() on float32 state, float16 output", ("run", "launches per step", "synchronisations per run"), rows
    )


def run_with_pictures(x: Tensor, steps: int, **options: Any) -> Callable[[], Tensor]:
    """Return a run like a node's: its callback makes a picture of x_0 of the first image at every step.

    The run returns the pictures, uint8, shape ``(steps, 3, H / 2, W / 2)``, still on the device of ``x``.
    """
    scheduler = ddim.make_schedule(steps, ddim.SchedulerConfig(clip_sample=True)).scheduler(x.device)
    colours = torch.linspace(-1.0, 1.0, 3 * x.shape[1]).view(3, x.shape[1], 1, 1).to(x.device)

    def run() -> Tensor:
        pictures: list[Tensor] = []

        def keep(i: int, t: Tensor, x_t: Tensor, x0: Tensor) -> None:
            small = torch.nn.functional.avg_pool2d(torch.conv2d(x0[:1], colours), 2)[0]
            pictures.append(((small + 1) * 127.5).clamp(0, 255).to(torch.uint8))

        ddim.sample(lambda x, t: torch.tanh(x), x, scheduler, callback=keep, **options)
        return torch.stack(pictures)

    return run


def pictures_table() -> None:
    """Print the synchronisations of runs that keep pictures, and compare the pictures with the CPU's."""
    x, rows = torch.randn(SHAPE), []
    for name, options in (("eta 0", {}), ("eta 1, keyed noise", {"eta": 1.0, "seed": 1})):
        run = run_with_pictures(x.cuda(), 20, **options)
        run()
        waits = synchronisations(run)
        here, there = run_with_pictures(x, 20, **options)(), run().cpu()  # the one transfer
        rows.append((name, waits, int((here.int() - there.int()).abs().max())))
    head = ("run of 20 steps", "synchronisations", "largest difference from the CPU, in 1/255")
    print_table("sample() with a picture of every step, kept on the device", head, rows)


def noise_draws(shape: tuple[int, ...], device: str) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    """Return two draws of the same noise: as a run makes it on this device, and by torch's operators."""
    key = NoiseKey.of(shape, 5, None, torch.device(device))

    def by_torch() -> Tensor:
        noise = torch.empty((1, *shape), dtype=torch.float32, device=device)
        draw_by_torch(noise, key.words, range(3, 4), key.images_on_device)
        return noise

    return lambda: key.draw(range(3, 4)), by_torch


def noise_table() -> None:
    """Compare the noise of the kernel with that of torch's operators: bits, bytes written per second, waiting."""
    rows = []
    for shape in ((1, 4, 64, 64), (8, 4, 128, 128), (1, 1 << 24)):
        kernel, operators = noise_draws(shape, "cuda")
        same = "same bits" if torch.equal(kernel(), operators()) else "DIFFERENT BITS"
        rates = [f"{4 * kernel().numel() / milliseconds(run) / 1e6:.1f} GB/s" for run in (kernel, operators)]
        rows.append(("x".join(map(str, shape)), same, *rates, synchronisations(operators)))
    head = ("shape", "bits", "Triton kernel", "torch's operators", "synchronisations of the operators")
    print_table("Keyed noise without Triton", head, rows)


def exactness_table() -> None:
    """Compare noise on the device with noise on the CPU, and steps and runs with float64 on the CPU."""
    rows: list[tuple[object, ...]] = []
    for shape, images in (((3, 4, 65, 63), [7, 0, 2**32 - 1]), ((1, 1 << 22), None)):
        here, there = (ddim.keyed_noise(shape, 5, 3, images, device=device).cpu() for device in ("cpu", "cuda"))
        same = torch.equal(here, there)
        rows.append((f"noise {shape}", "same bits" if same else "DIFFERENT BITS"))
    for name, run in variants().items():
        error = run(SHAPE, compare=True)
        rows.append((name, f"{error:.1e}"))
    x = torch.randn(SHAPE)
    ours, truth = (run_of(start, 50, eta=1.0, seed=1)() for start in (x.cuda(), x.double()))
    rows.append(("50 steps, eta 1, clip", f"{float((ours.double().cpu() - truth).abs().max()):.1e}"))
    print_table("Compared with the CPU in float64", ("operation", "largest difference"), rows)


def variants() -> dict[str, Callable[..., Any]]:
    """The kernel's variants: each returns a step to run, or the error of one step relative to float64 on the CPU."""

    def variant(step: StepCoefficients, source: str, clip: bool, guided: bool, half: bool) -> Callable[..., Any]:
        def run(shape: tuple[int, ...], *, compare: bool = False) -> Any:
            x = torch.randn(shape, device="cuda")
            m, text = (torch.randn(shape, device="cuda", dtype=torch.float16 if half else None) for _ in range(2))
            z = torch.randn(shape, device="cuda") if source == "given" else None
            keyed = KeyedStep(NoiseKey.of(shape, 1, None, x.device), 2)
            noise: Any = {"none": None, "given": z, "keyed": keyed}[source]
            output: Any = ddim.Guided(m, text, 7.5, 0.7) if guided else m
            process = Clip(1.0) if clip else None
            if not compare:
                out = torch.empty_like(x)
                return lambda: apply_step(step, x, output, process_x0=process, noise=noise, out=out)
            wide, wide_text = m.double().cpu(), text.double().cpu()
            plain = ddim.Guided(wide, wide_text, 7.5, 0.7).tensor() if guided else wide
            true_z = ddim.keyed_noise(shape, 1, 2) if z is None else z
            expected, _ = apply_step(step, x.double().cpu(), plain, process_x0=process, noise=true_z.double().cpu())
            result, _ = apply_step(step, x, output, process_x0=process, noise=noise)
            return float((result.double().cpu() - expected).abs().max() / expected.abs().max())

        return run

    return {
        "plain": variant(STEP, "none", False, False, False),
        "plain, float16 output": variant(STEP, "none", False, False, True),
        "clip": variant(STEP, "none", True, False, False),
        "noise given": variant(NOISY, "given", False, False, False),
        "keyed noise": variant(NOISY, "keyed", False, False, False),
        "CFG with rescale": variant(STEP, "none", False, True, False),
        "CFG with rescale, clip, keyed noise": variant(NOISY, "keyed", True, True, True),
    }


BYTES = {  # bytes moved per element: the reads and the write; guidance with rescale reads both outputs twice
    "plain": 12,
    "plain, float16 output": 10,
    "clip": 12,
    "noise given": 16,
    "keyed noise": 12,
    "CFG with rescale": 24,
    "CFG with rescale, clip, keyed noise": 16,
}


def copy_rate(count: int) -> float:
    """GB/s of a copy of ``count`` float32 numbers on the device, counting bytes read and written."""
    source, target = torch.randn(count, device="cuda"), torch.empty(count, device="cuda")
    return 8 * count / milliseconds(lambda: target.copy_(source)) / 1e6


def bandwidth_table(mebibytes: int) -> None:
    """Print the bandwidth of each variant relative to a copy on the device."""
    count = mebibytes * (1 << 18)
    copy = copy_rate(count)
    torch.cuda.empty_cache()
    rows: list[tuple[object, ...]] = [("copy", f"{copy:.0f} GB/s", "")]
    for name, variant in variants().items():
        rate = BYTES[name] * count / milliseconds(variant((1, count))) / 1e6
        mark = "" if rate >= 0.9 * copy else "  MISSED"
        rows.append((name, f"{rate:.0f} GB/s", f"{rate / copy:.0%}{mark}"))
        torch.cuda.empty_cache()
    print_table(
        f"Tensors of {mebibytes} MiB (target: 90 % of the copy)", ("step", "bandwidth", "relative to the copy"), rows
    )


def steps_table() -> None:
    """Print the time of a step at the sizes of latents, ours and diffusers'."""
    from bench.peer import CASES, SHAPES, step_runs

    rows = []
    for case in CASES[:5]:
        cells = []
        for shape in SHAPES:
            ours, theirs = (milliseconds(run) * 1e3 for run in step_runs(case, shape, "cuda"))
            cells.append(f"{ours:.0f} / {theirs:.0f} us")
        rows.append((case.name, *cells))
    print_table("One step, ddim / diffusers", ("case", *("x".join(map(str, s)) for s in SHAPES)), rows)


def graph_table() -> None:
    """Compare a whole run as separate launches with the same run as one graph."""
    x = torch.randn((1, 4, 64, 64), device="cuda")
    scheduler = ddim.make_schedule(50).scheduler("cuda")
    options: dict[str, Any] = {"eta": 1.0, "seed": 1}
    recorded = ddim.capture_sample(lambda x, t: torch.tanh(x), x, scheduler, **options)

    def plain() -> Tensor:
        return ddim.sample(lambda x, t: torch.tanh(x), x, scheduler, **options)

    same = torch.equal(recorded(x), plain())
    times = [f"{milliseconds(run):.2f} ms" for run in (plain, lambda: recorded(x))]
    print_table("50 steps, 1x4x64x64", ("separate launches", "CUDA graph", "same result"), [(*times, same)])


def main(arguments: list[str] | None = None) -> None:
    """Print every table, or a list of what is not measured."""
    parser = argparse.ArgumentParser("python -m bench.gpu", description=__doc__)
    parser.add_argument("--mebibytes", type=int, default=1024, help="size of the tensors of the bandwidth table")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print_table("GPU", ("measurement", "result"), [(item, "not measured") for item in ITEMS])
        return
    print(torch.cuda.get_device_name())
    launches_table()
    pictures_table()
    exactness_table()
    noise_table()
    bandwidth_table(options.mebibytes)
    steps_table()
    graph_table()


if __name__ == "__main__":
    main()

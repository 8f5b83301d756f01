"""Draw the pictures of the help pages: ``python -m bench.figures.help_pictures [name ...]``.

Every picture is produced by the core and the demo model; draw them again when either changes.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import torch
from matplotlib import pyplot as plt
from PIL import Image
from torch import Tensor

from bench.figures.strips import WIDTH, conditional, demo, digits, real_digits, strip, strips
from ddim import (
    DDIMScheduler,
    Schedule,
    SchedulerConfig,
    fit_timesteps,
    invert,
    make_schedule,
    reconstruct,
    sample,
    slerp,
)
from demo import UNCONDITIONAL, held_out_picture
from demo.data import load_scans
from demo.draw import draw_digits, initial_noise, make_scheduler

FOLDER = Path(__file__).resolve().parents[2] / "web" / "docs" / "pictures"
BLUE, GREY = "#2f80e0", "#888888"


def sd(**changes: Any) -> SchedulerConfig:
    """Return Stable Diffusion's settings, with changes."""
    settings: dict[str, Any] = {
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "clip_sample": False,
    }
    return SchedulerConfig(**{**settings, **changes})


def levels(schedule: Schedule) -> tuple[list[int], list[float]]:
    """Timesteps and alpha_bar of a schedule, for plotting."""
    return list(range(len(schedule.noise))), schedule.noise.alpha_bar.tolist()


def draw_schedule() -> None:
    """DDIM Schedule: the timesteps that each spacing visits."""
    _, axes = plt.subplots(1, 4, figsize=(WIDTH, 2.0), sharey=True)
    for ax, spacing in zip(axes, ("trailing", "leading", "linspace", "quad"), strict=True):
        schedule = make_schedule(10, sd(timestep_spacing=spacing))
        ax.plot(*levels(schedule), color=BLUE, lw=1.5)
        visited = schedule.plan.timesteps
        ax.plot(visited, schedule.alpha_bars[:-1], "o", color="black", ms=3)
        ax.vlines(visited, 0, schedule.alpha_bars[:-1], color=GREY, lw=0.6)
        ax.set_title(f"{spacing}\n{visited[0]} ... {visited[-1]}", fontsize=9)
        ax.set_xlim(1040, -40)
        ax.set_xticks([999, 500, 0])
        ax.set_xlabel("t", fontsize=8)
    axes[0].set_ylabel("share of the picture\n(alpha_bar)", fontsize=8)


def draw_config() -> None:
    """DDIM Schedule from Config: noise levels of four models."""
    configs: dict[str, dict[str, Any]] = {
        "Stable Diffusion": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
        "DDPM, pixels": {"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02},
        "cosine": {"beta_schedule": "squaredcos_cap_v2"},
        "SD 2 v-model, zero SNR": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012,
                                   "rescale_betas_zero_snr": True, "prediction_type": "v_prediction"},
    }  # fmt: skip
    _, ax = plt.subplots(figsize=(WIDTH, 2.6))
    for (name, config), style in zip(configs.items(), ("-", "--", ":", "-."), strict=True):
        schedule = make_schedule(20, SchedulerConfig(**config))
        ax.plot(*levels(schedule), style, label=name, lw=1.8)
    ax.set_xlim(1020, -20)
    ax.set_xlabel("timestep: noise on the left, picture on the right")
    ax.set_ylabel("alpha_bar")
    ax.legend(fontsize=8)


def draw_model_sampling() -> None:
    """DDIM Model Sampling: the range of brightness with the right and with the usual noise levels."""

    def dark_to_bright(zero_snr_fix: bool) -> Tensor:
        pictures = digits(list(range(10)) * 4, seed=11, steps=10, zero_snr_fix=zero_snr_fix)
        return pictures[pictures.mean(dim=(1, 2, 3)).argsort()][:: len(pictures) // 8][:8]

    strips({"as trained\n(zero SNR)": dark_to_bright(True), "usual levels,\nleading": dark_to_bright(False)})


def draw_sample() -> None:
    """DDIM KSampler: noisy and predicted pictures during a run."""
    labels, kept = [4, 7, 2], []
    scheduler = make_scheduler(demo(), 12)
    model = conditional(labels)
    sample(model, initial_noise(3, 5), scheduler, callback=lambda i, t, x_t, x0: kept.append((int(t), x_t, x0)))
    shown = kept[:: max(1, len(kept) // 6)] + kept[-1:]
    rows = {
        "noisy": torch.stack([x_t[0] for _, x_t, _ in shown]),
        "predicted": torch.stack([x[0] for _, _, x in shown]),
    }
    strips(rows, 1.05)
    for i, (t, _, _) in enumerate(shown):
        plt.gcf().axes[0].text(34 * i + 17, -3, f"t {t}", ha="center", fontsize=8)


def draw_step_strip() -> None:
    """DDIM Step Strip: what each of ten steps predicted, for three digits."""
    labels, kept = [4, 7, 2], []
    model = conditional(labels)
    sample(model, initial_noise(3, 5), make_scheduler(demo(), 10), callback=lambda i, t, x_t, x0: kept.append(x0))
    strips({f"image {i + 1}": torch.stack([x0[i] for x0 in kept]) for i in range(3)})


def draw_fit_steps() -> None:
    """DDIM Fit Steps: the same noises in few steps, spaced evenly and fitted to others, and in many."""
    model, steps = conditional([4, 7, 2, 9, 0, 6, 3, 8]), 5
    even, fitted, many = (make_scheduler(demo(), count) for count in (steps, steps, 60))
    fitted.set_plan(fit_timesteps(model, initial_noise(8, 1), many, steps))
    noise = initial_noise(8, 2)
    runs = {f"{steps} steps,\ntrailing": even, f"{steps} steps,\nfitted": fitted, "60 steps": many}
    strips({name: sample(model, noise, scheduler) for name, scheduler in runs.items()})


def draw_sampler() -> None:
    """DDIM Sampler: eta in one dimension with the exact model, for data near -1 and +1."""
    means, width = torch.tensor([-1.0, 1.0], dtype=torch.float64), 0.08
    _, axes = plt.subplots(1, 3, figsize=(WIDTH, 2.2), sharey=True)
    start = torch.linspace(-2.2, 2.2, 14, dtype=torch.float64)[:, None]
    for ax, eta in zip(axes, (0.0, 0.5, 1.0), strict=True):
        scheduler = DDIMScheduler.from_settings(sd(timestep_spacing="trailing"))
        scheduler.set_timesteps(60)
        paths = [start]

        def epsilon(x: Tensor, t: Tensor, scheduler: DDIMScheduler = scheduler) -> Tensor:
            alpha_bar = float(scheduler.alphas_cumprod[int(t)])
            spread = alpha_bar * width**2 + 1 - alpha_bar
            weights = torch.softmax(-((x - alpha_bar**0.5 * means) ** 2) / (2 * spread), dim=1)
            return (1 - alpha_bar) ** 0.5 * (weights * (x - alpha_bar**0.5 * means)).sum(1, keepdim=True) / spread

        def keep(i: int, t: Tensor, x: Tensor, x0: Tensor, paths: list[Tensor] = paths) -> None:
            paths.append(x)

        end = sample(epsilon, start, scheduler, eta=eta, seed=1, callback=keep)
        ax.plot(torch.stack([*paths[1:], end])[:, :, 0].numpy(), color=BLUE, lw=0.9, alpha=0.8)
        ax.set_title(f"eta {eta:g}", fontsize=9)
        ax.set_xlabel("step")
    axes[0].set_ylabel("x")


def draw_cfg_rescale() -> None:
    """DDIM CFG Rescale: low guidance, high guidance, high guidance with rescale."""
    labels = [3, 8, 1, 0, 7, 5, 2, 9]
    strips({
        "cfg 3": digits(labels, guidance_scale=3.0, guidance_rescale=0.0),
        "cfg 12": digits(labels, guidance_scale=12.0, guidance_rescale=0.0),
        "cfg 12,\nrescale 0.7": digits(labels, guidance_scale=12.0, guidance_rescale=0.7),
    })  # fmt: skip


def draw_check_model() -> None:
    """DDIM Check Model: weights of noise and picture, as each kind should have them and as the demo model has them."""
    from bench.guidance.readings import READINGS, ideal, measured

    _, axes = plt.subplots(figsize=(5.4, 3.0))
    for kind in READINGS:
        expected, found = ideal(kind), measured(kind)
        axes.plot(*expected, "o", color=GREY, markersize=14, fillstyle="none")
        axes.plot(found.noise_weight, found.picture_weight, "x", color=BLUE, markersize=9)
        axes.annotate(kind, expected, textcoords="offset points", xytext=(12, 6), fontsize=9)
    axes.set(xlabel="noise in the output", ylabel="picture in the output", xlim=(-0.3, 1.6), ylim=(-1.3, 1.3))
    axes.grid(alpha=0.3)


def inverted(method: str, steps: int = 20) -> tuple[Tensor, Tensor, Tensor, float]:
    """Invert and reconstruct: pictures, their noise, the reconstruction, and the mean error."""
    pictures, labels = real_digits()
    scheduler, model = make_scheduler(demo(), steps), conditional(labels)
    found = invert(model, pictures, scheduler, method=method, seed=1)
    back = reconstruct(model, found, scheduler)
    return pictures, found.latent, back, float(found.residual.sqrt().mean())


def draw_invert() -> None:
    """DDIM Invert: pictures, their noise and their reconstruction, for two methods."""
    pictures, _, _, _ = inverted("ddim")
    rows = {"picture": pictures}
    for method in ("ddim", "variance_noise"):
        _, noise, back, error = inverted(method)
        rows |= {f"{method}:\nnoise": noise / 2, f"back, error\n{error:.1e}": back}
    strips(rows)


def draw_save_noise() -> None:
    """DDIM Save Noise: pictures and the noise that is saved."""
    pictures, noise, _, _ = inverted("variance_noise")
    strips({"picture": pictures, "in the file": noise / 2})


def draw_load_noise() -> None:
    """DDIM Load Noise: noise, what sampling gives, and the difference from the original."""
    pictures, noise, back, _ = inverted("variance_noise")
    strips({"from the file": noise / 2, "sampled": back, "difference": (back - pictures).abs() - 1})


def draw_interpolate() -> None:
    """DDIM Interpolate: frames along the arc and along the straight line."""
    noise, steps = initial_noise(2, 21), 9
    arc = torch.cat([slerp(noise[:1], noise[1:], i / (steps - 1)) for i in range(steps)])
    line = torch.cat([noise[:1].lerp(noise[1:], i / (steps - 1)) for i in range(steps)])
    model = conditional([8] * steps)
    rows = {name: sample(model, x, make_scheduler(demo(), 20)) for name, x in (("slerp", arc), ("straight", line))}
    strips(rows)


def draw_demo_model() -> None:
    """DDIM Demo Model: thirty digits."""
    pictures = digits(list(range(10)) * 3, seed=4)
    strips({"": pictures[:10], " ": pictures[10:20], "  ": pictures[20:]}, 0.72)


def draw_demo_prompt() -> None:
    """DDIM Demo Prompt: the same noise with ten prompts, and no prompt."""
    noise = initial_noise(1, 8).expand(10, -1, -1, -1)
    scheduler = make_scheduler(demo(), 20)
    pictures = draw_digits(demo(), torch.arange(10), noise, scheduler)
    strips({"0 ... 9": pictures, "no digit": digits([UNCONDITIONAL] * 10, guidance_scale=1.0)})


def draw_demo_latent() -> None:
    """DDIM Demo Latent: initial noise of two seeds."""
    strips({"seed 1": initial_noise(8, 1) / 2, "seed 2": initial_noise(8, 2) / 2})


def draw_demo_picture() -> None:
    """DDIM Demo Picture: two scans of each digit."""
    strips({f"scan {i}": torch.stack([held_out_picture(label, i) for label in range(10)]) * 2 - 1 for i in (0, 5)})


def draw_demo_encode() -> None:
    """DDIM Demo Encode: scans, and what the model gets."""
    scans = load_scans("held_out").scans[:8].float()
    large = (scans / scans.amax()).reshape(8, 1, *scans.shape[-2:]).expand(-1, 3, -1, -1) * -2 + 1
    small = torch.nn.functional.interpolate(large, size=(32, 32), mode="bilinear", antialias=True)
    strips({f"{scans.shape[-1]}x{scans.shape[-2]}": large, "32x32": small})


def draw_demo_decode() -> None:
    """DDIM Demo Decode: one picture each, or a grid."""
    pictures = digits(list(range(10)), seed=6)
    rows = [torch.cat(list(pictures[i : i + 5]), dim=-1) for i in (0, 5)]
    _, axes = plt.subplots(1, 2, figsize=(WIDTH, 1.7), width_ratios=(1, 2.2))
    strip(axes[0], pictures[:1])
    strip(axes[1], torch.cat(rows, dim=-2)[None])
    axes[0].set_title("columns 0: one each", fontsize=9)
    axes[1].set_title("columns 5: a grid", fontsize=9)


PICTURES = {
    name.removeprefix("draw_"): draw
    for name, draw in list(globals().items())
    if name.startswith("draw_") and draw.__module__ == __name__
}


def save(path: Path) -> None:
    """Save the open figure as a small PNG with at most 128 colours."""
    buffer = io.BytesIO()
    plt.savefig(buffer, dpi=100, bbox_inches="tight", facecolor="white")
    plt.close("all")
    Image.open(buffer).convert("RGB").quantize(128).save(path, optimize=True)


def main(names: Sequence[str]) -> None:
    """Draw the named pictures, or all of them."""
    matplotlib.use("Agg")
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in names or PICTURES:
        PICTURES[name]()
        save(FOLDER / f"{name}.png")
        print(f"{name}: {(FOLDER / f'{name}.png').stat().st_size} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])

"""Draw the pictures of the help pages: ``python -m bench.figures.help_pictures [name ...]``.

Every picture is produced by the core and the demo model; draw them again when either changes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib import pyplot as plt
from PIL import Image
from torch import Tensor

from bench.figures.look import BLUE, DOTS, GREEN, GREY, ORANGE, axes_of, colours, plotted, set_style
from bench.figures.strips import WIDTH, conditional, demo, digits, emoji, real_digits, sheet, stacked
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
from demo import HELD_OUT, UNCONDITIONAL, held_out_emoji, held_out_picture
from demo.data import load_scans
from demo.draw import draw_digits, initial_noise, make_scheduler

FOLDER = Path(__file__).resolve().parents[2] / "web" / "docs" / "pictures"


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


def draw_schedule() -> Image.Image:
    """DDIM Schedule: the timesteps that each spacing visits."""
    _, grid = plt.subplots(2, 2, figsize=(WIDTH / DOTS, 2.9), sharey=True, sharex=True)
    for ax, spacing in zip(grid.flat, ("trailing", "leading", "linspace", "quad"), strict=True):
        schedule = make_schedule(10, sd(timestep_spacing=spacing))
        ax.plot(*levels(schedule), color=BLUE, lw=1.5)
        visited = schedule.plan.timesteps
        ax.vlines(visited, 0, schedule.alpha_bars[:-1], color=GREY, lw=0.6)
        ax.plot(visited, schedule.alpha_bars[:-1], "o", color=ORANGE, ms=4)
        ax.set_title(f"{spacing}: {visited[0]} ... {visited[-1]}")
        ax.set_xlim(1040, -40)
        ax.set_xticks([999, 0])
    return plotted()


def draw_config() -> Image.Image:
    """DDIM Schedule from Config: noise levels of four models."""
    configs: dict[str, dict[str, Any]] = {
        "Stable Diffusion": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
        "DDPM, pixels": {"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02},
        "cosine": {"beta_schedule": "squaredcos_cap_v2"},
        "zero SNR": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012,
                     "rescale_betas_zero_snr": True, "prediction_type": "v_prediction"},
    }  # fmt: skip
    (ax,) = axes_of(1, 2.3)
    for (name, config), style, colour in zip(
        configs.items(), ("-", "--", ":", "-."), (BLUE, ORANGE, GREEN, GREY), strict=True
    ):
        ax.plot(*levels(make_schedule(20, SchedulerConfig(**config))), style, color=colour, label=name, lw=2)
    ax.set_xlim(1020, -20)
    ax.set_xticks([999, 0], ["noise", "picture"])
    ax.legend(frameon=False, labelcolor=GREY)
    return plotted()


def draw_model_sampling() -> Image.Image:
    """DDIM Model Sampling: the range of brightness with the right and with the usual noise levels."""

    def dark_to_bright(zero_snr_fix: bool) -> Tensor:
        pictures = digits(list(range(10)) * 4, seed=11, steps=10, zero_snr_fix=zero_snr_fix)
        return pictures[pictures.mean(dim=(1, 2, 3)).argsort()][:: len(pictures) // 6][:6]

    return sheet({"as trained (zero SNR)": dark_to_bright(True), "usual levels, leading": dark_to_bright(False)})


def draw_sample() -> Image.Image:
    """DDIM KSampler: noisy and predicted pictures during a run."""
    labels, kept = [4, 7, 2], []
    scheduler = make_scheduler(demo(), 12)
    model = conditional(labels)
    sample(model, initial_noise(3, 5), scheduler, callback=lambda i, t, x_t, x0: kept.append((int(t), x_t, x0)))
    shown = kept[::2][:5] + kept[-1:]
    rows = {
        "noisy": torch.stack([x_t[0] for _, x_t, _ in shown]),
        "predicted": torch.stack([x[0] for _, _, x in shown]),
    }
    return sheet(rows, above=[f"t {t}" for t, _, _ in shown])


def draw_step_strip() -> Image.Image:
    """DDIM Step Strip: what each of ten steps predicted, for two digits."""
    labels, kept = [4, 7, 2], []
    model = conditional(labels)
    sample(model, initial_noise(3, 5), make_scheduler(demo(), 10), callback=lambda i, t, x_t, x0: kept.append(x0))
    return sheet({f"image {i + 1}": torch.stack([x0[i] for x0 in kept]) for i in range(2)})


def draw_fit_steps() -> Image.Image:
    """DDIM Fit Steps: the same noises in few steps, spaced evenly and fitted to others, and in many."""
    model, steps = conditional([4, 7, 2, 9, 0, 6, 3, 8]), 5
    even, fitted, many = (make_scheduler(demo(), count) for count in (steps, steps, 60))
    fitted.set_plan(fit_timesteps(model, initial_noise(8, 1), many, steps))
    noise = initial_noise(8, 2)
    runs = {f"{steps} steps, trailing": even, f"{steps} steps, fitted": fitted, "60 steps": many}
    return sheet({name: sample(model, noise, scheduler)[:6] for name, scheduler in runs.items()})


def draw_sampler() -> Image.Image:
    """DDIM Sampler: eta in one dimension with the exact model, for data near -1 and +1."""
    means, width = torch.tensor([-1.0, 1.0], dtype=torch.float64), 0.08
    start = torch.linspace(-2.2, 2.2, 14, dtype=torch.float64)[:, None]
    for ax, eta in zip(axes_of(3, 1.7, sharey=True), (0.0, 0.5, 1.0), strict=True):
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
        ax.plot(torch.stack([*paths[1:], end])[:, :, 0].numpy(), color=BLUE, lw=0.9)
        ax.set_title(f"eta {eta:g}")
        ax.set_xticks([0, 60])
        ax.set_yticks([-1, 1])
    return plotted()


def draw_cfg_rescale() -> Image.Image:
    """DDIM CFG Rescale: low guidance, high guidance, high guidance with rescale."""
    labels = [3, 8, 1, 0, 7, 5]
    return sheet({
        "cfg 3": digits(labels, guidance_scale=3.0, guidance_rescale=0.0),
        "cfg 12": digits(labels, guidance_scale=12.0, guidance_rescale=0.0),
        "cfg 12, rescale 0.7": digits(labels, guidance_scale=12.0, guidance_rescale=0.7),
    })  # fmt: skip


def draw_check_model() -> Image.Image:
    """DDIM Check Model: weights of noise and picture, as each kind should have them and as the demo model has them."""
    from bench.guidance.readings import READINGS, ideal, measured

    names = {"v_prediction": "v", "sample": "x0", "flow_prediction": "flow"}
    (ax,) = axes_of(1, 2.6)
    for kind in READINGS:
        expected, found = ideal(kind), measured(kind)
        ax.plot(*expected, "o", color=GREY, markersize=14, fillstyle="none", markeredgewidth=2)
        ax.plot(found.noise_weight, found.picture_weight, "x", color=ORANGE, markersize=9, markeredgewidth=2)
        ax.annotate(names.get(kind, kind), expected, textcoords="offset points", xytext=(12, 6), color=GREY)
    ax.set(xlabel="noise in the output", ylabel="picture", xlim=(-0.3, 1.7), ylim=(-1.4, 1.4), xticks=[0, 1])
    ax.set_yticks([-1, 0, 1])
    ax.grid(color=GREY, alpha=0.3)
    return plotted()


def inverted(method: str, steps: int = 20) -> tuple[Tensor, Tensor, Tensor, float]:
    """Invert and reconstruct: pictures, their noise, the reconstruction, and the mean error."""
    pictures, labels = real_digits()
    scheduler, model = make_scheduler(demo(), steps), conditional(labels)
    found = invert(model, pictures, scheduler, method=method, seed=1)
    back = reconstruct(model, found, scheduler)
    return pictures, found.latent, back, float(found.residual.sqrt().mean())


def draw_invert() -> Image.Image:
    """DDIM Invert: pictures, their noise and their reconstruction, for two methods."""
    pictures, _, _, _ = inverted("ddim")
    rows = {"picture": pictures}
    for method in ("ddim", "variance_noise"):
        _, noise, back, error = inverted(method)
        rows |= {f"{method}: the noise": noise / 2, f"{method}: back, error {error:.1e}": back}
    return sheet(rows)


def draw_save_noise() -> Image.Image:
    """DDIM Save Noise: pictures and the noise that is saved."""
    pictures, noise, _, _ = inverted("variance_noise")
    return sheet({"picture": pictures, "in the file": noise / 2})


def draw_load_noise() -> Image.Image:
    """DDIM Load Noise: noise, what sampling gives, and the difference from the original."""
    pictures, noise, back, _ = inverted("variance_noise")
    return sheet({"from the file": noise / 2, "sampled": back, "difference": (back - pictures).abs() - 1})


def draw_interpolate() -> Image.Image:
    """DDIM Interpolate: frames along the arc and along the straight line."""
    noise, steps = initial_noise(2, 21), 6
    arc = torch.cat([slerp(noise[:1], noise[1:], i / (steps - 1)) for i in range(steps)])
    line = torch.cat([noise[:1].lerp(noise[1:], i / (steps - 1)) for i in range(steps)])
    model = conditional([8] * steps)
    ways = {"along the arc (slerp)": arc, "along the straight line": line}
    return sheet({name: sample(model, x, make_scheduler(demo(), 20)) for name, x in ways.items()})


def draw_demo_model() -> Image.Image:
    """DDIM Demo Model: fifteen digits and fifteen emoji."""
    words = (
        "rocket|octopus in pink|any smiling face|tiger face|any heart|unicorn face|pineapple in green|guitar|penguin|"
    )
    words += "any book|sauropod in purple|lion face|umbrella|avocado|owl in blue"
    return stacked(
        [sheet({"": digits(list(range(10)) * 2, seed=4)[:15]}, most=5), sheet({"": emoji(words.split("|"))}, most=5)]
    )


def draw_demo_prompt() -> Image.Image:
    """DDIM Demo Prompt: the same noise with ten prompts, and no prompt."""
    noise = initial_noise(1, 8).expand(10, -1, -1, -1)
    pictures = draw_digits(demo(), torch.arange(10), noise, make_scheduler(demo(), 20))
    no_prompt = digits([UNCONDITIONAL] * 5, guidance_scale=1.0)
    return sheet({"0 ... 9, the same noise": pictures, "no digit, five noises": no_prompt})


def draw_demo_text_prompt() -> Image.Image:
    """DDIM Demo Text Prompt: the same noise with four names, in their own colours and in tints."""
    names = ["tiger face", "rocket", "octopus", "strawberry"]
    rows = {", ".join(names): emoji(names)}
    rows |= {f"... in {tint}": emoji([f"{name} in {tint}" for name in names]) for tint in ("blue", "pink")}
    return sheet(rows, most=len(names))


def draw_demo_emoji() -> Image.Image:
    """DDIM Demo Emoji: the twelve that the model has not seen."""
    return sheet({"": torch.stack([held_out_emoji(name) for name in HELD_OUT]) * 2 - 1})


def draw_demo_latent() -> Image.Image:
    """DDIM Demo Latent: initial noise of two seeds."""
    return sheet({"seed 1": initial_noise(5, 1) / 2, "seed 2": initial_noise(5, 2) / 2})


def draw_demo_picture() -> Image.Image:
    """DDIM Demo Picture: two scans of each digit."""
    scans = {i: torch.stack([held_out_picture(label, i) for label in range(10)]) * 2 - 1 for i in (0, 5)}
    return sheet({f"scan {i}": pictures for i, pictures in scans.items()})


def draw_demo_encode() -> Image.Image:
    """DDIM Demo Encode: scans, and what the model gets."""
    scans = load_scans("held_out").scans[:6].float()
    large = (scans / scans.amax()).reshape(6, 1, *scans.shape[-2:]).expand(-1, 3, -1, -1) * -2 + 1
    small = torch.nn.functional.interpolate(large, size=(32, 32), mode="bilinear", antialias=True)
    return sheet({f"{scans.shape[-1]}x{scans.shape[-2]}": large, "32x32": small})


def draw_demo_decode() -> Image.Image:
    """DDIM Demo Decode: one picture each, or a grid."""
    pictures = digits(list(range(10)), seed=6)
    grid = torch.cat([torch.cat(list(pictures[i : i + 5]), dim=-1) for i in (0, 5)], dim=-2)
    return stacked([sheet({"columns 0: one each": pictures[:4]}), sheet({"columns 5: one grid": grid[None]})])


PICTURES = {
    name.removeprefix("draw_"): draw
    for name, draw in list(globals().items())
    if name.startswith("draw_") and draw.__module__ == __name__
}


def main(names: Sequence[str]) -> None:
    """Draw the named pictures, or all of them."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    set_style()
    for name in names or PICTURES:
        colours(PICTURES[name]()).save(FOLDER / f"{name}.png", optimize=True)
        print(f"{name}: {(FOLDER / f'{name}.png').stat().st_size} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])

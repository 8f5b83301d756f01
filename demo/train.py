"""Train the demo model from scratch: ``python -m demo.train``.

The default arguments produce the weight file that ships with the project. All randomness derives from ``--seed`` and
the step number. An interrupted training therefore resumes where it stopped and ends with the same weights, and two
trainings on one machine agree to the last bit. Other processors and torch releases round differently; there, the loss
curves agree closely but not exactly.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, fields
from pathlib import Path

import torch
from torch import Tensor, nn

from ddim import make_noise_schedule

from .data import CLASS_NAMES, DigitScans, data_hash, draw_tones, load_scans, render, stroke_masks
from .network import UNCONDITIONAL
from .training_state import (
    PRECISIONS,
    Training,
    TrainingOptions,
    resume_training,
    save_training,
    start_training,
)
from .weights_file import DEFAULT_WEIGHTS, SCHEDULER_CONFIG, save_weights

__all__ = ["alpha_bar", "main", "train"]

GRADIENT_CLIP = 1.0
STEPS_BETWEEN_CHECKPOINTS = 500


def alpha_bar() -> Tensor:
    """Return the noise schedule of the training, (1000,) float64; its last element is exactly zero."""
    settings = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "rescale_betas_zero_snr")
    return make_noise_schedule(**{name: SCHEDULER_CONFIG[name] for name in settings}).alpha_bar


def train(training: Training, scans: DigitScans, on_step: Callable[[int, float], None]) -> None:
    """Train until the last step.

    The batch is divided into equal parts, each computed by a single thread. On a busy machine this is many times faster
    than two threads inside every layer, which would wait for each other hundreds of times per step. It also makes the
    result independent of the number of cores.

    Args:
        training: The state to continue from; changed in place.
        scans: The training data.
        on_step: Called with the number of completed steps and the last loss.
    """
    options, device = training.options, next(training.network.parameters()).device
    masks, levels = stroke_masks(scans.scans), alpha_bar()
    signal, noise_share = levels.sqrt().float().to(device), (1.0 - levels).sqrt().float().to(device)
    threads_before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(options.parts, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            while training.step < options.steps:
                batch = draw_batch(options, training.step, masks, scans.labels)
                loss = _train_step(training, batch, signal, noise_share, pool)
                training.step += 1
                on_step(training.step, loss)
    finally:
        torch.set_num_threads(threads_before)


def draw_batch(options: TrainingOptions, step: int, masks: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
    """Draw the batch of one step; it depends only on the seed and the step number.

    Timesteps are stratified over the batch (one from each of B equal intervals), which lowers the variance of the
    gradient.

    Returns:
        Pictures (B, 3, 32, 32), labels (B,), some of them dropped, timesteps (B,), and noise in the pictures' shape.
    """
    generator = torch.Generator().manual_seed(options.seed * 1_000_003 + step)
    count = options.batch_size
    chosen = torch.randint(len(labels), (count,), generator=generator)
    pictures = render(masks[chosen], draw_tones(count, generator))
    dropped = torch.rand(count, generator=generator) < options.label_dropout
    label = torch.where(dropped, UNCONDITIONAL, labels[chosen])
    spread = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    timestep = (spread * SCHEDULER_CONFIG["num_train_timesteps"]).long()
    return pictures, label, timestep, torch.randn(pictures.shape, generator=generator)


def _train_step(
    training: Training,
    batch: tuple[Tensor, ...],
    signal: Tensor,
    noise_share: Tensor,
    pool: ThreadPoolExecutor,
) -> float:
    """Make one step of AdamW with the mean gradient over the parts of the batch."""
    parameters = list(training.network.parameters())
    parts = zip(*(tensor.to(signal.device).chunk(training.options.parts) for tensor in batch), strict=True)

    def loss_and_gradients(part: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        loss = velocity_loss(training, part, signal, noise_share)
        return loss.detach(), torch.autograd.grad(loss, parameters)

    losses, gradients = zip(*pool.map(loss_and_gradients, parts), strict=True)
    for parameter, *of_parts in zip(parameters, *gradients, strict=True):
        parameter.grad = torch.stack(of_parts).mean(dim=0)
    for group in training.optimizer.param_groups:
        group["lr"] = learning_rate(training.options, training.step)
    nn.utils.clip_grad_norm_(parameters, GRADIENT_CLIP)
    training.optimizer.step()
    _update_average(training)
    return torch.stack(losses).mean().item()


def velocity_loss(training: Training, batch: tuple[Tensor, ...], signal: Tensor, noise_share: Tensor) -> Tensor:
    """Compute the mean squared error of v (Salimans and Ho 2022, appendix D).

    x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) eps,   v = sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x_0.
    At the last timestep alpha_bar is 0: the input is pure noise and the target is -x_0.
    """
    pictures, label, timestep, noise = batch
    a, s = signal[timestep][:, None, None, None], noise_share[timestep][:, None, None, None]
    precision = PRECISIONS[training.options.precision]
    with torch.autocast(pictures.device.type, precision, enabled=precision != torch.float32):
        v = training.network(a * pictures + s * noise, timestep, label)
    return (v.float() - (a * noise - s * pictures)).square().mean()


def learning_rate(options: TrainingOptions, step: int) -> float:
    """Return the learning rate: linear warm-up, a plateau, then linear decay to zero."""
    rise = (step + 1) / options.warmup_steps
    fall = (options.steps - step) / (options.steps * options.decay_share)
    return options.learning_rate * min(1.0, rise, fall)


@torch.no_grad()
def _update_average(training: Training) -> None:
    """Update the exponential moving average of the weights; its window starts short, to forget the random start."""
    decay = min(training.options.average_decay, (training.step + 1) / (training.step + 10))
    current = training.network.state_dict()
    torch._foreach_lerp_(list(training.average.values()), [current[name] for name in training.average], 1.0 - decay)


def training_metadata(training: Training, scans: DigitScans, command: str) -> dict[str, str]:
    """Describe how the weights were made, for the weight file's metadata."""
    made_with = {"torch": torch.__version__, "steps_done": training.step}
    return {
        "class_names": json.dumps(CLASS_NAMES),
        "data_sha256": data_hash(scans),
        "training_command": command,
        "training_options": json.dumps(asdict(training.options) | made_with),
    }


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line; every field of `TrainingOptions` is an argument."""
    parser = argparse.ArgumentParser("python -m demo.train", description=__doc__.split("\n")[0])
    for field in fields(TrainingOptions):
        choices = tuple(PRECISIONS) if field.name == "precision" else None
        parser.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=type(field.default),
            default=field.default,
            choices=choices,
            help="(default: %(default)s)",
        )
    parser.add_argument("--output", type=Path, default=DEFAULT_WEIGHTS, help="weight file (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> None:
    """Train with a progress bar, saving the state every few hundred steps, and write the weights at the end."""
    from tqdm import tqdm

    parsed = parse_arguments(arguments)
    options = TrainingOptions(**{field.name: getattr(parsed, field.name) for field in fields(TrainingOptions)})
    state = parsed.output.with_suffix(".training.safetensors")
    resumed = state.exists()
    training = resume_training(state, options, parsed.device) if resumed else start_training(options, parsed.device)
    scans = load_scans("train")
    recent: list[float] = []

    with tqdm(total=options.steps, initial=training.step, unit="step", mininterval=1.0) as bar:

        def on_step(step: int, loss: float) -> None:
            recent.append(loss)
            del recent[:-100]
            bar.set_postfix(loss=f"{sum(recent) / len(recent):.4f}", refresh=False)
            bar.update()
            if step % STEPS_BETWEEN_CHECKPOINTS == 0:
                save_training(training, state)

        train(training, scans, on_step)
    command = " ".join(["python -m demo.train", *arguments])
    save_weights(
        parsed.output,
        training.average,
        training.network.architecture,
        training_metadata(training, scans, command),
    )
    state.unlink(missing_ok=True)
    print(f"weights: {parsed.output}")


if __name__ == "__main__":
    main(sys.argv[1:])

"""Train a demo model from scratch: ``python -m demo.train --model emoji``.

The default arguments produce the weight files that ship with the project. All randomness derives from ``--seed`` and
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
from dataclasses import asdict, fields, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from ddim import make_noise_schedule

from .training.digits import DIGITS
from .training.emoji import EMOJI
from .training.recipe import PRECISIONS, Batch, Batches, TrainingOptions
from .training.state import Training, resume_training, save_training, start_training
from .weights_file import SCHEDULER_CONFIG

__all__ = ["alpha_bar", "main", "train"]

GRADIENT_CLIP = 1.0
STEPS_BETWEEN_CHECKPOINTS = 500
RECIPES = {"digits": DIGITS, "emoji": EMOJI}


def alpha_bar() -> Tensor:
    """Return the noise schedule of the training, (1000,) float64; its last element is exactly zero."""
    settings = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "rescale_betas_zero_snr")
    return make_noise_schedule(**{name: SCHEDULER_CONFIG[name] for name in settings}).alpha_bar


def train(training: Training, batches: Batches, on_step: Callable[[int, float], None]) -> None:
    """Train until the last step.

    The batch is divided into equal parts, each computed by a single thread. On a busy machine this is many times faster
    than two threads inside every layer, which would wait for each other hundreds of times per step. It also makes the
    result independent of the number of cores.

    Args:
        training: The state to continue from; changed in place.
        batches: The training data.
        on_step: Called with the number of completed steps and the last loss.
    """
    options, device = training.options, next(training.network.parameters()).device
    levels = alpha_bar()
    signal, noise_share = levels.sqrt().float().to(device), (1.0 - levels).sqrt().float().to(device)
    threads_before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(options.parts, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            while training.step < options.steps:
                batch = batches.draw(options, training.step)
                loss = _train_step(training, batch, signal, noise_share, pool)
                training.step += 1
                on_step(training.step, loss)
    finally:
        torch.set_num_threads(threads_before)


def _train_step(
    training: Training,
    batch: Batch,
    signal: Tensor,
    noise_share: Tensor,
    pool: ThreadPoolExecutor,
) -> float:
    """Make one step of AdamW with the mean gradient over the parts of the batch."""
    parameters = list(training.network.parameters())
    chunks = zip(*(tensor.to(signal.device).chunk(training.options.parts) for tensor in batch), strict=True)
    parts = [Batch(*tensors) for tensors in chunks]

    def loss_and_gradients(part: Batch) -> tuple[Tensor, tuple[Tensor, ...]]:
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


def velocity_loss(training: Training, batch: Batch, signal: Tensor, noise_share: Tensor) -> Tensor:
    """Compute the mean squared error of v (Salimans and Ho 2022, appendix D).

    x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) eps,   v = sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x_0.
    At the last timestep alpha_bar is 0: the input is pure noise and the target is -x_0.
    """
    pictures, condition, timestep, noise = batch
    a, s = signal[timestep][:, None, None, None], noise_share[timestep][:, None, None, None]
    precision = PRECISIONS[training.options.precision]
    with torch.autocast(pictures.device.type, precision, enabled=precision != torch.float32):
        v = training.network(a * pictures + s * noise, timestep, condition)
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


def training_metadata(training: Training, batches: Batches, command: str) -> dict[str, str]:
    """Describe how the weights were made, for the weight file's metadata."""
    made_with = {"torch": torch.__version__, "steps_done": training.step}
    return {
        **batches.metadata(),
        "training_command": command,
        "training_options": json.dumps(asdict(training.options) | made_with),
    }


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line; every field of `TrainingOptions` is an argument, with the recipe's value as default."""
    parser = argparse.ArgumentParser("python -m demo.train", description=__doc__.split("\n")[0])
    parser.add_argument("--model", choices=tuple(RECIPES), default="digits", help="(default: %(default)s)")
    for field in fields(TrainingOptions):
        defaults = ", ".join(f"{getattr(recipe.options, field.name)} for {name}" for name, recipe in RECIPES.items())
        parser.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=type(field.default),
            choices=tuple(PRECISIONS) if field.name == "precision" else None,
            help=f"(default: {defaults})",
        )
    parser.add_argument("--output", type=Path, help="weight file (default: the one that ships with the project)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> None:
    """Train with a progress bar, saving the state every few hundred steps, and write the weights at the end."""
    from tqdm import tqdm

    parsed = parse_arguments(arguments)
    recipe = RECIPES[parsed.model]
    given = {field.name: getattr(parsed, field.name) for field in fields(TrainingOptions)}
    options = replace(recipe.options, **{name: value for name, value in given.items() if value is not None})
    output = parsed.output or recipe.weights
    state = output.with_suffix(".training.safetensors")
    batches = recipe.load()
    build = partial(recipe.build, batches)
    if state.exists():
        training = resume_training(state, options, build, parsed.device)
    else:
        training = start_training(options, build, parsed.device)
    recent: list[float] = []

    with tqdm(total=options.steps, initial=training.step, unit="step", mininterval=1.0) as bar:

        def on_step(step: int, loss: float) -> None:
            recent.append(loss)
            del recent[:-100]
            bar.set_postfix(loss=f"{sum(recent) / len(recent):.4f}", refresh=False)
            bar.update()
            if step % STEPS_BETWEEN_CHECKPOINTS == 0:
                save_training(training, state)

        train(training, batches, on_step)
    command = " ".join(["python -m demo.train", *arguments])
    recipe.save(output, training.average, training.network, training_metadata(training, batches, command))
    state.unlink(missing_ok=True)
    print(f"weights: {output}")


if __name__ == "__main__":
    main(sys.argv[1:])

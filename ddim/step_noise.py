"""Where the noise of a scheduler's step comes from, and the checks on what a caller hands in."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .coefficients import Eta
from .config import SchedulerConfig
from .errors import DDIMError
from .noise import generator_noise, keyed_noise
from .tensor_ops import working_dtype

__all__ = ["Generators", "RunNoise", "check_sources", "check_tensors", "drawn_noise"]

Generators = torch.Generator | Sequence[torch.Generator]


def check_tensors(model_output: Tensor, sample: Tensor, out: Tensor | None = None) -> None:
    """See that a model output belongs to a sample, and that the result fits where it is to be written.

    Raises:
        DDIMError: for other shapes or devices, or numbers that are not floating point.
    """
    shape, device = sample.shape, sample.device
    if model_output.shape != shape or model_output.device != device:
        raise DDIMError(
            f"model_output must have the sample's shape and device, {tuple(shape)} on {device}, got "
            f"{tuple(model_output.shape)} on {model_output.device}"
            + ("; drop the learned variance channels" if _has_variance_channels(model_output, sample) else "")
        )
    if not (sample.is_floating_point() and model_output.is_floating_point()):
        raise DDIMError(f"sample and model_output must be floating point, got {sample.dtype} and {model_output.dtype}")
    if out is not None and (out.shape != shape or out.dtype != sample.dtype or out.device != device):
        raise DDIMError(
            f"out must have the sample's shape, dtype and device, {tuple(shape)}, {sample.dtype} on {device}, got "
            f"{tuple(out.shape)}, {out.dtype} on {out.device}"
        )


def _has_variance_channels(model_output: Tensor, sample: Tensor) -> bool:
    return sample.ndim > 1 and model_output.ndim > 1 and model_output.shape[1] == 2 * sample.shape[1]


def check_sources(sample: Tensor, generator: Generators | None, variance_noise: Tensor | None) -> None:
    """See that at most one source of noise is given, and that given noise fits; whatever eta is.

    Raises:
        DDIMError: otherwise.
    """
    if variance_noise is None:
        return
    if generator is not None:
        raise DDIMError("give generator or variance_noise, not both: each would decide the step's noise")
    if not variance_noise.is_floating_point():
        raise DDIMError(f"variance_noise must be floating point, got {variance_noise.dtype}")
    if variance_noise.shape != sample.shape or variance_noise.device != sample.device:
        raise DDIMError(
            f"variance_noise must have the sample's shape and device, {tuple(sample.shape)} on "
            f"{sample.device}, got {tuple(variance_noise.shape)} on {variance_noise.device}"
        )


def drawn_noise(sample: Tensor, generator: Generators, dtype: torch.dtype | None = None) -> Tensor:
    """Noise from a caller's generators.

    Args:
        sample: shape ``(B, ...)``.
        generator: one, or one per image.
        dtype: to draw in; by default float32, so that the noise does not depend on the sample's dtype.
    """
    if not isinstance(generator, torch.Generator) and len(generator) == 1:
        generator = generator[0]
    if dtype is None or dtype == torch.float32:
        return generator_noise(sample.shape, generator, sample.device, working_dtype(sample.dtype))
    if isinstance(generator, torch.Generator):
        return torch.randn(sample.shape, generator=generator, device=generator.device, dtype=dtype).to(sample.device)
    rows = [drawn_noise(row[None], one, dtype) for row, one in zip(sample, generator, strict=True)]
    return torch.cat(rows)


class RunNoise:
    """The step noise of one run of a scheduler: given, drawn by the caller's generators, or keyed.

    Args:
        index: position in the plan by timestep.
        first: index of the plan's first step in the whole run.
        run: which run of the scheduler this is.
        settings: of the scheduler.
    """

    def __init__(self, index: dict[int, int], first: int, run: int, settings: SchedulerConfig) -> None:
        self._index, self._first, self._run = index, first, run
        self._total = settings.num_train_timesteps
        self._as_diffusers = settings.parity == "diffusers"

    def key(self) -> int:
        """Seed of the keyed noise: it follows ``torch.manual_seed``, and differs from run to run."""
        return torch.initial_seed() ^ (self._run << 40)

    def step_number(self, t: int) -> int:
        """Which step of the whole run a timestep is; timesteps outside the plan (parity) come after all of them."""
        return self._first + self._index.get(t, self._total + t)

    def of_batch(
        self,
        t: int,
        sigma: float,
        sample: Tensor,
        model_output: Tensor,
        generator: Generators | None,
        variance_noise: Tensor | None,
    ) -> Tensor | None:
        """The noise of a step for the whole batch; None where it would be multiplied by 0."""
        check_sources(sample, generator, variance_noise)
        if sigma == 0.0:
            return None
        if variance_noise is not None:
            return variance_noise
        if generator is not None:
            # diffusers draws in the model's dtype, and so do we where its old images are wanted back.
            return drawn_noise(sample, generator, model_output.dtype if self._as_diffusers else None)
        dtype = working_dtype(sample.dtype)
        return keyed_noise(sample.shape, self.key(), self.step_number(t), device=sample.device, dtype=dtype)

    def of_images(
        self,
        timesteps: int | Tensor,
        eta: Eta,
        sample: Tensor,
        model_output: Tensor,
        generator: Generators | None,
        variance_noise: Tensor | None,
    ) -> Tensor | None:
        """The noise of a step with a timestep per image: what each image would get alone at its step.

        Raises:
            DDIMError: inside ``torch.compile``, unless eta is 0 or the noise is given: drawing cannot be traced.
        """
        sigma = 0.0 if eta == 0.0 else 1.0
        if sigma == 0.0 or variance_noise is not None:
            return self.of_batch(0, sigma, sample, model_output, generator, variance_noise)
        if torch.compiler.is_compiling():
            raise DDIMError("inside torch.compile a step with eta above 0 needs variance_noise")
        if generator is not None:
            return self.of_batch(0, sigma, sample, model_output, generator, None)
        rows = [
            keyed_noise((1, *sample.shape[1:]), self.key(), self.step_number(t), [image])
            for image, t in enumerate(torch.as_tensor(timesteps).flatten().tolist())
        ]
        return torch.cat(rows).to(device=sample.device, dtype=working_dtype(sample.dtype))

"""Where a run takes the noise of its steps from: one object, chosen once."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from ..arguments import check_tensor, fits, refuse_pair
from ..errors import DDIMError, show
from .keyed import DrawnAhead, KeyedStep, NoiseKey
from .recorded import VarianceNoise

__all__ = [
    "GeneratorNoise",
    "Generators",
    "KeyedNoise",
    "NoiseSource",
    "RecordedNoise",
    "check_generators",
    "check_variance_noise",
    "noise_source",
]

Generators = torch.Generator | Sequence[torch.Generator]


class NoiseSource(Protocol):
    """The noise of every step of a run."""

    def at(self, step: int, sigma: float) -> Tensor | KeyedStep | None:
        """z of a step, shape ``(B, ...)``, or the key to draw it from; None where there is nothing to add.

        Args:
            step: index in the plan.
            sigma: what z will be multiplied by.
        """
        ...


@dataclass(frozen=True)
class KeyedNoise:
    """Noise of a seed, see :func:`ddim.keyed_noise`.

    Attributes:
        key: of the run.
        first: index of the plan's first step in the whole run.
        steps: of the plan, whose noise may be drawn ahead.
    """

    key: NoiseKey
    first: int = 0
    steps: int = 0
    _ahead: DrawnAhead = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ahead", DrawnAhead(self.first + self.steps))

    def at(self, step: int, sigma: float) -> KeyedStep | None:
        """The key of the step."""
        return KeyedStep(self.key, self.first + step, self._ahead) if sigma != 0.0 else None


@dataclass(frozen=True)
class GeneratorNoise:
    """Noise drawn by the caller's generators: one, or one per image.

    Attributes:
        generator: a CPU generator draws on the CPU for any device.
        shape: ``(B, ...)``.
        device: of the noise.
        dtype: to draw in; float32 gives the same noise for every dtype of the sample.
        unused_draws: steps at which the generators advance although sigma is 0 (parity with diffusers).
    """

    generator: Generators
    shape: torch.Size
    device: torch.device
    dtype: torch.dtype = torch.float32
    unused_draws: Collection[int] = ()

    def __post_init__(self) -> None:
        if isinstance(self.generator, torch.Generator):
            return
        images = self.shape[0] if self.shape else 1
        if len(check_generators(self.generator)) != images:
            raise DDIMError(
                f"a list of generators must hold one per image: {images} expected, got {len(self.generator)}"
            )

    def at(self, step: int, sigma: float) -> Tensor | None:
        """Fresh noise: two calls for one step give two."""
        if sigma == 0.0 and step not in self.unused_draws:
            return None
        if isinstance(self.generator, torch.Generator):
            noise = self._drawn(self.generator, self.shape)
        else:
            rows = [self._drawn(one, torch.Size((1, *self.shape[1:]))) for one in self.generator]
            noise = torch.cat(rows) if rows else torch.empty(self.shape, device=self.device)
        return noise if sigma != 0.0 else None

    def _drawn(self, generator: torch.Generator, shape: torch.Size) -> Tensor:
        noise = torch.randn(shape, generator=generator, device=generator.device, dtype=self.dtype)
        return noise if noise.device == self.device else noise.to(self.device)


@dataclass(frozen=True)
class RecordedNoise:
    """Noise that is given, shape ``(S, B, ...)``; a :class:`VarianceNoise` brings the residual of its last step."""

    noise: Tensor
    device: torch.device

    def at(self, step: int, sigma: float) -> Tensor | None:
        """The row of a step."""
        used = sigma != 0.0 or isinstance(self.noise, VarianceNoise)
        if not used:
            return None
        row = self.noise[step]
        return row if row.device == self.device else row.to(self.device)


def noise_source(
    x: Tensor,
    steps: int,
    *,
    unseeded: int,
    first: int = 0,
    seed: int | None = None,
    generator: Generators | None = None,
    variance_noise: Tensor | None = None,
    image_indices: Sequence[int] | None = None,
    unused_draws: Collection[int] = (),
) -> NoiseSource:
    """The noise of a run from ``x``, from what the caller gave.

    Args:
        x: the sample, shape ``(B, ...)``.
        steps: of the plan.
        unseeded: the seed where nothing is given.
        first: index of the plan's first step in the whole run.
        seed: of keyed noise.
        generator: draws the noise.
        variance_noise: the noise itself, shape ``(S, B, ...)``.
        image_indices: which image of the run each row is, for keyed noise.
        unused_draws: steps at which a generator is drawn from although sigma is 0.

    Raises:
        DDIMError: for more than one source, or one that does not fit.
    """
    sources = {"seed": seed, "generator": generator, "variance_noise": variance_noise}
    given = [name for name, value in sources.items() if value is not None]
    if len(given) > 1:
        raise DDIMError(f"give one source of step noise, got {' and '.join(given)}")
    if variance_noise is not None:
        check_tensor("variance_noise", variance_noise)
        expected = (steps, *x.shape)
        if tuple(variance_noise.shape) != expected:
            raise DDIMError(
                f"variance_noise must have shape {expected} (steps, *x.shape), got {tuple(variance_noise.shape)}"
            )
        return RecordedNoise(variance_noise, x.device)
    if generator is not None:
        return GeneratorNoise(generator, x.shape, x.device, unused_draws=unused_draws)
    return KeyedNoise(NoiseKey.of(x.shape, unseeded if seed is None else seed, image_indices, x.device), first, steps)


def check_generators(generator: Any) -> Sequence[torch.Generator]:
    """Return a list of generators if it is one.

    Raises:
        DDIMError: otherwise.
    """
    if not isinstance(generator, list | tuple) or not all(isinstance(one, torch.Generator) for one in generator):
        raise DDIMError(f"generator must be a torch.Generator, or a list of one per image, got {show(generator)}")
    return generator


def check_variance_noise(sample: Tensor, generator: Generators | None, variance_noise: Tensor | None) -> None:
    """Check that at most one source of a step's noise is given, and that given noise fits, whatever eta is.

    Raises:
        DDIMError: otherwise.
    """
    if variance_noise is None:
        return
    if generator is not None:
        raise DDIMError("give generator or variance_noise, not both: each would decide the step's noise")
    if not fits(variance_noise, sample):
        refuse_pair("variance_noise", variance_noise, "the sample's shape and device", sample)

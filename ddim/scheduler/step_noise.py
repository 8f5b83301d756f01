"""The noise of one call of ``DDIMScheduler.step``."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import DDIMError
from ..noise.keyed import KeyedStep, NoiseKey
from ..noise.source import GeneratorNoise, Generators, KeyedNoise, RecordedNoise, check_generators
from ..parity import Parity
from ..step.equations import Eta
from .run import Run

__all__ = ["StepNoise"]


class StepNoise(NamedTuple):
    """What decides the noise of a step: given by the caller, drawn by the caller's generators, or keyed.

    Attributes:
        run: the scheduler's run.
        parity: of the scheduler.
        sample: shape ``(B, ...)``.
        model_dtype: dtype of the model output.
        eta: of the step.
        generator: the caller's, or None.
        variance_noise: the noise itself, shape ``(B, ...)``, or None.
    """

    run: Run
    parity: Parity
    sample: Tensor
    model_dtype: torch.dtype
    eta: Eta
    generator: Generators | None
    variance_noise: Tensor | None

    def of_batch(self, position: int, sigma: float) -> Tensor | KeyedStep | None:
        """z of a step that all images take; None where there is nothing to add.

        Args:
            position: of the step in the run.
            sigma: what z will be multiplied by.
        """
        sample = self.sample
        if self.variance_noise is not None:
            return RecordedNoise(self.variance_noise[None], sample.device).at(0, sigma)
        if self.generator is not None:
            unused = (position,) if self.parity.draws_unused_noise and self.eta != 0.0 else ()
            return self._drawn_by(self.generator, unused).at(position, sigma)
        if sigma == 0.0:
            return None
        key = NoiseKey.of(sample.shape, self.run.key, None, sample.device)
        return KeyedNoise(key, self.run.plan.first).at(position, sigma)

    def of_each_image(self, timesteps: float | Tensor) -> Tensor | None:
        """z of a step with a timestep per image: what each image would get alone at its step.

        Raises:
            DDIMError: inside ``torch.compile``, unless eta is 0 or the noise is given: drawing cannot be traced.
        """
        if self.eta == 0.0 or self.variance_noise is not None:
            return None if self.eta == 0.0 else self.variance_noise
        if torch.compiler.is_compiling():
            raise DDIMError("inside torch.compile a step with eta above 0 needs variance_noise")
        if self.generator is not None:
            return self._drawn_by(self.generator).at(0, 1.0)
        visited = (self.run.value_of(t) for t in torch.as_tensor(timesteps).flatten().tolist())
        positions = [self.run.position_of(t) for t in visited]
        shape, first = (1, *self.sample.shape[1:]), self.run.plan.first
        keys = [NoiseKey.of(shape, self.run.key, [image], self.sample.device) for image in range(len(positions))]
        return torch.cat([KeyedStep(key, first + at).draw() for key, at in zip(keys, positions, strict=True)])

    def _drawn_by(self, generator: Generators, unused_draws: tuple[int, ...] = ()) -> GeneratorNoise:
        if not isinstance(generator, torch.Generator) and len(check_generators(generator)) == 1:
            generator = generator[0]  # as in diffusers, a list of one serves the whole batch
        return GeneratorNoise(
            generator,
            self.sample.shape,
            self.sample.device,
            self.model_dtype if self.parity.draws_in_model_dtype else torch.float32,
            unused_draws,
        )

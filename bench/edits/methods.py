"""The ways to edit an inverted picture, as functions of the model with a prompt each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

import ddim
from demo import UNCONDITIONAL, load_demo_model

__all__ = ["METHODS", "Edit", "Prompts"]

STEPS = 30
Model = Callable[[Tensor, Tensor], Tensor]


class Prompts:
    """The demo model with one digit for each picture, or none; counts how often it is called.

    Attributes:
        calls: So far.
    """

    def __init__(self) -> None:
        demo = load_demo_model()
        self.network, self.calls = demo.network, 0
        self.schedule = ddim.make_schedule(STEPS, ddim.SchedulerConfig(**demo.scheduler_config))

    def model(self, digits: Tensor) -> Model:
        """Return ``model(x_t, t)`` for these digits, ``(B,)``."""

        @torch.inference_mode()
        def predict(x: Tensor, t: Tensor) -> Tensor:
            self.calls += 1
            return self.network(x, t.expand(len(x)), digits)

        return predict

    def nothing(self, count: int) -> Model:
        """Return the model without a prompt."""
        return self.model(torch.full((count,), UNCONDITIONAL))


@dataclass(frozen=True)
class Edit:
    """One way to edit.

    Attributes:
        invert: The inversion method.
        scale: The guidance scale of sampling.
        guidance: ``"cfg"``, ``"source"`` (negative-prompt inversion), ``"soft"`` or ``"hard"`` (ProxNPI), or
            ``"edit"`` (LEDITS++).
        threshold: The quantile of ``"soft"``, ``"hard"`` and ``"edit"``.
        noise_path: Of the method ``"variance_noise"``, see `ddim.invert`.
    """

    invert: str
    scale: float
    guidance: str = "cfg"
    threshold: float = 0.0
    noise_path: str = "edit_friendly"

    def __call__(self, prompts: Prompts, pictures: Tensor, source: Tensor, target: Tensor) -> Tensor:
        """Edit pictures ``(B, 3, H, W)`` of the digits ``source`` into ``target``, ``(B,)`` each."""
        is_edit, scheduler = self.guidance == "edit", prompts.schedule.scheduler()
        before = prompts.nothing(len(source)) if is_edit else prompts.model(source)
        found = ddim.invert(
            before, pictures, scheduler, method=self.invert, seed=0, noise_path=self.noise_path, check=False
        )
        return ddim.reconstruct(self._guided(prompts, before, source, target), found, scheduler)

    def _guided(
        self, prompts: Prompts, before: Model, source: Tensor, target: Tensor
    ) -> Callable[[Tensor, Tensor], Tensor | ddim.CFGPlusPlus]:
        wanted = prompts.model(target)
        if self.guidance == "cfg":
            return ddim.guided_model(wanted, prompts.nothing(len(source)), self.scale)
        if self.guidance == "source":
            return ddim.guided_model(wanted, before, self.scale)
        if self.guidance == "edit":
            return partial(self._edited, before, (prompts.model(source), -self.scale), (wanted, self.scale))
        return ddim.proximal_guided_model(wanted, before, self.scale, self.threshold, self.guidance)

    def _edited(
        self, nothing: Model, removed: tuple[Model, float], added: tuple[Model, float], x: Tensor, t: Tensor
    ) -> Tensor:
        reference = guided = nothing(x, t)
        for model, weight in (removed, added):
            guided = ddim.edit_guide(guided, reference, model(x, t), weight, self.threshold)
        return guided


METHODS = {
    "ddim": Edit("ddim", 2.0),
    "fixed_point": Edit("fixed_point", 2.0),
    "edict": Edit("edict", 2.0),
    "bdia": Edit("bdia", 2.0),
    "variance_noise": Edit("variance_noise", 2.0),
    "ddim, NPI": Edit("ddim", 2.0, "source"),
    "ddim, ProxNPI": Edit("ddim", 2.0, "soft", 0.7),
    "ddim, ProxNPI (hard)": Edit("ddim", 2.0, "hard", 0.7),
    "variance_noise, LEDITS++": Edit("variance_noise", 3.0, "edit", 0.7),
}

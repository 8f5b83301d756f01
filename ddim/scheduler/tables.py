"""The tables of noise levels that diffusers' schedulers show."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import DDIMError, NoBetasError
from ..schedule.noise_levels import NoiseSchedule
from .config.configured import ConfiguredScheduler

__all__ = ["LevelTables"]


class LevelTables(ConfiguredScheduler):
    """A scheduler with noise levels, shown as diffusers' schedulers show theirs."""

    _noise: NoiseSchedule

    @property
    def noise_schedule(self) -> NoiseSchedule:
        """The noise levels in float64."""
        return self._noise

    @property
    def betas(self) -> Tensor:
        """Float32, shape ``(T,)``; variance preserving models only."""
        return self._betas().float()

    @betas.setter
    def betas(self, value: Tensor) -> None:
        self._refuse_other_levels("betas", value, self.betas)

    @property
    def alphas(self) -> Tensor:
        """1 - beta, float32, shape ``(T,)``; variance preserving models only."""
        return (1 - self._betas()).float()

    def _betas(self) -> Tensor:
        if self._noise.betas is None:
            raise self._missing("betas")
        return self._noise.betas

    def _missing(self, name: str) -> AttributeError:
        if name in ("betas", "alphas"):
            return NoBetasError(f"a {self._noise.kind} model has no betas; read noise_schedule.sigma")
        return super()._missing(name)

    @property
    def alphas_cumprod(self) -> Tensor:
        """``alpha_bar``, float32, shape ``(T,)``."""
        return self._noise.alpha_bar.float()

    @alphas_cumprod.setter
    def alphas_cumprod(self, value: Tensor) -> None:
        self._refuse_other_levels("alphas_cumprod", value, self.alphas_cumprod)

    @staticmethod
    def _refuse_other_levels(name: str, value: Tensor, own: Tensor) -> None:
        """Accept the same levels (training scripts assign the table moved to a device), refuse others."""
        if not isinstance(value, Tensor) or value.shape != own.shape or not torch.equal(value.cpu().float(), own):
            raise DDIMError(
                f"{name} cannot be changed: the steps use the levels of construction; make another scheduler "
                "with trained_betas=... (betas_from_alpha_bar gives the betas of any levels)"
            )

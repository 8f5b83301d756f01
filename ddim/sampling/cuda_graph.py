"""A whole sampling run as one CUDA graph: recorded once, then replayed without CPU involvement."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..errors import DDIMError
from ..scheduler.forward import DDIMScheduler
from ..step.equations import Eta
from .loop import sample

__all__ = ["CapturedSample", "capture_sample"]

_WARM_UPS = 2  # runs before the recording, in which kernels are compiled and libraries choose their algorithms


class CapturedSample:
    """A recorded run; call it to replay.

    The tensors that a graph works on stay where they are: what is given is copied in, and the result is copied out.
    """

    def __init__(self, run: Callable[[Tensor, Tensor | None], Tensor], x: Tensor, noise: Tensor | None) -> None:
        self._x, self._noise = x.clone(), None if noise is None else noise.clone()
        aside = torch.cuda.Stream(x.device)  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream(x.device))
        with torch.cuda.stream(aside), torch.no_grad():
            for _ in range(_WARM_UPS):
                run(self._x, self._noise)
        torch.cuda.current_stream(x.device).wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph), torch.no_grad():
            self._result = run(self._x, self._noise)

    def __call__(self, x: Tensor, variance_noise: Tensor | None = None) -> Tensor:
        """The last sample from another start.

        Args:
            x: of the shape and dtype that the run was recorded with.
            variance_noise: other step noise, for a run recorded with ``variance_noise``; None keeps the last.

        Raises:
            DDIMError: if they do not fit the recording.
        """
        if x.shape != self._x.shape or x.dtype != self._x.dtype:
            raise DDIMError(
                f"x must be {tuple(self._x.shape)}, {self._x.dtype} as recorded, got {tuple(x.shape)}, {x.dtype}"
            )
        self._x.copy_(x)
        if variance_noise is not None:
            if self._noise is None or variance_noise.shape != self._noise.shape:
                raise DDIMError("variance_noise must be as it was when the run was recorded")
            self._noise.copy_(variance_noise)
        self._graph.replay()
        return self._result.clone()


def capture_sample(
    model: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    scheduler: DDIMScheduler,
    *,
    eta: Eta | Sequence[Eta] = 0.0,
    seed: int | None = None,
    variance_noise: Tensor | None = None,
    use_clipped_model_output: bool = False,
    image_indices: Sequence[int] | None = None,
) -> CapturedSample:
    """Record :func:`ddim.sample` as a CUDA graph. The gain is largest where the model itself is small.

    Args:
        model: as for :func:`ddim.sample`; it must be capturable: no reading of tensors, no changing shapes.
        x: a start, on a CUDA device.
        scheduler: with its plan set on the same device.
        eta: as for :func:`ddim.sample`.
        seed: of the keyed step noise, part of the recording: every replay has the same. For noise that changes, record
            with ``variance_noise``.
        variance_noise: step noise of the first run; a replay may be given another.
        use_clipped_model_output: derive epsilon again from the clipped x_0.
        image_indices: which image of the run each row is.

    Raises:
        DDIMError: if ``x`` or the timesteps are not on a CUDA device.
    """
    if not (x.is_cuda and scheduler.timesteps.is_cuda):
        raise DDIMError(
            f"a CUDA graph needs x and the scheduler's timesteps on a CUDA device, got {x.device} and "
            f"{scheduler.timesteps.device}"
        )
    key = scheduler.unseeded_key() if seed is None and variance_noise is None else seed

    def run(start: Tensor, noise: Tensor | None) -> Tensor:
        return sample(
            model,
            start,
            scheduler,
            eta=eta,
            seed=key,
            variance_noise=noise,
            use_clipped_model_output=use_clipped_model_output,
            image_indices=image_indices,
        )

    return CapturedSample(run, x, variance_noise)

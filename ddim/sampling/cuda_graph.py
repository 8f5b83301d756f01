"""A complete sampling run as one CUDA graph: captured once, then replayed without CPU involvement."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..arguments import check_tensor
from ..errors import DDIMError
from ..noise.keyed import NoiseKey
from ..scheduler.forward import ForwardScheduler
from ..step.equations import Eta
from .loop import check_run, sample

__all__ = ["CapturedSample", "capture_sample"]

_WARM_UP_RUNS = 2  # before the capture: kernels are compiled, and libraries choose their algorithms


class CapturedSample:
    """A captured run; call it to replay.

    A graph uses fixed memory, so inputs are copied into it and the result is copied out.
    """

    def __init__(
        self,
        run: Callable[[Tensor, Tensor | None], Tensor],
        x: Tensor,
        noise: Tensor | None,
        images: Tensor | None = None,
    ) -> None:
        self._x, self._noise = x.clone(), None if noise is None else noise.clone()
        self._images = images  # the graph reads the image numbers where they are, so they must live as long as it
        warm_up_stream = torch.cuda.Stream(x.device)  # type: ignore[no-untyped-call]
        warm_up_stream.wait_stream(torch.cuda.current_stream(x.device))
        with torch.cuda.stream(warm_up_stream), torch.no_grad():
            for _ in range(_WARM_UP_RUNS):
                run(self._x, self._noise)
        torch.cuda.current_stream(x.device).wait_stream(warm_up_stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph), torch.no_grad():
            self._result = run(self._x, self._noise)

    def __call__(self, x: Tensor, variance_noise: Tensor | None = None) -> Tensor:
        """Replay the run from another start.

        Args:
            x: The noisy start, with the shape and dtype of the capture.
            variance_noise: Other step noise, for a run captured with ``variance_noise``; None keeps the latest.

        Returns:
            The last sample, a new tensor.

        Raises:
            DDIMError: If the shapes or dtypes differ from those of the capture.
        """
        if check_tensor("x", x).shape != self._x.shape or x.dtype != self._x.dtype:
            raise DDIMError(
                f"x must have the shape and dtype of the capture, {tuple(self._x.shape)} and {self._x.dtype}, "
                f"got {tuple(x.shape)} and {x.dtype}"
            )
        self._x.copy_(x)
        if variance_noise is not None:
            if self._noise is None:
                raise DDIMError(
                    "the run was captured without variance_noise; capture it with variance_noise to replace it"
                )
            if check_tensor("variance_noise", variance_noise).shape != self._noise.shape:
                raise DDIMError(
                    f"variance_noise must have the shape of the capture, {tuple(self._noise.shape)}, "
                    f"got {tuple(variance_noise.shape)}"
                )
            self._noise.copy_(variance_noise)
        self._graph.replay()
        return self._result.clone()


def capture_sample(
    model: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    scheduler: ForwardScheduler,
    *,
    eta: Eta | Sequence[Eta] = 0.0,
    seed: int | None = None,
    variance_noise: Tensor | None = None,
    use_clipped_model_output: bool = False,
    image_indices: Sequence[int] | None = None,
) -> CapturedSample:
    """Capture :func:`ddim.sample` as a CUDA graph.

    Args:
        model: As for :func:`ddim.sample`. It must be capturable: no synchronization with the CPU, no varying shapes.
        x: A noisy start, on a CUDA device.
        scheduler: Scheduler whose timesteps are set, on the same device.
        eta: As for :func:`ddim.sample`.
        seed: Seed of the keyed step noise. It is part of the capture, so every replay uses the same noise; to vary the
            noise, capture with ``variance_noise``.
        variance_noise: Step noise of the capture; a replay may replace it.
        use_clipped_model_output: Recompute epsilon from the clipped x_0.
        image_indices: Image number of each row, for keyed noise; by default 0..B-1.

    Returns:
        The captured run.

    Raises:
        DDIMError: If ``x`` or the timesteps are not on a CUDA device.
    """
    check_run(model, x, scheduler)
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

    images = None if key is None else NoiseKey.of(x.shape, key, image_indices, x.device).images_on_device
    return CapturedSample(run, x, variance_noise, images)

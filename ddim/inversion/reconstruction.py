"""``reconstruct``, which samples the image of an inversion again."""

from __future__ import annotations

from torch import Tensor

from ..plan import Schedule
from ..sampling.loop import check_run, sample
from ..scheduler.forward import ForwardScheduler
from .bdia import check_two_steps, decode_bdia
from .edict import decode_edict
from .result import Inversion, check_inversion
from .trajectory import Callback, Model, Trajectory

__all__ = ["reconstruct"]


def reconstruct(
    model: Model,
    inversion: Inversion,
    scheduler: ForwardScheduler | None = None,
    *,
    callback: Callback | None = None,
    use_clipped_model_output: bool = False,
) -> Tensor:
    """Sample from an inversion of any method: the same model gives the image, another model an edit of it.

    Args:
        model: Called as ``model(x_t, t)``, as for :func:`ddim.sample`.
        inversion: The result of :func:`invert`.
        scheduler: A scheduler with its plan set; by default one with the inversion's schedule.
        callback: As for :func:`ddim.sample`.
        use_clipped_model_output: As for :func:`ddim.sample`.

    Returns:
        The image, shape ``(B, ...)``, in the dtype of the latent.

    Raises:
        DDIMError: If the scheduler's plan differs from the inversion's.
    """
    x = check_inversion(inversion).latent
    scheduler = inversion.schedule.scheduler(x.device) if scheduler is None else scheduler
    check_run(model, x, scheduler)
    inversion.check_fits(Schedule.of(scheduler), inversion.eta, x.shape)
    second = inversion.second_latent
    if second is not None:
        trajectory = Trajectory(model, scheduler, inversion.eta, x.dtype, use_clipped_model_output, callback)
        if inversion.method == "bdia":
            check_two_steps(trajectory)
            return decode_bdia(trajectory, x, second).to(x.dtype)
        if inversion.mixing is not None:
            return decode_edict(trajectory, x, second, inversion.mixing)[0].to(x.dtype)
    return sample(
        model,
        x,
        scheduler,
        eta=inversion.eta,
        variance_noise=inversion.variance_noise,
        callback=callback,
        use_clipped_model_output=use_clipped_model_output,
    )

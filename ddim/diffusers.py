"""The schedulers as subclasses of diffusers' own, for pipelines that are loaded or saved with them.

    from ddim.diffusers import DDIMFlowScheduler

The only module that imports diffusers; ``import ddim`` does not load it. Assigning ``pipe.scheduler`` works with the
classes of ``ddim`` as well, but diffusers' ``from_pretrained(..., scheduler=...)`` and ``save_pretrained`` accept only
subclasses of its own classes. Everything else is the same.
"""

from __future__ import annotations

from typing import Any

import diffusers

from .scheduler.ddim import DDIMScheduler as _DDIMScheduler
from .scheduler.flow import DDIMFlowScheduler as _DDIMFlowScheduler
from .scheduler.inverse import DDIMInverseScheduler as _DDIMInverseScheduler

__all__ = ["DDIMFlowScheduler", "DDIMInverseScheduler", "DDIMScheduler"]


class _RecordedAsDiffusers:
    """Makes a pipeline record diffusers' class of the same configuration, so that it opens without this package.

    A pipeline's ``model_index.json`` names library and class of each component: what the instance has as ``__module__``
    and its class as ``__name__``.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        scheduler = super().__new__(cls)
        scheduler.__dict__["__module__"] = "diffusers"
        return scheduler


class DDIMScheduler(_RecordedAsDiffusers, _DDIMScheduler, diffusers.DDIMScheduler):
    """:class:`ddim.DDIMScheduler` that is also a ``diffusers.DDIMScheduler``."""


class DDIMInverseScheduler(_RecordedAsDiffusers, _DDIMInverseScheduler, diffusers.DDIMInverseScheduler):
    """:class:`ddim.DDIMInverseScheduler` that is also a ``diffusers.DDIMInverseScheduler``."""


class DDIMFlowScheduler(_RecordedAsDiffusers, _DDIMFlowScheduler, diffusers.FlowMatchEulerDiscreteScheduler):
    """:class:`ddim.DDIMFlowScheduler` that is also a ``diffusers.FlowMatchEulerDiscreteScheduler``."""


DDIMFlowScheduler.__name__ = "FlowMatchEulerDiscreteScheduler"  # `__qualname__`, by which it is pickled, stays

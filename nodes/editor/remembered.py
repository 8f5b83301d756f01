"""The noise levels of MODELs that schedule nodes have run with.

A MODEL exists during a run only. The live plot goes on with its levels while the graph is edited, by the name that the
run's report gave them.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from ..backend import ModelFacts

__all__ = ["recall", "remember"]

MAX_REMEMBERED = 8  # tables of at most a few thousand levels

_levels: OrderedDict[str, ModelFacts] = OrderedDict()


def remember(facts: ModelFacts) -> str:
    """Keep what a MODEL says about itself; return the name under which :func:`recall` finds it."""
    network = None if facts.network is None else id(facts.network())
    said = f"{facts.kind} {facts.prediction_type} {hash(facts.sigma_config)} {network}".encode()
    name = hashlib.sha256(said + facts.sigmas.numpy().tobytes()).hexdigest()[:24]
    _levels[name] = facts
    _levels.move_to_end(name)
    while len(_levels) > MAX_REMEMBERED:
        _levels.popitem(last=False)
    return name


def recall(name: object) -> ModelFacts | None:
    """Return what was kept under a name; None if that was too long ago, or before the host was started."""
    return _levels.get(name) if isinstance(name, str) else None

"""What was measured of networks: remembered for as long as the network itself exists.

Levels and declared types do not tell one checkpoint from another, so a measurement belongs to the network alone.
"""

from __future__ import annotations

import weakref
from typing import Any

from .contract import ModelFacts

__all__ = ["measured_prediction_type", "reference_to", "remember_measured"]

_found: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()


def reference_to(network: object) -> weakref.ReferenceType[Any] | None:
    """Return a weak reference to a network; None for an object that nothing can be remembered for."""
    try:
        hash(network)
        return weakref.ref(network)
    except TypeError:
        return None


def remember_measured(facts: ModelFacts, prediction_type: str | None) -> None:
    """Remember what a MODEL's network predicts; None forgets what was measured before."""
    network = None if facts.network is None else facts.network()
    if network is not None and prediction_type is not None:
        _found[network] = prediction_type
    elif network is not None:
        _found.pop(network, None)


def measured_prediction_type(facts: ModelFacts) -> str | None:
    """Return what was measured of a MODEL's network; None if nothing was, or if the network is gone."""
    network = None if facts.network is None else facts.network()
    return None if network is None else _found.get(network)

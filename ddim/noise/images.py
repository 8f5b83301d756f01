"""Image numbers that stay on the device between the runs of a batch."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

import numpy as np
import torch
from torch import Tensor

__all__ = ["MAX_KEPT_BYTES", "words_on"]

MAX_KEPT_BYTES = 1 << 20  # of all devices together; a larger list is kept alone

_kept: OrderedDict[tuple[bytes, torch.device], Tensor] = OrderedDict()
_lock = Lock()


def words_on(words: bytes, device: torch.device) -> Tensor:
    """32-bit words as int32 on a device, copied without waiting for it.

    The lists used last are kept, so that a graph that is captured finds its own on the device. Whoever captures one
    holds the tensor as long as the graph.
    """
    with _lock:
        found = _kept.pop((words, device), None)
        if found is None:
            here = torch.from_numpy(np.frombuffer(words, np.int32).copy())
            found = here.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else here.to(device)
        _kept[words, device] = found
        while len(_kept) > 1 and sum(len(kept) for kept, _ in _kept) > MAX_KEPT_BYTES:
            _kept.popitem(last=False)
        return found

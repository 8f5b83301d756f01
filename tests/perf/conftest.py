"""Exact costs, operators and passes over memory, and the step that others are compared with."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Cost(TorchDispatchMode):
    """Counts operators, tensor passes (reads and writes of whole samples), new tensors and reads by the host."""

    _VIEWS = ("view", "select", "slice", "reshape", "expand", "detach", "alias", "t.", "unsqueeze", "as_strided")

    def __init__(self, sample: torch.Tensor) -> None:
        super().__init__()
        self.size, self.operators, self.passes, self.new, self.host_reads = sample.nbytes, [], 0.0, 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name().removeprefix("aten::")
        result = func(*args, **(kwargs or {}))
        if name.startswith(self._VIEWS):
            return result
        self.operators.append(name)
        self.host_reads += "_local_scalar_dense" in name
        read = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        written = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        out = (kwargs or {}).get("out")  # listed among the arguments, but not read
        self.passes += sum(t.nbytes for t in (*[t for t in read if t is not out], *written)) / self.size
        pointers = {t.untyped_storage().data_ptr() for t in read}
        self.new += sum(t.untyped_storage().data_ptr() not in pointers for t in written)
        return result


@pytest.fixture(scope="session")
def measure_cost() -> type[Cost]:
    """``with measure_cost(sample) as cost: ...`` counts what is done in units of that sample."""
    return Cost


@pytest.fixture(scope="session")
def oracle() -> ModuleType:
    """The paper's equations, written a second time; see ``oracle.py``."""
    if "ddim_oracle" not in sys.modules:
        spec = importlib.util.spec_from_file_location("ddim_oracle", Path(__file__).with_name("oracle.py"))
        assert spec is not None and spec.loader is not None
        sys.modules["ddim_oracle"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["ddim_oracle"])
    return sys.modules["ddim_oracle"]

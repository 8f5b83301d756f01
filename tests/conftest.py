"""One copy of the core and one of the pack for all tests.

The pack is loaded by path, as a node host loads it, under the name ``pack``; ``ddim`` is registered as ``pack.ddim``
first, so that ``ddim.DDIMError`` raised by a node is the class that a test imports.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import ddim  # noqa: E402

# Files that take half a minute or more, longest first. Two processes share the files: what is long must not begin when
# the rest is done.
LONG = (
    "web/test_templates",
    "web/test_frontend",
    "sweep/test_processes",
    "server/test_memory",
    "sweep/test_sweep_command",
    "web/test_live_replay",
    "web/test_fit_panel",
    "workers/test_processes",
    "server/test_restart",
    "server/test_latency",
    "engines/test_http_engine",
    "inversion/test_example_workflows",
    "fuzz/test_kills",
    "demo/test_papers",
    "core/test_fit",
    "perf/kernels/test_triton",
    "perf/test_noise_operators",
)

# A busy machine is slow to draw inputs and to run an example: neither is a fault of what is tested.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

# Tests move small tensors: threads cost more than they give, and 30 times more on a busy machine.
torch.set_num_threads(1)


def load_pack() -> ModuleType:
    """The pack under the module name ``pack``, with the core that tests import."""
    if "pack" in sys.modules:
        return sys.modules["pack"]
    spec = importlib.util.spec_from_file_location("pack", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["pack"] = module
    sys.modules["pack.ddim"] = ddim
    spec.loader.exec_module(module)
    return module


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, in the order of ``LONG``; the others stay as they are."""
    names = {(ROOT / "tests" / f"{name}.py"): place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: names.get(item.path, len(names)))


@pytest.fixture(scope="session")
def repo_root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def pack() -> ModuleType:
    """The node pack, as a host sees it."""
    return load_pack()

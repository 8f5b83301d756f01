"""Run diffusers' own DDIM tests against this project's classes, from a checkout of diffusers.

    python bench/parity/run_diffusers_tests.py PATH_OF_CHECKOUT [--parity exact|diffusers] [--json]

The files ``tests/schedulers/test_scheduler_ddim*.py`` are imported unchanged, with our classes in place of
``diffusers.DDIMScheduler``, ``DDIMInverseScheduler`` and ``DDIMParallelScheduler``. A failing test is listed with its
last line. The exit status is 1 if a test fails that is not listed in ``EXPECTED``, or if a listed one passes.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import logging
import sys
import unittest
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

FILES = {
    "test_scheduler_ddim": "DDIMScheduler",
    "test_scheduler_ddim_inverse": "DDIMInverseScheduler",
    "test_scheduler_ddim_parallel": "DDIMParallelScheduler",
}

OFF_PLAN = "steps from a timestep that is not in the plan; parity='exact' refuses to guess where such a step leads"
AMPLIFIES = "sample_max_value=0.5 would amplify x_0; parity='exact' refuses it"

# Tests that fail by design, with the reason, by parity.
_OFF_PLAN_TESTS = ("test_inference_steps", "test_steps_offset", "test_time_indices", "test_timestep_spacing")
EXPECTED: dict[str, dict[str, str]] = {
    "exact": {
        **{f"{name}Test.{test}": OFF_PLAN for name in FILES.values() for test in _OFF_PLAN_TESTS},
        **{f"{name}Test.test_eta": OFF_PLAN for name in ("DDIMScheduler", "DDIMParallelScheduler")},
        "DDIMParallelSchedulerTest.test_batch_step_no_noise": OFF_PLAN,
        **{f"{name}Test.test_thresholding": AMPLIFIES for name in FILES.values()},
    },
    "diffusers": {},
}


def with_parity(base: type, name: str, parity: str) -> type:
    """Derive a class with diffusers' name whose default is the given parity."""

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        base.__init__(self, *args, **{"parity": parity, **kwargs})  # type: ignore[misc]

    init.__signature__ = inspect.signature(base.__init__)  # type: ignore[attr-defined, misc]
    return type(name, (base,), {"__init__": init, "__module__": base.__module__})


def load_suite(checkout: Path, parity: str) -> unittest.TestSuite:
    """Load the test cases of the three files, with our classes under diffusers' names."""
    sys.path[:0] = [str(checkout), str(ROOT)]
    import diffusers

    import ddim

    ours = {
        "DDIMScheduler": ddim.DDIMScheduler,
        "DDIMInverseScheduler": ddim.DDIMInverseScheduler,
        "DDIMParallelScheduler": ddim.DDIMScheduler,
    }
    for name, base in ours.items():
        setattr(diffusers, name, with_parity(base, name, parity))
    suite = unittest.TestSuite()
    for file, name in FILES.items():
        module = importlib.import_module(f"tests.schedulers.{file}")
        suite.addTests(unittest.defaultTestLoader.loadTestsFromTestCase(getattr(module, f"{name}Test")))
    return suite


def run(checkout: Path, parity: str) -> dict[str, Any]:
    """Run the tests and group the outcomes.

    Returns:
        ``parity``; ``passed`` and ``skipped`` (names); ``failed`` (last line of the traceback, by name).
    """
    suite = load_suite(checkout, parity)
    names = [test.id().split(".", 3)[-1] for test in _flat(suite)]
    result = unittest.TestResult()
    suite.run(result)
    failed = {
        test.id().split(".", 3)[-1]: text.strip().splitlines()[-1] for test, text in result.failures + result.errors
    }
    skipped = [test.id().split(".", 3)[-1] for test, _ in result.skipped]
    passed = [name for name in names if name not in failed and name not in skipped]
    return {"parity": parity, "passed": passed, "skipped": skipped, "failed": failed}


def _flat(suite: unittest.TestSuite) -> list[unittest.TestCase]:
    found: list[unittest.TestCase] = []
    for item in suite:
        found.extend(_flat(item) if isinstance(item, unittest.TestSuite) else [item])
    return found


def surprises(outcome: dict[str, Any]) -> list[str]:
    """List failures that are not expected, and expected failures that passed."""
    expected = EXPECTED[outcome["parity"]]
    unexpected = [f"unexpected failure: {name}" for name in outcome["failed"] if name not in expected]
    stale = [f"expected to fail, but passes: {name}" for name in expected if name not in outcome["failed"]]
    return unexpected + stale


def main() -> int:
    """Parse the command line, run the tests and print the outcome."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--parity", choices=("exact", "diffusers"), default="exact")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    outcome = run(options.checkout, options.parity)
    if options.json:
        print(json.dumps(outcome))
    else:
        print(f"parity={options.parity}: {len(outcome['passed'])} passed, {len(outcome['failed'])} failed, "
              f"{len(outcome['skipped'])} skipped")  # fmt: skip
        for name, line in outcome["failed"].items():
            print(f"  {name}\n    {line}\n    expected: {EXPECTED[options.parity].get(name, 'NO')}")
    found = surprises(outcome)
    print("\n".join(found), file=sys.stderr)
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())

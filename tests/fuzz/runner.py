"""Gives inputs to a target and counts the answers; an answer that is not promised is a finding."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass, field

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import HypothesisWarning

from tests.fuzz.workbench import MAX_MESSAGE, Target, Workbench

_SETTINGS = settings(
    deadline=None,
    database=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
    print_blob=False,
)


@dataclass
class Tally:
    """What happened to one target so far."""

    answers: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)

    @property
    def inputs(self) -> int:
        """How many inputs it was given."""
        return sum(self.answers.values())


def run(target: Target, bench: Workbench, examples: int, number: int, tally: Tally) -> None:
    """Give a target some inputs. The same seed gives the same inputs, with the same release of hypothesis.

    Args:
        target: The target.
        bench: What it works on.
        examples: How many inputs.
        number: The seed.
        tally: Counts the answers.

    Raises:
        BaseException: The first finding, with the smallest input that shows it in its notes.
    """

    @seed(number)
    @settings(_SETTINGS, max_examples=examples)
    @given(target.inputs)
    def check(value: object) -> None:
        tally.answers[_answer(target, bench, value)] += 1

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HypothesisWarning)  # that an input is long
        check()
    bench.check_untouched()


def _answer(target: Target, bench: Workbench, value: object) -> str:
    try:
        return target.call(bench, value)
    except target.promised as error:
        assert len(str(error)) <= MAX_MESSAGE, f"a message of {len(str(error))} characters: {str(error)[:300]}..."
        return type(error).__name__

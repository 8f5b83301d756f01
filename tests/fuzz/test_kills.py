"""Eight kills of a host that works; `make soak` does two hundred."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.kills import Soak

KILLS = 8


@pytest.mark.timeout(900)
def test_a_host_that_is_killed_while_it_works_loses_nothing(tmp_path: Path):
    counts = Soak(tmp_path, seed=2).run(KILLS)
    print(counts)
    assert counts.faults == [], counts
    assert counts.killed + counts.terminated == KILLS and counts.accepted >= KILLS and counts.pictures >= KILLS

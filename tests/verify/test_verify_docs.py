"""The page about verifying agrees with the code."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from host.engines.environment import describe_process

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/verify.md").read_text(encoding="utf-8")


def test_every_option_is_described():
    usage = PAGE[PAGE.index("python -m host verify") : PAGE.index("$ python")]
    help_text = subprocess.run(
        [sys.executable, "-m", "host", "verify", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert set(re.findall(r"--[a-z-]+", usage)) == set(re.findall(r"^ +(--[a-z-]+)", help_text, re.MULTILINE))


def test_every_fact_is_described():
    table = PAGE[PAGE.index("| key | content |") :]
    for name in describe_process([ROOT]):
        assert re.search(rf"`(environment)?\.{name}`", table), name
    for name in ("node", "position", "digest"):
        assert f"`{name}`" in table

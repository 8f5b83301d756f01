"""docs/guidance.md: its examples run, and give what the page says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

import ddim


def test_the_examples_run(repo_root: Path) -> None:
    page = (repo_root / "docs" / "guidance.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.S):
        exec(compile(block, "docs/guidance.md", "exec"), names)  # noqa: S102
    assert torch.allclose(names["again"], names["picture"], atol=1e-3)
    assert not torch.allclose(names["faster"], names["picture"], atol=1e-3)
    assert names["kind"].prediction_type is None and names["kind"].reason
    assert isinstance(names["plus"](names["x"], torch.tensor(5)), ddim.CFGPlusPlus)

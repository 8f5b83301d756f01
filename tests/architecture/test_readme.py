"""What the README shows must be true."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_ten_lines_of_core_code_run() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    check = "\nassert images.shape == (10, 3, 32, 32) and bool(images.isfinite().all())\n"
    done = subprocess.run([sys.executable, "-c", block + check], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_table_names_every_node(pack: ModuleType) -> None:
    table = README[README.index("## Nodes") : README.index("## In ComfyUI")]
    named = set(re.findall(r"`(DDIM\w+)`", table))
    assert set(pack.NODE_CLASS_MAPPINGS) <= named


def test_every_make_target_it_names_exists() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`?make ([a-z-]+)", README)) <= targets


def test_every_file_it_links_exists() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert link.startswith("http") or (ROOT / link).exists(), link

"""What README and CONTRIBUTING show must be true."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

from tasks.table import TASKS

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_the_ten_lines_of_core_code_run() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    check = "\nassert images.shape == (10, 3, 32, 32) and bool(images.isfinite().all())\n"
    done = subprocess.run([sys.executable, "-c", block + check], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_make_target_it_names_exists() -> None:
    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", README, re.MULTILINE)) <= set(TASKS)
    assert set(re.findall(r"-m tasks ([a-z-]+)", README)) <= set(TASKS)


def test_every_file_it_links_exists() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert link.startswith("http") or (ROOT / link).exists(), link


def test_every_path_that_contributing_names_exists() -> None:
    map_of_files = CONTRIBUTING[CONTRIBUTING.index("## Where is it?") : CONTRIBUTING.index("## Rules")]
    paths = re.findall(r"`([\w/]+/(?:[\w.]+)?)`", map_of_files)
    assert len(paths) > 30
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_core_imports_upwards_in_the_table_of_contributing() -> None:
    table = CONTRIBUTING[CONTRIBUTING.index("| folder or file |") : CONTRIBUTING.index("Inside `host/`")]
    rows = [re.findall(r"`(\w+)(?:\.py|/)`", line.split("|")[1]) for line in table.splitlines()[2:] if line]
    rank = {name: i for i, names in enumerate(rows) for name in names}
    core = ROOT / "ddim"
    assert set(rank) == {path.stem for path in core.iterdir() if path.stem not in ("__init__", "__pycache__", "py")}
    for path in sorted(core.rglob("*.py")):
        parts = path.relative_to(core).with_suffix("").parts
        if parts == ("__init__",):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level == len(parts):
                for name in [node.module.split(".")[0]] if node.module else [alias.name for alias in node.names]:
                    assert rank[name] <= rank[parts[0]], f"{path.relative_to(ROOT)} imports {name}"

"""The page about the host agrees with the code."""

from __future__ import annotations

import re
import subprocess
import sys

from host import limits
from host.folders import ROOT

PAGE = (ROOT / "docs/host.md").read_text(encoding="utf-8")


def test_the_example_program_runs(tmp_path):
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    # The program writes into the project's output folder; here it gets a folder of its own.
    redirect = f"import host.context, host.folders, pathlib\nfolders = pathlib.Path({str(tmp_path)!r})\n"
    redirect += "host.context.use_folders(host.folders.default_folders(folders))\n"
    done = subprocess.run(
        [sys.executable, "-c", redirect + program], cwd=ROOT, capture_output=True, text=True, timeout=250
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("success ")


def test_every_option_of_run_is_described():
    usage = PAGE[PAGE.index("## Run a workflow") : PAGE.index("`FILE` is one of")]
    help_text = subprocess.run(
        [sys.executable, "-m", "host", "run", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert set(re.findall(r"--[a-z-]+", usage)) == set(re.findall(r"^ +(--[a-z-]+)", help_text, re.MULTILINE))


def test_the_limits():
    text = " ".join(PAGE.split())
    for stated in (
        f"{limits.MAX_PROMPT_NODES} nodes in a prompt",
        f"values nested {limits.MAX_PROMPT_DEPTH} deep",
        f"files of {limits.MAX_WORKFLOW_BYTES >> 20} MiB",
        f"subgraphs nested {limits.MAX_SUBGRAPH_DEPTH} deep",
        f"at most {limits.MAX_SWEEP_JOBS:,} jobs",
        f"files of values at most {limits.MAX_VALUES_BYTES >> 20} MiB",
        f"{limits.MAX_EDITOR_NODES:,} nodes with every subgraph expanded".replace(",", " "),
    ):
        assert stated in text, stated

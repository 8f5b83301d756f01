"""What the host's parts may import from each other, beyond the absence of circles that `tests/architecture` checks."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

HOST = Path(__file__).resolve().parents[2] / "host"

# Folder: what its files must not import, wherever in a file the statement stands.
FORBIDDEN = {
    # a prompt is checked before anything runs
    "validation": (
        "host.execution",
        "host.engines",
        "host.server",
        "host.cli",
    ),
    "workflows": ("host.validation", "host.execution", "host.engines", "host.server", "host.cli"),
    "execution": ("host.validation", "host.workflows", "host.engines", "host.server", "host.cli"),
    "server": ("host.cli",),
    "verify": ("host.server", "host.cli", "host.workers"),
    # what runs a prompt knows nothing of whoever hands out prompts
    "engines": ("host.server", "host.cli", "host.sweep", "host.workers"),
    "workers": ("host.server", "host.cli", "host.sweep"),
    "sweep": ("host.server", "host.cli"),
}


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_a_part_imports_only_what_lies_below_it(folder):
    files = list((HOST / folder).rglob("*.py"))
    assert len(files) > 3
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                modules = [f"{node.module}.{alias.name}" for alias in node.names]
            for module in modules:
                assert not f"{module}.".startswith(tuple(f"{name}." for name in FORBIDDEN[folder])), path

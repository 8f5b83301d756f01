"""The toy pack of the workers' tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sweep.support import make_pack


@pytest.fixture(scope="session")
def sweep_pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pack(tmp_path_factory.mktemp("packs"))


@pytest.fixture(autouse=True)
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the toy nodes note what they did."""
    monkeypatch.setenv("SWEEP_NOTES", str(tmp_path))
    return tmp_path

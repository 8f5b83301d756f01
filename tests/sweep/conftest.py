"""The toy pack of the sweeps' tests, and folders for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sweep.support import make_pack


@pytest.fixture(scope="session")
def sweep_pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pack(tmp_path_factory.mktemp("packs"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a sweep."""
    made = tmp_path / "sweep"
    made.mkdir()
    return made

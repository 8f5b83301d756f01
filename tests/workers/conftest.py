"""The toy packs of the tests with Ray, and one cluster for most of them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sweep.support import make_pack
from tests.workers.ray_support import RayCluster, ray_cluster


@pytest.fixture(scope="session")
def packs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two packs; neither lies where the nodes of a cluster look by themselves."""
    folder = tmp_path_factory.mktemp("packs")
    other = folder / "ray-pack"
    other.mkdir()
    shutil.copy(Path(__file__).with_name("ray_pack.py"), other / "__init__.py")
    return [str(make_pack(folder)), str(other)]


@pytest.fixture(scope="module")
def notes_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("notes")


@pytest.fixture
def notes(notes_folder: Path) -> Path:
    """Where the toy nodes note what they do, empty."""
    for path in notes_folder.iterdir():
        path.unlink()
    return notes_folder


@pytest.fixture(scope="module")
def cluster(notes_folder: Path) -> Iterator[RayCluster]:
    """A head with room for one worker."""
    with ray_cluster(1, notes_folder) as started:
        yield started


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a sweep."""
    made = tmp_path / "sweep"
    made.mkdir()
    return made

"""One host for all tests of the server that do not have to stop it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.support import HostProcess, make_pack


@pytest.fixture(scope="session")
def toy_pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the toy pack."""
    return make_pack(tmp_path_factory.mktemp("packs"))


@pytest.fixture(scope="session")
def server(toy_pack: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    """A host that serves the toy pack."""
    host = HostProcess(tmp_path_factory.mktemp("data"), [toy_pack])
    yield host
    host.stop()

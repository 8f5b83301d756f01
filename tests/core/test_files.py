"""Files are written atomically."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from ddim.files import write_atomically


@pytest.fixture
def umask() -> Iterator[int]:
    before = os.umask(0o027)
    yield 0o027
    os.umask(before)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("existing", [None, "old"])
def test_the_content_is_complete_when_the_file_appears(tmp_path: Path, existing: str | None) -> None:
    target = tmp_path / "file.txt"
    if existing is not None:
        target.write_text(existing)

    def write(temporary: Path) -> None:
        assert temporary.parent == tmp_path and temporary.name.startswith(".")
        temporary.write_text("half")
        assert target.exists() == (existing is not None) and (existing is None or target.read_text() == existing)
        temporary.write_text("whole")

    write_atomically(target, write)
    assert target.read_text() == "whole" and names_in(tmp_path) == ["file.txt"]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=repr)
def test_a_failure_keeps_the_old_content_and_leaves_no_other_file(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "file.txt"
    target.write_text("old")

    def write(temporary: Path) -> None:
        temporary.write_text("half")
        raise error

    with pytest.raises(type(error)):
        write_atomically(target, write)
    assert target.read_text() == "old" and names_in(tmp_path) == ["file.txt"]


def test_the_content_is_on_the_disk_before_the_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (calls.append("fsync"), fsync(handle)))
    monkeypatch.setattr(os, "replace", lambda source, target: (calls.append("replace"), replace(source, target)))
    write_atomically(tmp_path / "file.txt", lambda temporary: temporary.write_text("content"))
    assert calls == ["fsync", "replace"]


@pytest.mark.skipif(os.name != "posix", reason="Windows has no umask")
def test_the_permissions_are_those_of_any_new_file(tmp_path: Path, umask: int) -> None:
    target = tmp_path / "file.txt"
    write_atomically(target, lambda temporary: temporary.write_text("content"))
    assert stat.S_IMODE(target.stat().st_mode) == 0o666 & ~umask


def test_a_name_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    for name in ("a" * 255, "\u00e9" * 127):
        write_atomically(tmp_path / name, lambda temporary: temporary.write_text("content"))
        assert (tmp_path / name).read_text() == "content"


def test_a_folder_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "missing" / "file.txt", lambda temporary: temporary.write_text("content"))

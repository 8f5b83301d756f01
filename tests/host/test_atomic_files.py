"""Files that several writers want under one name, and writes that fail."""

from __future__ import annotations

import os
from pathlib import Path

from host.atomic_files import (
    claim_name,
    delete_left_over,
    flush_to_disk,
    temporary_file,
    without_flushing,
    write_file,
)


def test_a_name_that_is_taken_in_the_last_moment_is_not_overwritten(tmp_path: Path):
    """Another writer takes each name after it was seen to be free."""
    (tmp_path / "new").write_bytes(b"mine")

    def candidates():
        for number in range(3):
            path = tmp_path / f"x{number}"
            assert not path.exists()
            if number < 2:
                path.write_bytes(b"another's")
            yield path

    assert claim_name(tmp_path / "new", candidates()) == tmp_path / "x2"
    assert [(tmp_path / f"x{number}").read_bytes() for number in range(3)] == [b"another's", b"another's", b"mine"]


def test_the_same_content_is_kept_once(tmp_path: Path):
    (tmp_path / "x").write_bytes(b"same")
    (tmp_path / "new").write_bytes(b"same")
    assert claim_name(tmp_path / "new", [tmp_path / "x", tmp_path / "y"]) == tmp_path / "x"
    assert not (tmp_path / "y").exists()


def test_the_content_is_on_the_disk_before_the_name_changes(tmp_path: Path, monkeypatch):
    steps = []
    monkeypatch.setattr(os, "fsync", lambda number: steps.append("fsync"))
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda *paths: (steps.append("replace"), replace(*paths)))
    write_file(tmp_path / "x", b"1")
    assert steps == ["fsync", "replace"] and (tmp_path / "x").read_bytes() == b"1"


def test_what_a_killed_process_left_is_deleted_and_nothing_else(tmp_path: Path):
    (tmp_path / "sub").mkdir()
    (tmp_path / ".hidden.tmp").touch()
    with temporary_file(tmp_path / "sub") as first, temporary_file(tmp_path, ".upload") as second:
        first.touch(), second.touch()
        delete_left_over(tmp_path)
        assert not first.exists() and not second.exists()
    assert (tmp_path / ".hidden.tmp").exists()


def test_flushing_can_be_left_out_for_a_block_alone(tmp_path, monkeypatch):
    path, flushed = tmp_path / "x", []
    path.write_bytes(b"x")
    monkeypatch.setattr("os.fsync", flushed.append)
    with without_flushing():
        flush_to_disk(path)
        assert flushed == []
    flush_to_disk(path)
    assert len(flushed) == 1

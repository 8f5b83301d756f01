"""Files that several writers want under one name, and writes that fail."""

from __future__ import annotations

from pathlib import Path

from host.atomic_files import claim_name


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

"""Names that depend on the job alone, and files that never leave the sweep's folder."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host.engines.contract import OutputFile
from host.folders import FolderError
from host.sweep.contract import Record
from host.sweep.running.saving import SaveError, are_on_disk, save_files


def output(filename, data=b"x", kind="output", subfolder=""):
    return OutputFile("1", 0, filename, subfolder, kind, data, "0" * 64)


def test_files_are_numbered_by_kind_and_previews_are_left_out(tmp_path):
    given = [output("a.png", b"1"), output("b.png", b"2", "temp"), output("c.PNG", b"3"), output("d.webm"), output("e")]
    saved = save_files(tmp_path, "007_x", given)
    assert [file.name for file in saved] == ["007_x.png", "007_x_2.png", "007_x.webm", "007_x.bin"]
    assert (tmp_path / "007_x_2.png").read_bytes() == b"3" and saved[1].size == 1
    assert save_files(tmp_path, "007_x", given) == saved
    assert sorted(os.listdir(tmp_path)) == sorted(file.name for file in saved)


NAMES = st.text(max_size=30) | st.sampled_from(
    [
        "../x.png",
        "/etc/passwd",
        "a/../../b.png",
        "x.\x00png",
        "x.p/g",
        "..\\x.png",
        "C:\\x.png",
        ".png",
        "x.",
        "x." + "y" * 300,
    ]
)


@given(files=st.lists(st.tuples(NAMES, NAMES, st.binary(max_size=5)), max_size=8))
def test_no_name_leaves_the_folder(files):
    with TemporaryDirectory() as top:
        folder = Path(top) / "sweep"
        folder.mkdir()
        saved = save_files(folder, "1", [output(name, data, subfolder=sub) for name, sub, data in files])
        assert os.listdir(top) == ["sweep"]
        assert sorted(os.listdir(folder)) == sorted({file.name for file in saved}) and len(saved) == len(files)
        for file, (_, _, data) in zip(saved, files, strict=True):
            assert (folder / file.name).read_bytes() == data


@pytest.mark.parametrize("stem", ["../1", "a/b", "", "..", "a\\b", "a\0"])
def test_a_stem_that_is_no_file_name_is_refused(tmp_path, stem):
    with pytest.raises(FolderError):
        save_files(tmp_path, stem, [output("a.png")])


def test_a_link_in_the_place_of_a_file_is_replaced_not_followed(tmp_path):
    outside = tmp_path / "outside.png"
    outside.write_bytes(b"mine")
    folder = tmp_path / "sweep"
    folder.mkdir()
    (folder / "1.png").symlink_to(outside)
    (file,) = save_files(folder, "1", [output("a.png", b"new")])
    assert outside.read_bytes() == b"mine" and (folder / file.name).read_bytes() == b"new"


def test_a_file_that_cannot_be_written_is_told_in_a_sentence(tmp_path):
    (tmp_path / "1.png").mkdir()
    with pytest.raises(SaveError, match="1.png cannot be written to .*: Is a directory"):
        save_files(tmp_path, "1", [output("a.png")])
    assert os.listdir(tmp_path) == ["1.png"]
    with pytest.raises(SaveError, match="No such file"):
        save_files(tmp_path / "gone", "1", [output("a.png")])


def test_what_is_on_the_disk(tmp_path):
    record = Record(0, "success", save_files(tmp_path, "1", [output("a.png", b"abc"), output("b.png", b"de")]))
    assert are_on_disk(tmp_path, record) and are_on_disk(tmp_path, Record(0, "success"))
    (tmp_path / "1_2.png").write_bytes(b"d")
    assert not are_on_disk(tmp_path, record)
    (tmp_path / "1_2.png").unlink()
    assert not are_on_disk(tmp_path, record)

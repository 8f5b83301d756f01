"""Pictures are untrusted input: no program is started for one, and its frames are counted before they are decoded."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import EpsImagePlugin, Image

from host.folders import ROOT, Folders
from host.limits import MAX_PICTURE_FRAMES, MAX_PICTURE_PIXELS
from host.pictures import PictureError, open_picture
from host.server.routes.view import open_image
from host.stock_nodes import LoadImage

POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.fixture
def ghostscript(tmp_path, monkeypatch) -> Path:
    """A program in Ghostscript's place, and the file that appears when it is run."""
    trace, program = tmp_path / "it-ran", tmp_path / "bin/gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {trace}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    return trace


def test_no_picture_runs_a_program(folders: Folders, ghostscript):
    path = folders.input / "x.png"
    path.write_bytes(POSTSCRIPT)
    with pytest.raises(OSError), Image.open(path) as picture:
        picture.load()
    assert ghostscript.exists(), "Pillow itself starts Ghostscript: the trap works"
    ghostscript.unlink()
    with pytest.raises(PictureError):
        LoadImage().load_image("x.png")
    with pytest.raises(Exception, match="Bad Request"), open_image(path):
        pass
    assert not ghostscript.exists()


_OPTIONS = {"GIF": {"duration": 20}, "PNG": {"duration": 20}, "WEBP": {"lossless": True}, "TIFF": {}}


def animation(frames: int, side: int, kind: str = "GIF") -> bytes:
    """An animation of pictures that differ, which packs into very few bytes."""
    buffer = io.BytesIO()
    first, *more = [Image.new("L", (side, side), i % 250) for i in range(frames)]
    first.save(buffer, kind, save_all=True, append_images=more, **_OPTIONS[kind])
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_all_frames_together_are_limited(tmp_path, kind):
    side = 1100
    fitting = MAX_PICTURE_PIXELS // side**2
    for frames, is_accepted in ((fitting, True), (fitting + 1, False)):
        (tmp_path / "x").write_bytes(animation(frames, side, kind))
        if is_accepted:
            open_picture(tmp_path / "x").close()
        else:
            with pytest.raises(PictureError, match=f"{frames} frames"):
                open_picture(tmp_path / "x")


def test_the_number_of_frames_is_limited(tmp_path):
    (tmp_path / "x.gif").write_bytes(animation(MAX_PICTURE_FRAMES + 1, 1))
    with pytest.raises(PictureError, match="frames"):
        open_picture(tmp_path / "x.gif")


def test_frames_of_another_size_are_not_decoded(folders: Folders):
    small, large = Image.new("RGB", (4, 2), (255, 0, 0)), Image.new("L", (9000, 9000))
    small.save(folders.input / "x.tif", save_all=True, append_images=[large, small], compression="tiff_deflate")
    image, _ = LoadImage().load_image("x.tif")
    assert image.shape == (2, 2, 4, 3)


def test_frames_with_and_without_transparency(folders: Folders):
    frames = [Image.new("RGB", (4, 2)), Image.new("RGBA", (4, 2), (0, 0, 0, 51))]
    frames[0].save(folders.input / "x.tif", save_all=True, append_images=frames[1:])
    _, mask = LoadImage().load_image("x.tif")
    assert torch.allclose(mask, torch.tensor([0.0, 0.8])[:, None, None].expand(2, 2, 4))


@pytest.mark.parametrize(("kind", "mode"), [("png", "RGBA"), ("webp", "RGB"), ("jpeg", "RGB")])
def test_loading_the_largest_picture_takes_less_than_a_gibibyte(tmp_path, kind, mode):
    (tmp_path / "input").mkdir()
    Image.new(mode, (8192, MAX_PICTURE_PIXELS // 8192)).save(tmp_path / f"input/x.{kind}")
    assert _peak_growth(tmp_path, f"x.{kind}") < 1 << 30


def test_loading_the_longest_animation_takes_less_than_a_gibibyte(tmp_path):
    (tmp_path / "input").mkdir()
    (tmp_path / "input/x.gif").write_bytes(animation(MAX_PICTURE_PIXELS // 1000**2, 1000))
    assert _peak_growth(tmp_path, "x.gif") < 1 << 30


def _peak_growth(data: Path, name: str) -> int:
    """Bytes by which a process grows at most while it loads a picture."""
    program = f"""
import resource
from pathlib import Path
from host import context, folders
from host.stock_nodes import LoadImage
context.use_folders(folders.default_folders(Path({str(data)!r})))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
LoadImage().load_image({name!r})
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return int(done.stdout) * (1 if sys.platform == "darwin" else 1024)


def test_a_damaged_picture_is_refused_whatever_its_decoder_raises(folders: Folders):
    """Here the second frame of a TIFF has no width: Pillow raises TypeError."""
    path = folders.input / "x.tiff"
    file = io.BytesIO()
    Image.new("1", (13, 7)).save(file, "TIFF", save_all=True, append_images=[Image.new("1", (13, 7))])
    data = file.getvalue()
    second = data.rindex(b"\x00\x01\x04\x00\x01\x00\x00\x00\x0d")  # the tag of the width
    path.write_bytes(data[:second] + b"\xf0" + data[second + 1 :])
    with pytest.raises(PictureError, match="frames of the picture cannot be counted"):
        open_picture(path)

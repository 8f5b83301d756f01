"""Pictures are untrusted input: no program is started for one, and its frames are counted before they are decoded."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from PIL import EpsImagePlugin, Image

from host.folders import ROOT, Folders
from host.limits import MAX_ANIMATION_PIXELS, MAX_PICTURE_FRAMES, MAX_PICTURE_PIXELS
from host.pictures import PictureError, decoded_picture, open_picture
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
    fitting = MAX_ANIMATION_PIXELS // side**2
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


def test_a_camera_picture_with_a_preview_is_its_first_frame(folders: Folders):
    """Like a photo of 45 megapixels with its preview: both together have more pixels than an animation may have."""
    large, preview = Image.new("RGB", (8192, MAX_ANIMATION_PIXELS // 8192), (255, 0, 0)), Image.new("RGB", (8192, 8))
    large.save(folders.input / "x.jpg", "MPO", save_all=True, append_images=[preview])
    image, _ = LoadImage().load_image("x.jpg")
    assert image.shape == (1, MAX_ANIMATION_PIXELS // 8192, 8192, 3)


def most_at_once(path: Path, count: int = 6) -> int:
    """How many of `count` threads hold the decoded picture at the same time, at most."""
    ready, lock, inside, most = threading.Barrier(count), threading.Lock(), 0, 0

    def decode():
        nonlocal inside, most
        ready.wait()
        with decoded_picture(path):
            with lock:
                inside += 1
                most = max(most, inside)
            time.sleep(0.1)  # long enough for every other thread to come in
            with lock:
                inside -= 1

    with ThreadPoolExecutor(count) as pool:
        for done in [pool.submit(decode) for _ in range(count)]:
            done.result()
    return most


def test_large_pictures_are_decoded_one_after_another(tmp_path):
    Image.new("L", (2500, 2500)).save(tmp_path / "large.png")
    Image.new("L", (8, 8)).save(tmp_path / "small.png")
    assert most_at_once(tmp_path / "large.png") == 1
    assert most_at_once(tmp_path / "small.png") > 1, "small ones are not held up, and the count can be above 1"


@pytest.mark.parametrize("kind", ["WEBP", "AVIF"])
def test_a_decoder_is_gone_when_its_picture_is_used(tmp_path, monkeypatch, kind):
    """It would hold twice as much memory as the picture."""
    opened = []

    def remember(*arguments):
        file = open_picture(*arguments)
        opened.append(weakref.ref(file))
        return file

    monkeypatch.setattr("host.pictures.open_picture", remember)
    Image.new("RGB", (64, 64)).save(tmp_path / "x", kind)
    with decoded_picture(tmp_path / "x") as picture:
        assert picture.format == kind and picture.getpixel((0, 0)) == (0, 0, 0)
        (file,) = opened
        assert file() is None


@pytest.mark.parametrize(("kind", "mode"), [("png", "RGBA"), ("webp", "RGB"), ("jpeg", "RGB")])
def test_loading_the_largest_picture_takes_less_than_a_gibibyte(tmp_path, kind, mode):
    (tmp_path / "input").mkdir()
    Image.new(mode, (8192, MAX_PICTURE_PIXELS // 8192)).save(tmp_path / f"input/x.{kind}")
    assert _peak_growth(tmp_path, f"x.{kind}") < 1 << 30


def test_loading_the_longest_animation_takes_less_than_a_gibibyte(tmp_path):
    (tmp_path / "input").mkdir()
    (tmp_path / "input/x.gif").write_bytes(animation(MAX_ANIMATION_PIXELS // 1000**2, 1000))
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

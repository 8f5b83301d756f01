"""LoadImage, SaveImage and PreviewImage behave as ComfyUI's."""

from __future__ import annotations

import json
import os
import re
import time

import numpy as np
import pytest
import torch
from PIL import Image

from host.folders import FolderError, Folders, requested_path
from host.stock_nodes import LoadImage, PreviewImage, SaveImage


def grey(count=1, height=4, width=6, value=0.5):
    return torch.full((count, height, width, 3), value)


def save(prefix="x", images=None, **more):
    return SaveImage().save_images(grey() if images is None else images, prefix, **more)["ui"]["images"]


def test_files_are_numbered_on(folders: Folders):
    assert [entry["filename"] for entry in save(images=grey(2))] == ["x_00001_.png", "x_00002_.png"]
    assert save() == [{"filename": "x_00003_.png", "subfolder": "", "type": "output"}]
    (folders.output / "x_00041_.png").touch()
    (folders.output / "xy_00099_.png").touch()
    (folders.output / "x_notes.txt").touch()
    assert save()[0]["filename"] == "x_00042_.png"
    assert not list(folders.output.glob("*.tmp")) and not list(folders.output.glob(".*"))


def test_the_prefix_may_name_a_folder_and_variables(folders: Folders):
    now = time.strftime("%Y-%m-%d")
    (entry,) = save("a/b/%width%x%height%_%date:yyyy-MM-dd%_%year%_%unknown%_%batch_num%")
    assert entry["subfolder"] == os.path.join("a", "b")
    assert entry["filename"] == f"6x4_{now}_{now[:4]}_%unknown%_0_00001_.png"
    assert (folders.output / entry["subfolder"] / entry["filename"]).is_file()


@pytest.mark.parametrize("prefix", ["../x", "/etc/x", "a/../../x", "..", "a/..", "a\0b", "."])
def test_no_file_leaves_the_output_folder(folders: Folders, prefix):
    with pytest.raises((FolderError, ValueError)):
        save(prefix)
    assert not any(path.is_file() for path in folders.output.parent.rglob("*"))


@pytest.mark.parametrize("prefix", ["a\\b", "v:x", "a\tb", "a\nb", "a\x7fb", "a\ud800b"])
def test_a_saved_file_has_a_name_that_can_be_asked_for(folders: Folders, prefix):
    (entry,) = save(prefix)
    path = requested_path(folders.output, entry["subfolder"], entry["filename"])
    assert path.is_file() and path.name == f"{prefix[0]}_{prefix[-1]}_00001_.png"


@pytest.mark.parametrize("prefix", ["x" * 250, "é" * 125, "x" * 300 + "/x", "x/" * 40 + "x", "file/x", "file/x/x"])
def test_a_prefix_that_no_file_can_have_is_refused_in_a_sentence(folders: Folders, prefix):
    folders.output.mkdir()
    (folders.output / "file").touch()
    with pytest.raises(FolderError, match="is too long|a file in the place of a folder") as refused:
        save(prefix)
    assert len(str(refused.value)) < 200


def test_a_link_out_of_the_output_folder_is_not_followed(folders: Folders, tmp_path):
    folders.output.mkdir()
    (tmp_path / "outside").mkdir()
    (folders.output / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(FolderError, match="outside the output folder"):
        save("link/x")


def test_pixels_are_clipped_and_truncated_as_comfyui_does(folders: Folders):
    values = torch.tensor([[[[-0.5, 0.0, 0.5], [0.999, 1.0, 7.0]]]])
    save(images=values)
    with Image.open(folders.output / "x_00001_.png") as picture:
        assert np.array(picture).tolist() == [[[0, 0, 127], [254, 255, 255]]]


def test_a_picture_carries_its_prompt_and_workflow(folders: Folders):
    save(prompt={"1": {"class_type": "A"}}, extra_pnginfo={"workflow": {"nodes": []}, "other": "ä"})
    with Image.open(folders.output / "x_00001_.png") as picture:
        info = picture.info
    assert json.loads(info["prompt"]) == {"1": {"class_type": "A"}}
    assert json.loads(info["workflow"]) == {"nodes": []}
    assert json.loads(info["other"]) == "ä"


def test_metadata_that_no_picture_can_hold_is_left_out(folders: Folders, caplog):
    save(prompt={"x": float("nan")}, extra_pnginfo={"": 1, "a" * 80: 2, "ü": 3, "a\0b": 4, "fine": [float("inf")]})
    with Image.open(folders.output / "x_00001_.png") as picture:
        assert picture.info == {"prompt": '{"x": null}', "fine": "[null]"}
    save(extra_pnginfo=["no", "object"])
    assert len(caplog.records) == 4


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA")])
def test_grey_and_transparent_pictures(folders: Folders, channels, mode):
    save(images=torch.rand(1, 4, 4, channels))
    with Image.open(folders.output / "x_00001_.png") as picture:
        assert picture.mode == mode


def test_what_is_no_picture_is_refused(folders: Folders):
    with pytest.raises(ValueError, match=r"shape \(B, H, W, C\)"):
        save(images=torch.zeros(4, 4, 3))


def test_a_write_that_fails_leaves_nothing(folders: Folders, monkeypatch):
    def fail(self, path, **options):
        path.write_bytes(b"half a pic")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        save()
    assert list(folders.output.iterdir()) == []


def test_a_name_taken_meanwhile_is_not_overwritten(folders: Folders, monkeypatch):
    real = Image.Image.save

    def save_while_another_does(self, path, **options):
        real(self, path, **options)
        (folders.output / "x_00001_.png").write_bytes(b"another's")

    monkeypatch.setattr(Image.Image, "save", save_while_another_does)
    assert save()[0]["filename"] == "x_00002_.png"
    assert (folders.output / "x_00001_.png").read_bytes() == b"another's"


def test_a_preview_goes_to_temp_under_its_nodes_own_name(folders: Folders):
    one, two = PreviewImage(), PreviewImage()
    (first,), (second,) = (node.save_images(grey())["ui"]["images"] for node in (one, two))
    assert first["type"] == "temp"
    assert re.fullmatch(r"ComfyUI_temp_[a-z]{5}_00001_\.png", first["filename"])
    assert (folders.temp / first["filename"]).is_file()
    assert first["filename"] != second["filename"]


def test_saved_pictures_are_read_back(folders: Folders):
    pixels = torch.randint(0, 256, (1, 5, 7, 3)) / 255.0
    (entry,) = save(images=pixels)
    image, mask = LoadImage().load_image(f"{entry['filename']} [output]")
    assert torch.allclose(image, pixels, atol=1 / 255)
    assert torch.equal(mask, torch.zeros(1, 64, 64))


def test_the_mask_is_where_the_picture_is_transparent(folders: Folders):
    Image.new("RGBA", (4, 2), (10, 20, 30, 51)).save(folders.input / "a.png")
    image, mask = LoadImage().load_image("a.png")
    assert image.shape == (1, 2, 4, 3)
    assert torch.allclose(mask, torch.full((1, 2, 4), 0.8))


def test_palettes_greys_and_animations(folders: Folders):
    palette = Image.new("P", (4, 2))
    palette.info["transparency"] = 0
    palette.save(folders.input / "p.png", transparency=0)
    assert torch.equal(LoadImage().load_image("p.png")[1], torch.ones(1, 2, 4))
    Image.new("L", (4, 2), 255).save(folders.input / "l.png")
    assert torch.equal(LoadImage().load_image("l.png")[0], torch.ones(1, 2, 4, 3))
    frames = [Image.new("RGB", (4, 2), (i, 0, 0)) for i in (0, 100, 200)]
    frames[0].save(folders.input / "a.webp", save_all=True, append_images=frames[1:], lossless=True)
    image, mask = LoadImage().load_image("a.webp")
    assert image.shape == (3, 2, 4, 3) and mask.shape == (3, 64, 64)
    assert (image[:, 0, 0, 0] * 255).round().tolist() == [0, 100, 200]


def test_sixteen_bits_keep_their_brightness(folders: Folders):
    Image.fromarray(np.full((2, 4), 32768, dtype=np.uint16)).save(folders.input / "deep.png")
    assert torch.allclose(LoadImage().load_image("deep.png")[0], torch.full((1, 2, 4, 3), 0.5), atol=0.01)


def test_the_choice_lists_the_pictures_of_the_input_folder(folders: Folders):
    for name in ("b.png", "a.JPG", "notes.txt", "sub"):
        (folders.input / name).mkdir() if name == "sub" else (folders.input / name).touch()
    assert LoadImage.INPUT_TYPES()["required"]["image"] == (["a.JPG", "b.png"], {"image_upload": True})


def test_a_missing_input_folder_is_an_empty_choice(folders: Folders):
    folders.input.rmdir()
    assert LoadImage.INPUT_TYPES()["required"]["image"][0] == []


@pytest.mark.parametrize("name", ["no.png", "../a.png", "/etc/passwd", "", ".", "a\0.png", 5, None, "a.png [temp]"])
def test_a_file_that_is_not_there_does_not_validate(folders: Folders, name):
    Image.new("RGB", (4, 4)).save(folders.input.parent / "a.png")
    assert LoadImage.VALIDATE_INPUTS(name) == f"Invalid image file: {name}"


def test_a_changed_file_changes_the_node(folders: Folders):
    Image.new("RGB", (4, 4)).save(folders.input / "a.png")
    before = LoadImage.IS_CHANGED("a.png")
    assert LoadImage.IS_CHANGED("a.png") == before
    Image.new("RGB", (4, 4), (1, 1, 1)).save(folders.input / "a.png")
    assert LoadImage.IS_CHANGED("a.png") != before

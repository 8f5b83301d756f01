"""Example workflows of inversion, flow models and fitted steps, in the embedded host; what they show is true."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import host.context
from demo import held_out_emoji
from demo.emoji.tints import in_grey, nearest_tint
from demo.judge import find_stroke, read_digits, train_judge
from host.execution.executor import Executor
from host.folders import default_folders
from host.packs import load_pack
from host.validation import validate
from host.workflows import read_workflow

SCALE, SIDE = 3, 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    base = tmp_path_factory.mktemp("host")
    (base / "input").mkdir()
    before = host.context.use_folders(default_folders(base))
    yield base
    host.context.use_folders(before)


@pytest.fixture(scope="module")
def pictures(repo_root: Path, folder: Path) -> Callable[..., dict[str, Tensor]]:
    """Runs a workflow; gives for each file prefix the grid's pictures, (rows, columns, 3, 32, 32) in [-1, 1]."""
    registry = load_pack(repo_root)

    def run(name: str, change: Callable[[dict[str, Any]], None] = lambda prompt: None) -> dict[str, Tensor]:
        prompt = read_workflow(repo_root / "example_workflows" / f"{name}.json", registry).prompt
        change(prompt)
        checked = validate(prompt, registry)
        assert checked.error is None, checked
        result = Executor(registry).run(
            checked.prompt, uuid.uuid4().hex, checked.outputs, {}, lambda *event: None, threading.Event()
        )
        assert result.status == "success", result
        images = [image for output in result.outputs.values() for image in output.get("images", [])]
        return {each["filename"].rsplit("_", 2)[0]: grid(folder / "output" / path_of(each)) for each in images}

    return run


def path_of(image: dict[str, str]) -> Path:
    return Path(image["subfolder"]) / image["filename"]


def grid(path: Path) -> Tensor:
    pixels = np.asarray(Image.open(path).convert("RGB"), np.float32)[::SCALE, ::SCALE] / 127.5 - 1
    rows, columns = pixels.shape[0] // SIDE, pixels.shape[1] // SIDE
    return torch.from_numpy(pixels).reshape(rows, SIDE, columns, SIDE, 3).permute(0, 2, 4, 1, 3)


def levels(a: Tensor, b: Tensor) -> Tensor:
    """Largest difference in levels of 0..255."""
    return (a - b).abs().max() * 127.5


def slant(images: Tensor) -> Tensor:
    """How far the stroke leans: horizontal shift per row, by least squares over the ink, (N,)."""
    ink = find_stroke(images)
    y, x = torch.meshgrid(*(torch.arange(float(side)) for side in ink.shape[1:]), indexing="ij")
    total = ink.sum((1, 2))
    mean_x, mean_y = ((ink * axis).sum((1, 2)) / total for axis in (x, y))
    dx, dy = x - mean_x[:, None, None], y - mean_y[:, None, None]
    return (ink * dx * dy).sum((1, 2)) / (ink * dy * dy).sum((1, 2))


def tones(images: Tensor) -> Tensor:
    """Colour of the paper, (N, 3)."""
    return torch.cat([images[..., 0, :], images[..., -1, :]], -1).median(-1).values


def test_a_picture_comes_back_from_recorded_noise_and_not_from_the_plain_one(pictures: Any) -> None:
    shown = pictures("Invert and reconstruct")
    assert levels(shown["exact"], shown["original"]) <= 1.01
    plain = (shown["plain"] - shown["original"]).square().mean()
    assert 1e-4 < float(plain) < 0.1


def test_a_3_becomes_an_8_and_keeps_tone_and_slant(pictures: Any) -> None:
    shown = pictures("Edit a picture - a 3 becomes an 8")
    before, after = shown["before"][0], shown["after"][0]
    judge = train_judge()
    assert int((read_digits(judge, after) == 8).sum()) >= 7
    assert float((tones(after) - tones(before)).abs().mean()) < 0.1
    kept = torch.corrcoef(torch.stack([slant(before), slant(after)]))[0, 1]
    assert float(kept) > 0.4, (slant(before), slant(after))


def set_steps(node: dict[str, Any], steps: int) -> None:
    """Give a node that plans steps another number of them."""
    if node["class_type"] in ("DDIMSchedule", "DDIMInvert", "DDIMSample"):
        node["inputs"]["steps"] = steps


def few(prompt: dict[str, Any]) -> None:
    """Four pictures in fewer steps."""
    for node in prompt.values():
        if node["class_type"] == "DDIMDemoPicture":
            node["inputs"]["digits"] = "3333"
        set_steps(node, 20)


def test_proximal_guidance_keeps_more_of_the_paper_than_the_same_edit_without_it(pictures: Any) -> None:
    def without(prompt: dict[str, Any]) -> None:
        few(prompt)
        for node in prompt.values():
            if node["class_type"] == "DDIMSample":
                node["inputs"]["proximal"] = "off"

    with_it, plain = (pictures("Edit a picture - keep the background", change) for change in (few, without))
    moved = [float((tones(each["after"][0]) - tones(each["before"][0])).abs().mean()) for each in (with_it, plain)]
    assert moved[0] < 0.7 * moved[1], moved
    assert int((read_digits(train_judge(), with_it["after"][0]) == 8).sum()) >= 2


def test_edit_guidance_replaces_a_digit_without_a_prompt_for_the_picture(pictures: Any) -> None:
    shown = pictures("Edit a picture - add and remove", few)
    before, after = shown["before"][0], shown["after"][0]
    assert int((read_digits(train_judge(), after) == 8).sum()) >= 3
    assert float((tones(after) - tones(before)).abs().mean()) < 0.15


def test_the_same_prompt_gives_the_picture_back_exactly(pictures: Any) -> None:
    def as_it_was(prompt: dict[str, Any]) -> None:
        for node in prompt.values():
            if node["class_type"] == "DDIMDemoPrompt" and node["inputs"]["digits"] == "8":
                node["inputs"]["digits"] = "3"
            if node["class_type"] == "DDIMSample":
                node["inputs"]["cfg"] = 1.0
            if node["class_type"] == "DDIMDemoPicture":
                node["inputs"]["digits"] = "33"
            set_steps(node, 12)

    shown = pictures("Edit a picture - a 3 becomes an 8", as_it_was)
    assert levels(shown["after"], shown["before"]) <= 1.01


def test_the_flow_model_draws_digits_edits_them_and_gives_them_back(pictures: Any) -> None:
    def cheaper(prompt: dict[str, Any]) -> None:
        for node in prompt.values():
            set_steps(node, 12)

    def as_it_was(prompt: dict[str, Any]) -> None:
        cheaper(prompt)
        for node in prompt.values():
            if node["class_type"] == "DDIMDemoPrompt" and node["inputs"]["digits"] == "8":
                node["inputs"]["digits"] = "3"
            if node["class_type"] == "DDIMSample" and "variance_noise" in node["inputs"]:
                node["inputs"]["cfg"] = 1.0

    shown, judge = pictures("Flow model - sample and edit", cheaper), train_judge()
    assert int((read_digits(judge, shown["sampled"][0]) == torch.arange(8)).sum()) >= 7
    before, after = shown["before"][0], shown["after"][0]
    assert int((read_digits(judge, after) == 8).sum()) >= 7
    assert float((tones(after) - tones(before)).abs().mean()) < 0.1
    back = pictures("Flow model - sample and edit", as_it_was)
    assert levels(back["after"], back["before"]) <= 1.01


def test_five_fitted_steps_come_nearer_to_twenty_than_five_even_ones(pictures: Any) -> None:
    def cheaper(prompt: dict[str, Any]) -> None:
        for node in prompt.values():
            if node["class_type"] == "DDIMFitSteps":
                node["inputs"]["method"] = "fast"

    shown = pictures("Few steps - fitted to the model", cheaper)
    even, fitted = (float((shown[name] - shown["trailing_20"]).square().mean()) for name in ("trailing_5", "fitted_5"))
    assert fitted < 0.5 * even


def test_between_two_digits_every_frame_is_a_picture(pictures: Any, call_picture: Any) -> None:
    frames = pictures("Interpolate between pictures")["frames"]
    assert frames.shape[:2] == (3, 9)
    for column, (digits, scan) in ((0, ("307", 3)), (-1, ("852", 2))):
        assert float((frames[:, column] - call_picture(digits, scan)).square().mean()) < 5e-3
    ends = torch.linalg.vector_norm((frames[:, 0] - frames[:, -1]).flatten(1), dim=1)
    mean_of_ends = (frames[:, :1] + frames[:, -1:]) / 2
    apart = torch.linalg.vector_norm((frames - mean_of_ends).flatten(2), dim=2)
    assert bool((apart[:, 1:-1] > 0.1 * ends[:, None]).all()), "a frame is a double exposure"
    assert float(frames.flatten(2).std(2).min()) > 0.05


@pytest.fixture(scope="module")
def call_picture() -> Callable[[str, int], Tensor]:
    from demo import held_out_picture

    return lambda digits, scan: torch.stack([held_out_picture(int(digit), scan) for digit in digits]) * 2 - 1


def test_a_shared_file_of_noise_gives_the_picture_back(pictures: Any, folder: Path, call_picture: Any) -> None:
    shown = pictures("Share an inverted picture")["digits"]
    assert levels(shown[0], call_picture("27", 1)) <= 1.01
    (written,) = (folder / "output" / "noise").glob("*.safetensors")
    whole = 21 * 2 * 3 * SIDE * SIDE * 4  # latent and twenty steps in float32
    assert written.stat().st_size < 0.6 * whole

    def from_a_friend(prompt: dict[str, Any]) -> None:
        """The file lies in the input folder, and nothing inverts or saves."""
        (loader,) = (node for node in prompt.values() if node["class_type"] == "DDIMLoadNoise")
        loader["inputs"] = {"noise_file": "gift.safetensors"}
        for key in [k for k, node in prompt.items() if node["class_type"] in ("DDIMInvert", "DDIMSaveNoise")]:
            del prompt[key]

    written.rename(folder / "input" / "gift.safetensors")
    again = pictures("Share an inverted picture", from_a_friend)["digits"]
    assert torch.equal(again, shown)


def test_all_three_ways_of_guidance_draw_the_digits_and_cfg_plus_plus_keeps_colours_in_range(pictures: Any) -> None:
    def cheaper(prompt: dict[str, Any]) -> None:
        for node in prompt.values():
            set_steps(node, 10)

    shown, judge = pictures("Guidance - CFG, CFG++, interval", cheaper), train_judge()
    for name in ("cfg", "cfg_plus_plus", "interval"):
        assert int((read_digits(judge, shown[name][0]) == torch.arange(10)).sum()) >= 7, name
    at_limit = {name: float((image.abs() > 0.99).float().mean()) for name, image in shown.items()}
    assert at_limit["cfg_plus_plus"] < at_limit["interval"] < at_limit["cfg"], at_limit


def test_words_become_the_emoji_that_they_name(pictures: Any) -> None:
    shown = pictures("Emoji - from words")["emoji"].flatten(0, 1)
    assert len(shown) == 16
    tints = ["blue", "green", "pink", "purple", "yellow", "red"]
    assert nearest_tint(shown[1:12:2] / 2 + 0.5) == tints
    assert nearest_tint(shown[14:] / 2 + 0.5) == ["orange", "pink"]
    assert float((shown[..., 0, :] > 0.8).float().mean()) > 0.9  # paper


def test_a_changed_word_tints_an_emoji_and_keeps_its_shape(pictures: Any) -> None:
    def unchanged(prompt: dict[str, Any]) -> None:
        for node in prompt.values():
            if node["class_type"] == "DDIMSample":
                node["inputs"]["positive"] = prompt_of(prompt, "DDIMInvert")

    shown = pictures("Emoji - edit by words")
    before, after = shown["before"][0], shown["after"][0]
    assert nearest_tint(after / 2 + 0.5) == ["blue", "purple", "red", "pink"]
    grey = [in_grey(images / 2 + 0.5).flatten(1) for images in (before, after)]
    kept = [float(torch.corrcoef(torch.stack(pair))[0, 1]) for pair in zip(*grey, strict=True)]
    assert min(kept) > 0.8, kept
    same = pictures("Emoji - edit by words", unchanged)
    assert levels(same["after"], same["before"]) <= 1.01


def prompt_of(prompt: dict[str, Any], kind: str) -> list[Any]:
    """The link of the positive prompt of the node of a class."""
    return next(node["inputs"]["positive"] for node in prompt.values() if node["class_type"] == kind)


def test_between_two_emoji_no_frame_is_a_double_exposure(pictures: Any) -> None:
    frames = pictures("Emoji - interpolate")["emoji_interpolate"]
    assert frames.shape[:2] == (2, 9)
    ends = [("cow face", "rabbit face"), ("grinning face with star eyes", "smiling cat face with heart-shaped eyes")]
    for row, names in zip(frames, ends, strict=True):
        for frame, name in zip((row[0], row[-1]), names, strict=True):
            assert float((frame - (held_out_emoji(name) * 2 - 1)).square().mean()) < 0.02
        apart = torch.linalg.vector_norm((row - (row[:1] + row[-1:]) / 2).flatten(1), dim=1)
        assert float(apart[1:-1].min()) > 0.1 * float(torch.linalg.vector_norm(row[0] - row[-1]))

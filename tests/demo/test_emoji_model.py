"""The emoji model that ships: its file, what it draws, and what it makes of words and pictures that it has not seen.

`emoji_reference.png` holds 48 pictures of its training, to judge by; `python -m bench.emoji` judges by all.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from demo import EMOJI_WEIGHTS, HELD_OUT, DemoWeightsError, EmojiModel, held_out_emoji, load_emoji_model
from demo.draw import initial_noise, make_scheduler
from demo.emoji.draw import draw_emoji, edit_emoji
from demo.emoji.judge import nearest_in_colour, nearest_in_grey
from demo.emoji.network import EmojiArchitecture, EmojiUNet
from demo.emoji.pictures import EmojiPictures
from demo.emoji.prompts import Vocabulary, tinted
from demo.emoji.tints import TINTS, nearest_tint
from demo.emoji.weights import FORMAT, save_emoji_weights

HERE = Path(__file__).resolve().parent
CHANNELS = {f"{part}_channels": 16 for part in ("fine", "coarse", "condition", "word", "text", "unfolded")}
SMALL = EmojiArchitecture(9, **CHANNELS)
WORDS = ("any", "face", *(f"in {tint}" for tint in list(TINTS)[:5]))


@pytest.fixture(scope="module")
def model() -> EmojiModel:
    return load_emoji_model()


@pytest.fixture(scope="module")
def reference() -> EmojiPictures:
    with Image.open(HERE / "emoji_reference.png") as sheet:
        names = json.loads(sheet.text["names"])  # type: ignore[attr-defined]
        pixels = torch.from_numpy(np.array(sheet.convert("RGB")))
    rows, columns = pixels.shape[0] // 32, pixels.shape[1] // 32
    tiles = pixels.reshape(rows, 32, columns, 32, 3).permute(0, 2, 4, 1, 3).reshape(-1, 3, 32, 32)
    return EmojiPictures(tuple(names), tiles[: len(names)])


def drawn(model: EmojiModel, prompts: list[str], seed: int = 3) -> Tensor:
    return draw_emoji(model, prompts, initial_noise(len(prompts), seed), make_scheduler(model, 20))


def agreement(found: list[str], asked: list[str]) -> float:
    return sum(a == b for a, b in zip(found, asked, strict=True)) / len(asked)


def test_the_file_is_small_and_says_where_it_is_from(model: EmojiModel) -> None:
    assert EMOJI_WEIGHTS.stat().st_size <= FORMAT.max_bytes
    assert model.metadata["training_command"] == "python -m demo.train --model emoji"
    assert len(model.names) == 1345 and not set(HELD_OUT) & set(model.names)
    assert 3e6 <= sum(parameter.numel() for parameter in model.network.parameters()) <= 5e6
    assert (EMOJI_WEIGHTS.parents[1] / "emoji" / "LICENSE-fluent-emoji.txt").read_text().count("Copyright") == 2


def test_it_can_read_the_names_of_all_its_pictures_and_of_those_it_has_not_seen(model: EmojiModel) -> None:
    assert model.encode([*model.names, *HELD_OUT, ""]).shape == (1345 + len(HELD_OUT) + 1, 640)


def test_blue_tiger_face_is_tiger_face_in_blue_and_blue_heart_is_a_name(model: EmojiModel) -> None:
    before, behind, heart, tinted_heart = model.encode(
        ["blue tiger face", "tiger face in blue", "blue heart", "heart in blue"]
    )
    assert torch.equal(before, behind) and not torch.allclose(heart, tinted_heart)
    assert torch.equal(*model.encode(["blue cow face", "cow face in blue"]))  # held out, a name nevertheless


def test_it_draws_what_is_asked_for(model: EmojiModel, reference: EmojiPictures) -> None:
    prompts = list(reference.names)
    assert agreement(nearest_in_colour(drawn(model, prompts), reference), prompts) >= 0.9


def test_it_draws_in_the_tint_that_is_asked_for(model: EmojiModel, reference: EmojiPictures) -> None:
    names, tints = list(reference.names), [list(TINTS)[i % len(TINTS)] for i in range(len(reference.names))]
    pictures = drawn(model, [tinted(name, tint) for name, tint in zip(names, tints, strict=True)])
    assert agreement(nearest_in_grey(pictures, reference), names) >= 0.8
    assert agreement(nearest_tint(pictures / 2 + 0.5), tints) >= 0.8


def test_any_leaves_the_choice_to_the_seed(model: EmojiModel) -> None:
    pictures = drawn(model, ["any face"] * 6)
    apart = torch.cdist(pictures.flatten(1), pictures.flatten(1))
    assert float(apart[~torch.eye(6, dtype=torch.bool)].min()) > 5.0


def test_a_picture_that_it_has_not_seen_comes_back_exactly_and_takes_another_tint(model: EmojiModel) -> None:
    names = ["cow face", "orange heart", "green book", "closed umbrella"]
    pictures = torch.stack([held_out_emoji(name) for name in names]) * 2 - 1
    scheduler, tinted_names = make_scheduler(model, 20), [f"{name} in blue" for name in names]
    back, blue = (edit_emoji(model, pictures, names, targets, scheduler) for targets in (names, tinted_names))
    assert float((back - pictures).abs().max()) < 1e-3
    assert nearest_tint(blue / 2 + 0.5) == ["blue"] * 4
    shapes = EmojiPictures(tuple(HELD_OUT), torch.stack([(held_out_emoji(name) * 255).byte() for name in HELD_OUT]))
    assert agreement(nearest_in_grey(blue, shapes), names) >= 0.75


def test_a_held_out_emoji_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="must be one of closed umbrella, cow face, .*, got 'tiger face'"):
        held_out_emoji("tiger face")
    assert nearest_tint(held_out_emoji("cow face in green")[None]) == ["green"]


@pytest.mark.parametrize(
    ("x", "timestep", "prompt", "message"),
    [
        ((2, 3, 16, 16), (2,), torch.ones(2, 16, dtype=torch.int64), "x must have shape"),
        ((2, 3, 32, 32), (1,), torch.ones(2, 16, dtype=torch.int64), "timestep must have shape"),
        ((2, 3, 32, 32), (2,), torch.ones(2, 11), "as DDIM Demo Text Prompt gives them, got \\(2, 11\\)"),
        ((2, 3, 32, 32), (2,), torch.ones(2, 9, dtype=torch.int64), "prompt must be"),
    ],
)
def test_inputs_of_wrong_shapes_are_refused(
    model: EmojiModel, x: tuple[int, ...], timestep: tuple[int, ...], prompt: Tensor, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        model.network(torch.zeros(x), torch.zeros(timestep), prompt)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    network = EmojiUNet(SMALL)
    metadata = {
        "words": json.dumps(WORDS),
        "names": json.dumps(["face"]),
        "data_sha256": "0" * 64,
        "training_command": "none",
    }
    save_emoji_weights(tmp_path / "good.safetensors", network.state_dict(), network, metadata)
    return tmp_path / "good.safetensors"


CHANGES: dict[str, tuple[Callable[[dict, dict], object], str]] = {
    "a wrong shape": (lambda t, m: t.update({"enter.bias": torch.zeros(5)}), "enter.bias must have shape"),
    "too few words": (lambda t, m: m.update(words='["any"]'), "words must be 9 with the two marks, got 3"),
    "words that are no words": (lambda t, m: m.update(words="[1]"), "words must be a list of names"),
    "no names": (lambda t, m: m.pop("names"), "its metadata lack names"),
    "the digits' format": (lambda t, m: m.update(format="ddim-demo-digits"), "must have format ddim-demo-emoji"),
    "a giant network": (
        lambda t, m: m.update(architecture=json.dumps(SMALL.as_dict() | {"coarse_channels": 10**9})),
        "architecture is impossible: coarse_channels must be",
    ),
    "a number that is none": (lambda t, m: t["enter.bias"].fill_(float("inf")), "enter.bias has values that are not"),
}


def test_what_was_saved_is_loaded_as_float32(good: Path) -> None:
    loaded = load_emoji_model(good)
    assert loaded.vocabulary.words == Vocabulary(WORDS).words and loaded.names == ("face",)
    assert all(tensor.dtype == torch.float32 for tensor in loaded.network.state_dict().values())
    assert not loaded.network.training and not any(p.requires_grad for p in loaded.network.parameters())


@pytest.mark.parametrize("what", CHANGES)
def test_a_file_with_this_is_refused(good: Path, what: str) -> None:
    change, message = CHANGES[what]
    with safe_open(good, framework="pt") as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}
        metadata = dict(opened.metadata())
    change(tensors, metadata)
    save_file(tensors, good, metadata=metadata)
    with pytest.raises(DemoWeightsError, match=message):
        load_emoji_model(good)

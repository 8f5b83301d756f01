"""What the emoji model is trained on: the package, its names and tints, and what a batch shows."""

import hashlib
import io
import tarfile
from base64 import b64encode
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from demo.emoji import archive
from demo.emoji.archive import fetch_archive
from demo.emoji.judge import nearest_in_colour, nearest_in_grey
from demo.emoji.network import EmojiArchitecture, EmojiUNet
from demo.emoji.pictures import EmojiPictures, held_out_pairs, load_pictures, pictures_hash
from demo.emoji.prompts import split_tint, split_words
from demo.emoji.tints import TINTS, in_tint, nearest_tint
from demo.emoji.weights import load_emoji_model
from demo.train import main, train
from demo.training.emoji import EmojiBatches
from demo.training.recipe import TrainingOptions
from demo.training.state import resume_training, save_training, start_training

FILES = {  # a tiger, a red heart with a selector, a family of several characters, an octopus higher than wide
    "1f42f": ((200, 120, 20), (256, 256)),
    "2764-fe0f": ((220, 20, 40), (256, 256)),
    "1f468-200d-1f469": ((1, 2, 3), (256, 256)),
    "1f419": ((240, 120, 130), (256, 264)),
    "1fae8": ((9, 9, 9), (256, 256)),  # of Unicode 15
}
NAMES = ("heavy black heart", "octopus", "tiger face")
SHORT = TrainingOptions(steps=16, batch_size=6, warmup_steps=4, precision="fp32")


def picture(colour: tuple[int, int, int], size: tuple[int, int]) -> bytes:
    """A square of one colour in the middle of a transparent picture."""
    image = Image.new("RGBA", size, (0, 0, 0, 0))
    image.paste((*colour, 255), (64, 64, size[0] - 64, size[1] - 64))
    file = io.BytesIO()
    image.save(file, "WEBP", lossless=True)
    return file.getvalue()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An archive like that of npm, which is taken for the real one."""
    path = tmp_path / "kept" / "package.tgz"
    path.parent.mkdir()
    with tarfile.open(path, "w:gz") as opened:
        for name, (colour, size) in FILES.items():
            content = picture(colour, size)
            member = tarfile.TarInfo(f"package/assets/{name}.webp")
            member.size = len(content)
            opened.addfile(member, io.BytesIO(content))
    digest = b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    monkeypatch.setattr(archive, "INTEGRITY", f"sha512-{digest}")
    monkeypatch.setattr(archive, "KEPT", path)
    return path


@pytest.fixture(scope="module")
def pictures() -> EmojiPictures:
    pixels = torch.randint(0, 256, (len(NAMES), 3, 32, 32), generator=torch.Generator().manual_seed(2))
    return EmojiPictures(NAMES, pixels.to(torch.uint8))


def test_only_single_characters_of_unicode_14_are_taken_by_their_names(package: Path) -> None:
    loaded = load_pictures()
    assert loaded.names == NAMES and loaded.pixels.shape == (3, 3, 32, 32)


def test_a_picture_lies_on_white_and_is_averaged_down_whatever_its_shape(package: Path) -> None:
    loaded = load_pictures(package)
    for name, file in (("tiger face", "1f42f"), ("octopus", "1f419")):
        colour = FILES[file][0]
        pixels = loaded.pixels[loaded.names.index(name)]
        assert (pixels[:, 0] == 255).all() and pixels[:, 16, 16].tolist() == list(colour)


def test_a_package_that_is_another_is_refused(package: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.tgz"
    other.write_bytes(package.read_bytes() + b" ")
    with pytest.raises(ValueError, match="must be @lobehub/fluent-emoji-3d 1.1.0 .* remove it to fetch it again"):
        load_pictures(other)


def test_nothing_is_fetched_without_encryption(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(archive, "KEPT", tmp_path / "absent.tgz")
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "http://127.0.0.1:9/")
    with pytest.raises(ValueError, match="must be an https address"):
        fetch_archive()


def test_one_pair_in_ten_is_held_out() -> None:
    pairs = held_out_pairs(1345)
    assert pairs.shape == (1345, len(TINTS)) and int(pairs.sum()) == 1345 * len(TINTS) // 10
    assert torch.equal(pairs, held_out_pairs(1345))


def test_the_judge_knows_a_picture_in_colour_and_its_shape_in_every_tint(pictures: EmojiPictures) -> None:
    colours = pictures.pixels.float() / 255
    assert nearest_in_colour(colours * 2 - 1, pictures) == list(NAMES)
    for tint in TINTS:
        assert nearest_in_grey(in_tint(colours, tint) * 2 - 1, pictures) == list(NAMES)


def test_a_batch_says_what_it_shows_and_never_shows_a_held_out_pair(pictures: EmojiPictures) -> None:
    batches = EmojiBatches(pictures)
    held_out, seen, empty, count = held_out_pairs(len(NAMES)), set(), 0, 0
    assert held_out.any()
    for step in range(120):
        batch = batches.draw(SHORT, step)
        colours = batch.pictures / 2 + 0.5
        shown = nearest_in_grey(batch.pictures, pictures)
        for tokens, name, hue in zip(batch.condition.tolist(), shown, nearest_tint(colours), strict=True):
            words = [batches.vocabulary.words[token - 2] for token in tokens if token > 1]
            said, tint = split_tint(" ".join(words))
            count, empty = count + 1, empty + (not words)
            assert set(split_words(said)) <= {"any", *split_words(name)}
            if tint:
                assert tint == hue
                seen.add((name, tint))
    missing = {(NAMES[i], list(TINTS)[j]) for i, j in held_out.nonzero().tolist()}
    assert not seen & missing and len(seen) == len(NAMES) * len(TINTS) - len(missing)
    assert 0.05 < empty / count < 0.16


def test_every_picture_is_shown_once_in_a_round_and_a_batch_depends_on_seed_and_step_alone(
    pictures: EmojiPictures,
) -> None:
    batches = EmojiBatches(pictures)
    shown = nearest_in_grey(batches.draw(SHORT, 3).pictures, pictures)
    assert sorted(shown) == sorted(NAMES * 2)
    first, again, other = (EmojiBatches(pictures).draw(SHORT, step) for step in (5, 5, 6))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.noise, other.noise)


def build(batches: EmojiBatches) -> EmojiUNet:
    sizes = {"fine_channels": 16, "coarse_channels": 16, "condition_channels": 16, "word_channels": 16}
    return EmojiUNet(EmojiArchitecture(len(batches.vocabulary), **sizes, text_channels=24, unfolded_channels=4))


def test_it_learns_and_an_interrupted_training_ends_in_the_same_bits(pictures: EmojiPictures, tmp_path: Path) -> None:
    class Interrupted(Exception):
        pass

    def stop(step: int, loss: float) -> None:
        if step == 7:
            raise Interrupted

    batches, losses = EmojiBatches(pictures), []
    whole = start_training(SHORT, lambda: build(batches))
    train(whole, batches, lambda step, loss: losses.append(loss))
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])
    half = start_training(SHORT, lambda: build(batches))
    with pytest.raises(Interrupted):
        train(half, batches, stop)
    save_training(half, tmp_path / "state.safetensors")
    resumed = resume_training(tmp_path / "state.safetensors", SHORT, lambda: build(batches))
    train(resumed, batches, lambda step, loss: None)
    assert all(torch.equal(resumed.average[name], tensor) for name, tensor in whole.average.items())


def test_the_command_writes_weights_that_load(package: Path, tmp_path: Path) -> None:
    output = tmp_path / "new" / "weights.safetensors"
    sizes = ["--steps", "1", "--batch-size", "2", "--precision", "fp32"]
    arguments = ["--model", "emoji", *sizes, "--output", str(output)]
    main(arguments)
    model = load_emoji_model(output)
    assert model.metadata["training_command"] == " ".join(["python -m demo.train", *arguments])
    assert model.names == NAMES and model.metadata["data_sha256"] == pictures_hash(load_pictures())
    assert model.encode(["octopus in blue", ""]).shape == (2, 640)
    assert np.isfinite(model.encode(["tiger face"]).numpy()).all()
    assert [path.name for path in output.parent.iterdir()] == [output.name]

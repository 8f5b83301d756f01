"""How the emoji model is trained: on pictures, half of them tinted, and prompts that name them."""

from __future__ import annotations

import json
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..emoji.network import EmojiArchitecture, EmojiUNet
from ..emoji.pictures import EmojiPictures, held_out_pairs, load_pictures, pictures_hash, with_tints
from ..emoji.prompts import ANY, Vocabulary, split_words, tinted
from ..emoji.tints import TINTS
from ..emoji.weights import EMOJI_WEIGHTS, save_emoji_weights
from .recipe import Batch, Batches, Recipe, TrainingOptions, spread_timesteps

__all__ = ["EMOJI", "EmojiBatches"]

OPTIONS = TrainingOptions(steps=16_000, batch_size=32, learning_rate=2e-3, decay_share=0.5)
TINTED_SHARE = 0.5  # of the pictures; the rest keep their own colours
PARTIAL_SHARE = 0.15  # of the prompts name only some words: "any face"
KEEP_WORD = 0.5  # chance of each word of such a name
TIMESTEP_EXPONENT = 0.6  # what a picture shows is decided where there is much noise, and is the harder part to learn
OWN_COLOURS = 0


class EmojiBatches:
    """Draws batches; the same seed and step give the same batch.

    Attributes:
        pictures: The pictures of the training.
        vocabulary: Their words.
    """

    def __init__(self, pictures: EmojiPictures) -> None:
        """Draw all tints of the pictures, once."""
        self.pictures = pictures
        self.vocabulary = Vocabulary.of_names(pictures.names)
        self._tinted = with_tints(pictures.pixels)
        self._held_out = held_out_pairs(len(pictures.names))
        self._tints = [None, *TINTS]

    def draw(self, options: TrainingOptions, step: int) -> Batch:
        """Draw the batch of one step.

        Every picture is shown once before one is shown again. A held-out pair of picture and tint is replaced by the
        picture in its own colours.
        """
        generator = torch.Generator().manual_seed(options.seed * 1_000_003 + step)
        count = options.batch_size
        chosen = self._in_turn(options, step)
        tints = torch.randint(len(TINTS), (count,), generator=generator) + 1
        own = (torch.rand(count, generator=generator) >= TINTED_SHARE) | self._held_out[chosen, tints - 1]
        tints = torch.where(own, OWN_COLOURS, tints)
        pictures = self._tinted[chosen, tints].float() / 127.5 - 1.0
        prompts = [
            self._prompt(picture, tint, options.label_dropout, generator)
            for picture, tint in zip(chosen.tolist(), tints.tolist(), strict=True)
        ]
        timestep = spread_timesteps(count, generator, TIMESTEP_EXPONENT)
        noise = torch.randn(pictures.shape, generator=generator)
        return Batch(pictures, self.vocabulary.tokens(prompts), timestep, noise)

    def metadata(self) -> Mapping[str, str]:
        """Describe the data, for the weight file."""
        return {
            "words": json.dumps(self.vocabulary.words),
            "names": json.dumps(self.pictures.names),
            "data_sha256": pictures_hash(self.pictures),
        }

    def _in_turn(self, options: TrainingOptions, step: int) -> Tensor:
        """Return the pictures of a step: positions in an endless list of shuffled rounds, (B,) int64."""
        total = len(self.pictures.names)
        places = range(step * options.batch_size, (step + 1) * options.batch_size)
        orders = {number: self._round(options, number) for number in {place // total for place in places}}
        return torch.stack([orders[place // total][place % total] for place in places])

    def _round(self, options: TrainingOptions, number: int) -> Tensor:
        """Shuffle the pictures for one round; its seeds are negative, so that no step has the same."""
        generator = torch.Generator().manual_seed(options.seed * 1_000_003 - 1 - number)
        return torch.randperm(len(self.pictures.names), generator=generator)

    def _prompt(self, picture: int, tint: int, dropout: float, generator: torch.Generator) -> str:
        """Describe a picture: not at all, by some words of its name, or by its name."""
        name = self.pictures.names[picture]
        words = split_words(name)
        chance = torch.rand(2 + len(words), generator=generator)
        if chance[0] < dropout:
            return ""
        if chance[1] < PARTIAL_SHARE:
            kept = [word for word, keep in zip(words, chance[2:] < KEEP_WORD, strict=True) if keep]
            name = " ".join([ANY, *(kept or words)])
        return tinted(name, self._tints[tint])


def _load() -> EmojiBatches:
    return EmojiBatches(load_pictures().only(held_out=False))


def _build(batches: Batches) -> nn.Module:
    assert isinstance(batches, EmojiBatches)
    return EmojiUNet(EmojiArchitecture(tokens=len(batches.vocabulary)))


EMOJI = Recipe(OPTIONS, _load, _build, save_emoji_weights, EMOJI_WEIGHTS)

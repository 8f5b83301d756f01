"""Quality of the emoji model's pictures, measured: ``python -m bench.emoji``.

A picture is judged by its nearest neighbour among all 1,357 emoji: in colour, or in grey where a tint was asked for.
Fetches the pictures from the npm registry, once. Prints a table with intervals and draws the pictures of README and of
docs/demo-model.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from bench.emoji.pictures import save_emoji_pictures
from bench.papers.figures import Figure, share
from ddim import DDIMScheduler
from demo import HELD_OUT, EmojiModel, held_out_emoji, load_emoji_model
from demo.draw import initial_noise, make_scheduler
from demo.emoji.draw import EDIT_GUIDANCE, EMOJI_GUIDANCE, draw_emoji, edit_emoji
from demo.emoji.judge import nearest_in_colour, nearest_in_grey
from demo.emoji.pictures import EmojiPictures, held_out_pairs, load_pictures
from demo.emoji.prompts import tinted
from demo.emoji.tints import TINTS, in_tint, nearest_tint

PROMPTS = 500
EDITS = 200
STEPS = 20
CHUNK = 50  # pictures drawn at once
QUICK = 10  # how many times fewer with --quick
TARGETS = {
    "name: the picture asked for": 0.80,
    "held-out pair: shape": 0.60,
    "held-out pair: hue": 0.80,
    "edit by tint: shape kept": 0.80,
}


@dataclass(frozen=True)
class Pairs:
    """Names with a tint each, and how they read as prompts."""

    names: list[str]
    tints: list[str]

    @property
    def prompts(self) -> list[str]:
        """The prompts that ask for them."""
        return [tinted(name, tint) for name, tint in zip(self.names, self.tints, strict=True)]


def chunks(count: int, what: str) -> Iterator[slice]:
    """Cut a number of pictures into chunks, with a progress bar."""
    for start in tqdm(range(0, count, CHUNK), desc=what, unit=f"x{CHUNK}", leave=False):
        yield slice(start, min(start + CHUNK, count))


def draw(model: EmojiModel, prompts: Sequence[str], seed: int, what: str) -> Tensor:
    """Draw one picture per prompt; every picture has its own noise, whatever the chunks."""
    noise, scheduler = initial_noise(len(prompts), seed), make_scheduler(model, STEPS)
    parts = [draw_emoji(model, prompts[part], noise[part], scheduler) for part in chunks(len(prompts), what)]
    return torch.cat(parts)


def random_names(training: EmojiPictures, count: int, seed: int) -> list[str]:
    """Choose different names of the training."""
    order = torch.randperm(len(training.names), generator=torch.Generator().manual_seed(seed))
    return [training.names[i] for i in order[:count].tolist()]


def random_pairs(training: EmojiPictures, count: int, seed: int, *, held_out: bool) -> Pairs:
    """Choose pairs of picture and tint that the training left out, or that it had."""
    pairs = (held_out_pairs(len(training.names)) == held_out).nonzero()
    chosen = pairs[torch.randperm(len(pairs), generator=torch.Generator().manual_seed(seed))[:count]].tolist()
    tints = list(TINTS)
    return Pairs([training.names[name] for name, _ in chosen], [tints[tint] for _, tint in chosen])


def edited(
    model: EmojiModel, sources: Sequence[str], pictures: Tensor, targets: Sequence[str], scheduler: DDIMScheduler
) -> Tensor:
    """Edit pictures in chunks; see `demo.emoji.draw.edit_emoji`."""
    parts = []
    for part in chunks(len(pictures), "edits"):
        parts.append(edit_emoji(model, pictures[part], sources[part], targets[part], scheduler))
    return torch.cat(parts)


def tint_edits(model: EmojiModel, training: EmojiPictures, seed: int, count: int) -> tuple[Pairs, Pairs, Tensor]:
    """Edit tinted pictures of the training by another tint: what they were, what they should become, the results."""
    source = random_pairs(training, count, seed, held_out=False)
    tints = list(TINTS)
    others = [tints[(tints.index(tint) + 1 + i % (len(tints) - 1)) % len(tints)] for i, tint in enumerate(source.tints)]
    target = Pairs(source.names, others)
    shown = [
        in_tint(training.pixels[training.names.index(name)].float() / 255.0, tint)
        for name, tint in zip(source.names, source.tints, strict=True)
    ]
    pictures = torch.stack(shown) * 2 - 1
    return source, target, edited(model, source.prompts, pictures, target.prompts, make_scheduler(model, STEPS))


def same(found: Sequence[str], asked: Sequence[str]) -> Figure:
    """Return the share of names that are the ones asked for."""
    return share(torch.tensor([a == b for a, b in zip(found, asked, strict=True)]))


def measure(model: EmojiModel, seed: int, quick: bool, images: Path) -> dict[str, Figure]:
    """Draw everything, save the pictures, and return the figures by what they are of."""
    every = load_pictures()
    training = every.only(held_out=False)
    fewer = QUICK if quick else 1
    names = random_names(training, PROMPTS // fewer, seed)
    pairs = random_pairs(training, PROMPTS // fewer, seed + 1, held_out=True)
    drawn, composed = draw(model, names, seed, "names"), draw(model, pairs.prompts, seed + 1, "held-out pairs")
    _, target, results = tint_edits(model, training, seed + 2, EDITS // fewer)
    unseen = Pairs([name for name in HELD_OUT for _ in TINTS], [tint for _ in HELD_OUT for tint in TINTS])
    pictures = torch.stack([held_out_emoji(name) for name in unseen.names]) * 2 - 1
    changed = edited(model, unseen.names, pictures, unseen.prompts, make_scheduler(model, STEPS))
    save_emoji_pictures(images, model)
    return {
        "name: the picture asked for": same(nearest_in_colour(drawn, every), names),
        "held-out pair: shape": same(nearest_in_grey(composed, every), pairs.names),
        "held-out pair: hue": same(nearest_tint(composed / 2 + 0.5), pairs.tints),
        "edit by tint: shape kept": same(nearest_in_grey(results, every), target.names),
        "edit by tint: hue": same(nearest_tint(results / 2 + 0.5), target.tints),
        "edit of unseen pictures: shape kept": same(nearest_in_grey(changed, every), unseen.names),
        "edit of unseen pictures: hue": same(nearest_tint(changed / 2 + 0.5), unseen.tints),
    }


def main(arguments: list[str] | None = None) -> int:
    """Measure, and return exit status 1 if a target is missed."""
    parser = argparse.ArgumentParser("python -m bench.emoji", description="Measure the emoji model's pictures.")
    parser.add_argument("--weights", type=Path, default=None, help="weight file (default: the project's)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the choices and the noise (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the pictures")
    parser.add_argument("--images", type=Path, default=Path(__file__).parents[2] / "docs" / "images",
                        help="folder for the pictures (default: %(default)s)")  # fmt: skip
    parsed = parser.parse_args(arguments)
    figures = measure(load_emoji_model(parsed.weights), parsed.seed, parsed.quick, parsed.images)
    print(f"emoji: {STEPS} steps, eta 0, CFG {EMOJI_GUIDANCE}, for edits {EDIT_GUIDANCE}, seed {parsed.seed}\n")
    print("| what | pictures | right (95 % interval) | at least |\n|---|---|---|---|")
    for name, figure in figures.items():
        print(f"| {name} | {figure.count} | {figure.percent()} | {_target(name)} |")
    missed = [name for name, least in TARGETS.items() if figures[name].value < least]
    print("\n" + ("every requirement is met" if not missed else "NOT MET: " + "; ".join(missed)))
    return 1 if missed else 0


def _target(name: str) -> str:
    return f"{TARGETS[name]:.0%}" if name in TARGETS else ""


if __name__ == "__main__":
    sys.exit(main())

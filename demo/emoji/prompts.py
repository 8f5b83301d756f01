"""The language of the emoji model: what a prompt may say, and how it becomes numbers.

    prompt = ["any"] word {word} ["in" tint]  |  tint name

The words are those of the pictures' Unicode names. "tiger face" asks for the picture of that name, "any face" for some
picture with the word in its name, "tiger face in blue" or "blue tiger face" for it in shades of blue. The empty prompt
asks for nothing in particular: the negative prompt of classifier-free guidance.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Sequence

import torch
from torch import Tensor

from .tints import TINTS

__all__ = [
    "ANY",
    "IN",
    "LONGEST_PROMPT",
    "PADDING",
    "Vocabulary",
    "plain",
    "split_tint",
    "split_words",
    "tint_behind",
    "tinted",
]

ANY, IN = "any", "in"
LONGEST_PROMPT = 15  # words; the longest name has eleven, and "any" and "in blue" come on top
PADDING, START, FIRST_WORD = 0, 1, 2  # tokens: after the last word, before the first (so no prompt is empty), words
WORD = re.compile(r"[a-z0-9]+(?:['-][a-z0-9]+)*")
SUGGESTIONS = 3


def split_words(prompt: str) -> list[str]:
    """Split a prompt into lower-case words; anything but letters, digits and inner hyphens separates them."""
    return WORD.findall(prompt.lower())


def plain(prompt: str) -> str:
    """Return a prompt's words in lower case, joined by single spaces."""
    return " ".join(split_words(prompt))


def tint_behind(prompt: str, names: Collection[str]) -> str:
    """Move a tint from before a name to behind it, unless both together are a name: "blue tiger face".

    Args:
        prompt: Any text.
        names: The names, as `plain` gives them.
    """
    first, _, rest = plain(prompt).partition(" ")
    return tinted(rest, first) if first in TINTS and rest in names and plain(prompt) not in names else prompt


def split_tint(prompt: str) -> tuple[str, str | None]:
    """Split a prompt into its words, joined by single spaces, and the tint that stands at its end, or None."""
    words = split_words(prompt)
    if len(words) >= 2 and words[-2] == IN and words[-1] in TINTS:
        return " ".join(words[:-2]), words[-1]
    return " ".join(words), None


def tinted(name: str, tint: str | None) -> str:
    """Return the prompt for a picture in a tint, or in its own colours if the tint is None."""
    return name if tint is None else f"{name} {IN} {tint}"


class Vocabulary:
    """The words that the model knows, and their tokens.

    Attributes:
        words: In the order of their tokens.
    """

    def __init__(self, words: Sequence[str]) -> None:
        """Number the words; the order is that of the network's table."""
        self.words = tuple(words)
        self._tokens = {word: token for token, word in enumerate(self.words, start=FIRST_WORD)}

    def __len__(self) -> int:
        """Return the number of tokens, those that are no words included."""
        return FIRST_WORD + len(self.words)

    @classmethod
    def of_names(cls, names: Iterable[str]) -> Vocabulary:
        """Collect the words of the pictures' names, "any", and each tint with its "in", in order."""
        tints = {f"{IN} {tint}" for tint in TINTS}
        return cls(sorted({word for name in names for word in split_words(name)} | {ANY} | tints))

    def tokens(self, prompts: Sequence[str]) -> Tensor:
        """Convert prompts to tokens.

        Args:
            prompts: B texts; "" asks for nothing in particular.

        Returns:
            (B, 16) int64: a token for the start, one for each word, then zeros.

        Raises:
            ValueError: A word is unknown, or a prompt is too long.
        """
        rows = torch.full((len(prompts), 1 + LONGEST_PROMPT), PADDING)
        rows[:, 0] = START
        for row, prompt in zip(rows, prompts, strict=True):
            words = _with_tint(prompt)
            if len(words) > LONGEST_PROMPT:
                raise ValueError(
                    f"a prompt may have at most {LONGEST_PROMPT} words, got {len(words)} in {prompt!r:.80}"
                )
            for position, word in enumerate(words, start=1):
                row[position] = self._token(word, prompt)
        return rows

    def _token(self, word: str, prompt: str) -> int:
        if word in self._tokens:
            return self._tokens[word]
        near = difflib.get_close_matches(word, self.words, SUGGESTIONS)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise ValueError(f"the emoji model does not know the word {word!r:.40} in {prompt!r:.80}{hint}")


def _with_tint(prompt: str) -> list[str]:
    """Split a prompt with "in" and the tint as one word, so that "red" means two things in "red apple in red"."""
    name, tint = split_tint(prompt)
    return [*split_words(name), *([] if tint is None else [f"{IN} {tint}"])]

"""The language of the emoji model, and the tints that it speaks of."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from demo.emoji.prompts import LONGEST_PROMPT, PADDING, Vocabulary, split_tint, split_words, tint_behind, tinted
from demo.emoji.tints import TINTS, in_grey, in_tint, nearest_tint

NAMES = ("red apple", "green apple", "man in tuxedo", "t-shirt", "tiger face")
VOCABULARY = Vocabulary.of_names(NAMES)
colours = st.tuples(*[st.integers(0, 255)] * 3)


def read(prompt: str) -> list[str]:
    """The words behind a prompt's tokens."""
    (row,) = VOCABULARY.tokens([prompt]).tolist()
    return [VOCABULARY.words[token - 2] for token in row if token > 1]


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("tiger face", ["tiger", "face"]),
        ("  Tiger,  FACE! ", ["tiger", "face"]),
        ("t-shirt in blue", ["t-shirt", "in blue"]),
        ("red apple in green", ["red", "apple", "in green"]),
        ("man in tuxedo in red", ["man", "in", "tuxedo", "in red"]),
        ("any face", ["any", "face"]),
        ("in pink", ["in pink"]),
        ("", []),
    ],
)
def test_a_prompt_is_read_word_by_word(prompt: str, words: list[str]) -> None:
    assert read(prompt) == words


def test_the_tint_at_the_end_is_another_word_than_the_colour_in_a_name() -> None:
    apples = VOCABULARY.tokens(["red apple in green", "green apple in red"])
    assert set(apples[0].tolist()) != set(apples[1].tolist())


@pytest.mark.parametrize(
    ("prompt", "meant"),
    [
        ("Blue tiger  face", "tiger face in blue"),
        ("red apple", "red apple"),
        ("pink red apple", "red apple in pink"),
        ("blue apple", "blue apple"),
        ("blue any face", "blue any face"),
        ("blue", "blue"),
        ("", ""),
    ],
)
def test_a_tint_may_stand_before_a_name_that_does_not_begin_with_it(prompt: str, meant: str) -> None:
    assert tint_behind(prompt, NAMES) == meant


def test_prompts_are_padded_and_begin_alike() -> None:
    tokens = VOCABULARY.tokens(["", "tiger face"])
    assert tokens.shape == (2, 1 + LONGEST_PROMPT) and (tokens[:, 0] == 1).all()
    assert (tokens[0, 1:] == PADDING).all() and (tokens[1, 3:] == PADDING).all()


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("tigre face", "does not know the word 'tigre' in 'tigre face'; did you mean .*tiger"),
        ("x" * 900, "does not know the word 'xxx"),
        ("face " * 16, "at most 15 words, got 16"),
        ("虎 face in mauve", "does not know the word 'in'|does not know the word 'mauve'"),
    ],
)
def test_what_it_does_not_know_is_refused_with_a_hint(prompt: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        VOCABULARY.tokens([prompt])
    assert len(str(refused.value)) < 300


@given(st.lists(st.sampled_from(split_words(" ".join(NAMES))), min_size=1, max_size=6), st.sampled_from([None, *TINTS]))
def test_a_name_and_its_tint_are_split_as_they_were_joined(words: list[str], tint: str | None) -> None:
    name = " ".join(words)
    if not (len(words) > 1 and words[-2] == "in" and words[-1] in TINTS):
        assert split_tint(tinted(name, tint)) == (name, tint)


@given(colours, st.sampled_from(list(TINTS)))
def test_a_tint_keeps_the_grey_of_every_colour(colour: tuple[int, int, int], tint: str) -> None:
    pixel = torch.tensor(colour).double()[:, None, None] / 255
    tinted_pixel = in_tint(pixel, tint)
    assert torch.allclose(in_grey(tinted_pixel), in_grey(pixel), atol=1e-12)
    assert tinted_pixel.min() >= 0 and tinted_pixel.max() <= 1 + 1e-12


@pytest.mark.parametrize("tint", TINTS)
def test_black_and_white_stay_and_all_between_have_the_hue(tint: str) -> None:
    ends = torch.tensor([0.0, 1.0]).double().reshape(1, 1, 2).expand(3, 1, 2)
    assert torch.allclose(in_tint(ends, tint), ends, atol=1e-12)
    grey = torch.full((1, 3, 4, 4), 0.6).double()
    assert nearest_tint(in_tint(grey, tint)) == [tint]

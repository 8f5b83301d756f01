"""The inputs of edits after an inversion."""

from __future__ import annotations

from ...ddim import PROXIMAL_OPERATORS
from ..values import PROXIMAL_OFF
from .kinds import CONDITIONING, Input, choice, number, socket

__all__ = ["EDIT_INPUTS"]

EDIT_INPUTS: dict[str, Input] = {
    "source": socket(
        CONDITIONING,
        "For edits after DDIM Invert: the prompt that the image was inverted with, used instead of negative. What both "
        "prompts agree on stays as it is. Needs variance_noise connected.",
    ),
    "proximal": choice(
        (PROXIMAL_OFF, *PROXIMAL_OPERATORS),
        PROXIMAL_OFF,
        "With source: ignore small differences between the two prompts, so that the background stays. soft also "
        "shrinks the others (use a higher cfg), hard leaves them as they are.",
        advanced=True,
    ),
    "proximal_quantile": number(
        0.7,
        0.0,
        1.0,
        0.01,
        "With proximal: the share of each image's differences that is ignored. The paper uses 0.6 to 0.7.",
        advanced=True,
    ),
    "edit": socket(CONDITIONING, "What is added to the image, or removed from it."),
    "edit_weight": number(
        5.0, -50.0, 50.0, 0.1, "How strongly the edit prompt acts: above 0 it is added, below 0 it is removed."
    ),
    "edit_threshold": number(
        0.9,
        0.0,
        1.0,
        0.01,
        "The share of each image that stays as it is: the edit acts where it changes the prediction most. 0 is the "
        "whole image; 0.9 a small object, 0.5 a large one.",
    ),
    "warm_up": number(
        0.0,
        0.0,
        1.0,
        0.01,
        "The share of the noise levels, from the noisiest, in which nothing is edited: more keeps the composition.",
    ),
}

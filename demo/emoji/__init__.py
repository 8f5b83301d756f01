"""A model of emoji: words to little pictures. It knows its 1,345 pictures by heart, and puts them together with tints.

Using it needs no pictures but the weights; `archive`, `batches` and `judge` are for training and measuring.
"""

from .held_out import HELD_OUT, held_out_emoji
from .weights import EMOJI_WEIGHTS, EmojiModel, load_emoji_model

__all__ = ["EMOJI_WEIGHTS", "HELD_OUT", "EmojiModel", "held_out_emoji", "load_emoji_model"]

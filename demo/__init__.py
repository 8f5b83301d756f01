"""The demo models: small diffusion models of handwritten digits and of emoji, trained in this repository.

Importing it needs torch, safetensors and Pillow; scikit-learn and the pictures of the emoji are needed only for
training and measuring.
"""

from .emoji import EMOJI_WEIGHTS, HELD_OUT, EmojiModel, held_out_emoji, load_emoji_model
from .flow_network import FlowNetwork
from .network import UNCONDITIONAL, Architecture, DigitsUNet
from .pictures import held_out_picture
from .weights_file import DEFAULT_WEIGHTS, DemoModel, DemoWeightsError, load_demo_model

__all__ = [
    "DEFAULT_WEIGHTS",
    "EMOJI_WEIGHTS",
    "HELD_OUT",
    "UNCONDITIONAL",
    "Architecture",
    "DemoModel",
    "DemoWeightsError",
    "DigitsUNet",
    "EmojiModel",
    "FlowNetwork",
    "held_out_emoji",
    "held_out_picture",
    "load_demo_model",
    "load_emoji_model",
]

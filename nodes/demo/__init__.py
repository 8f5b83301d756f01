"""The demo models as nodes: prompts of digits and of words, images of 32x32 pixels."""

from .model import DDIMDemoModel
from .pictures import DDIMDemoDecode, DDIMDemoEmoji, DDIMDemoEncode, DDIMDemoLatent, DDIMDemoPicture
from .prompts import DDIMDemoPrompt, DDIMDemoTextPrompt

__all__ = [
    "DDIMDemoDecode",
    "DDIMDemoEmoji",
    "DDIMDemoEncode",
    "DDIMDemoLatent",
    "DDIMDemoModel",
    "DDIMDemoPicture",
    "DDIMDemoPrompt",
    "DDIMDemoTextPrompt",
]

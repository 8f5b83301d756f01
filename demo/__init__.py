"""The demo model: a small diffusion model of handwritten digits that was trained here, from real scans.

Importing this needs torch and safetensors; scikit-learn is needed for training and measuring alone.
"""

from .network import UNCONDITIONAL, Architecture, DigitsUNet
from .weights_file import DEFAULT_WEIGHTS, DemoModel, DemoWeightsError, load_demo_model

__all__ = [
    "DEFAULT_WEIGHTS",
    "UNCONDITIONAL",
    "Architecture",
    "DemoModel",
    "DemoWeightsError",
    "DigitsUNet",
    "load_demo_model",
]

"""The demo model: a small diffusion model of handwritten digits, trained in this repository from real scans.

Importing it needs torch and safetensors; scikit-learn is needed only for training and measuring.
"""

from .flow_network import FlowNetwork
from .network import UNCONDITIONAL, Architecture, DigitsUNet
from .pictures import held_out_picture
from .weights_file import DEFAULT_WEIGHTS, DemoModel, DemoWeightsError, load_demo_model

__all__ = [
    "DEFAULT_WEIGHTS",
    "UNCONDITIONAL",
    "Architecture",
    "DemoModel",
    "DemoWeightsError",
    "DigitsUNet",
    "FlowNetwork",
    "held_out_picture",
    "load_demo_model",
]

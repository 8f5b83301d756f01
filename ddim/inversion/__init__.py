"""Inversion: from a picture to the noise that gives it back."""

from .api import INVERSION_METHODS, NOISE_PATHS, invert, model_calls, reconstruct
from .result import Inversion

__all__ = ["INVERSION_METHODS", "NOISE_PATHS", "Inversion", "invert", "model_calls", "reconstruct"]

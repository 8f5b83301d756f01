"""The nodes of inversion: from an image to its noise, files of noise, and paths between noises."""

from __future__ import annotations

from .interpolate import DDIMInterpolate
from .invert import DDIMInvert
from .noise_files import DDIMLoadNoise, DDIMSaveNoise

__all__ = ["DDIMInterpolate", "DDIMInvert", "DDIMLoadNoise", "DDIMSaveNoise"]

"""Inversion: from a picture to the noise that gives it back."""

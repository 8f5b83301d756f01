"""Inversion: find the noise from which sampling produces a given image."""

"""Classifier-free guidance and its rescale."""

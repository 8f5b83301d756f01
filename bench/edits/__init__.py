"""Edits of real pictures by every inversion method, measured."""

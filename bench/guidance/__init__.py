"""Guidance on the demo model, measured."""

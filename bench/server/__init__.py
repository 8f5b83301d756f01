"""Measurements of the embedded host under load: ``python -m bench.server``."""

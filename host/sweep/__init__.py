"""Sweeps: one workflow over a grid of values, on any number of workers, with the same pictures."""

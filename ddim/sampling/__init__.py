"""Loops over a plan: step by step, many steps at once, or as one CUDA graph."""

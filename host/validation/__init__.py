"""Checking a prompt before anything runs: ComfyUI's rules and the shapes of its errors."""

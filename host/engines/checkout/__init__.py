"""Runs a ComfyUI checkout as a private server: its command line, its process, its model files."""

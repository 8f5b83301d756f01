"""The embedded host: runs the pack's graphs without ComfyUI, headless or behind the real frontend."""

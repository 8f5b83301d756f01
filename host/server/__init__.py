"""The host's HTTP and WebSocket side: ComfyUI's protocol for its frontend and its API clients."""

from .serving import ServeError, Settings, serve

__all__ = ["ServeError", "Settings", "serve"]

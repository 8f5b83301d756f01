"""The host's HTTP and WebSocket server: ComfyUI's protocol for its frontend and its API clients."""

from host.server.serving import ServeError, Settings, serve

__all__ = ["ServeError", "Settings", "serve"]

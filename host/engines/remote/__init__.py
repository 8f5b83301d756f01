"""Speaks ComfyUI's HTTP and WebSocket protocol to a server, as its client. Whatever a server answers is checked."""

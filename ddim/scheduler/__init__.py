"""Schedulers with diffusers' API, and their configurations."""

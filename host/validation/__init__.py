"""Checking a prompt before anything runs."""

from host.validation.check_prompt import Validation, validate

__all__ = ["Validation", "validate"]

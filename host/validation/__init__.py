"""Checking a prompt before anything runs."""

from host.validation.check_prompt import Validation, validate
from host.validation.sentences import error_line, error_lines

__all__ = ["Validation", "error_line", "error_lines", "validate"]

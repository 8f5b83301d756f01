"""The command line: `python -m host run WORKFLOW`, `python -m host serve` and `python -m host verify PICTURE`."""

from host.cli.commands import main

__all__ = ["main"]

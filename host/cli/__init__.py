"""The command line: `python -m host run WORKFLOW` and `python -m host serve`."""

from host.cli.commands import main

__all__ = ["main"]

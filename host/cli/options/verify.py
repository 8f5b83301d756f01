"""The options of `python -m host verify`."""

from __future__ import annotations

import argparse

from host.cli.options.engines import add_engine_options

__all__ = ["add_options"]

_EPILOG = """\
examples:
  python -m host verify output/digits_00001_.png
  python -m host verify --engine comfyui:~/ComfyUI portrait.png

exit codes:
  0    all pictures are identical
  1    some differ
  2    some could not be verified; each is named with its reason
  130  Ctrl-C; the pictures that are not listed were not verified
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options to the command's parser."""
    parser.epilog = _EPILOG
    parser.add_argument("pictures", nargs="+", metavar="PICTURE", help="PNG with the prompt that made it")
    parser.add_argument("--input-directory", metavar="DIR", help="where LoadImage reads (default: input)")
    add_engine_options(parser, workers=False, address=False)

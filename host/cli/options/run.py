"""The options of `python -m host run`, and what several of its parts read from them."""

from __future__ import annotations

import argparse
import os
import tempfile
from dataclasses import replace
from pathlib import Path

from host import folders
from host.cli.exit_codes import UsageError
from host.cli.options.engines import add_engine_options
from host.folders import Folders

__all__ = ["add_options", "choose_folders", "require_writable"]

_EPILOG = """\
VALUES is one value, a range a..b or a..b:step, a list x,y,z of values and
ranges, or @FILE: a value on each line, or the column of a .csv or .jsonl file.
Quotes keep a comma: 'Node.text="a, b",c'. Several options are combined in every
way, the last one varying fastest; --zip and inputs from one file vary together.

examples:
  python -m host run example_workflows/api/digits.json
  python -m host run picture.png --output-directory again
  python -m host run example_workflows/api/digits.json --set DDIMSample.seed=0..7 --set DDIMSample.cfg=1.5,3 --workers 2
  python -m host run portrait.json --engine comfyui:~/ComfyUI

exit codes:
  0    success
  1    a node raised an error, in a sweep in at least one job; finished files are kept
  2    invalid input: every problem is listed, and nothing was run or written
  130  Ctrl-C; finished files are kept
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options to the command's parser."""
    parser.epilog = _EPILOG
    parser.add_argument(
        "workflow",
        metavar="FILE",
        nargs="?",
        help="workflow in the API's or the editor's format, or a PNG with one; not needed with --resume",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NODE.INPUT=VALUES",
        dest="options",
        help="give an input other values; NODE is an id, a title or a class; @FILE alone is a table with a column for "
        "each NODE.INPUT; may be repeated",
    )
    parser.add_argument(
        "--zip",
        action="append",
        nargs="+",
        metavar="NODE.INPUT=VALUES",
        dest="options",
        help="inputs that vary together, with equally many values; may be repeated",
    )
    parser.add_argument(
        "--output-directory", metavar="DIR", help="where pictures and sweeps are written (default: output)"
    )
    parser.add_argument("--input-directory", metavar="DIR", help="where LoadImage reads (default: input)")
    parser.add_argument("--dry-run", action="store_true", help="check and print the plan; run and write nothing")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="",
        metavar="ID",
        help="go on with a sweep of the output directory that was stopped; without ID, the newest unfinished one",
    )
    parser.add_argument("--retry-failed", action="store_true", help="with --resume, run failed jobs again too")
    add_engine_options(parser)


def choose_folders(args: argparse.Namespace) -> Folders:
    """Return the folders that the options name."""
    chosen = folders.default_folders(folders.ROOT)
    if args.output_directory:
        chosen = replace(chosen, output=Path(os.path.abspath(args.output_directory)))
    if args.input_directory:
        chosen = replace(chosen, input=Path(os.path.abspath(args.input_directory)))
    return chosen


def require_writable(folder: Path) -> None:
    """Create the output folder, and check that it is writable before hours of work. Raises UsageError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(f"nothing can be written to the output folder {folder}: {error.strerror}") from error

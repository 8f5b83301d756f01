"""The options of `python -m host serve`."""

from __future__ import annotations

import argparse
from pathlib import Path

from host.cli.options.engines import add_engine_options
from host.folders import ROOT

__all__ = ["add_options"]

_EPILOG = """\
examples:
  python -m host serve
  python -m host serve --port 0 --open "example_workflows/Edit a picture - a 3 becomes an 8.json"
  python -m host serve --workers 2

exit codes:
  0    it was stopped by Ctrl-C or SIGTERM
  2    it cannot start: a port, a folder or a pack cannot be used
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options to the command's parser."""
    parser.epilog = _EPILOG
    parser.add_argument("--port", type=_port, default=8188, help="port (default 8188); 0 takes a free one")
    parser.add_argument("--listen", default="127.0.0.1", metavar="ADDRESS", help="address (default 127.0.0.1)")
    parser.add_argument(
        "--data-directory",
        type=Path,
        default=ROOT,
        metavar="FOLDER",
        help="folder that holds input, output, temp, models and user (default: this project's)",
    )
    parser.add_argument(
        "--pack",
        type=Path,
        action="append",
        metavar="FOLDER",
        help="serve this node pack instead of this project's; may be given more than once",
    )
    parser.add_argument("--open", type=_file, metavar="WORKFLOW", help="workflow with which an empty editor opens")
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="name, beside localhost, under which browsers may call this host; may be given more than once",
    )
    add_engine_options(parser)


def _file(text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"there is no file {text}")
    return path


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"expected a port between 0 and 65535, got {port}")
    return port

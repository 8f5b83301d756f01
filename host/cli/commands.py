"""The commands of `python -m host`, and how errors become exit codes.

A command's module is imported only when the command is used: `run` works without the server's dependencies, and
`--help` and `--version` without torch.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import platform
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from typing import NamedTuple

from host.cli.console import say, set_quiet, told_if_slow
from host.cli.exit_codes import BAD_INPUT, INTERRUPTED, OK, UsageError

__all__ = ["main"]

_EXAMPLES = """\
examples:
  python -m host run example_workflows/api/digits.json
  python -m host run example_workflows/api/digits.json --set DDIMSample.seed=7 --output-directory out
  python -m host serve --port 8188
  python -m host verify output/digits_00001_.png

exit codes:
  0    success
  1    run: a node raised an error; verify: some pictures differ; finished files are kept
  2    invalid input: it is explained, and nothing was run or written
  130  Ctrl-C; finished files are kept

python -m host COMMAND --help lists the options of a command. Run it in the project's folder; from any other one,
python FOLDER/host COMMAND does the same.
"""


class _Command(NamedTuple):
    """A command.

    Attributes:
        description: What it does.
        options: The module whose `add_options(parser)` declares its options.
        module: The module whose `call(args)` runs it and returns the exit code.
    """

    description: str
    options: str
    module: str


_COMMANDS = {
    "run": _Command("run a workflow and print the files that it wrote", "host.cli.options.run", "host.cli.run"),
    "serve": _Command("serve the visual editor and the API", "host.cli.options.serve", "host.cli.serve"),
    "verify": _Command(
        "run the prompts of pictures again and compare what comes out", "host.cli.options.verify", "host.cli.verify"
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Returns its exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if argv == ["--version"]:
        sys.stdout.write(f"{_version_line()}\n")
        return OK
    args = _parser(argv).parse_args(argv)
    set_quiet(args.quiet)
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    try:
        began = time.monotonic()
        with told_if_slow("loading torch ..."):
            module = importlib.import_module(_COMMANDS[args.command].module)
        code: int = module.call(args)
        if args.command == "run" and code == OK and not args.dry_run:
            say(f"finished in {time.monotonic() - began:.1f} s")
        return code
    except UsageError as error:
        sys.stderr.write(f"error: {error}\n")
        return BAD_INPUT
    except KeyboardInterrupt:
        return INTERRUPTED


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m host",
        description="Runs this project's nodes without ComfyUI.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="print the version, and those of Python and torch")
    commands = parser.add_subparsers(metavar="COMMAND", dest="command", required=True)
    chosen = next((argument for argument in argv if not argument.startswith("-")), None)
    for name, command in _COMMANDS.items():
        added = commands.add_parser(
            name, help=command.description, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if name == chosen:
            importlib.import_module(command.options).add_options(added)
            added.add_argument("--quiet", action="store_true", help="write errors and results, and nothing else")
    return parser


def _version_line() -> str:
    """Return the versions of the project and of what it runs on."""
    from host.engines.environment import pack_version
    from host.folders import ROOT

    version = pack_version(ROOT) or "without a version"
    return f"ddim-nodes {version}, Python {platform.python_version()}, torch {_version('torch')}"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"

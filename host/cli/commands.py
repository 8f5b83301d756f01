"""The commands of `python -m host`, and how errors become exit codes.

A command's module is imported only when the command is used: `run` works without the server's dependencies, and
`--help` without torch.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence

from host.cli.exit_codes import BAD_INPUT, INTERRUPTED, OK, UsageError

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Returns its exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    args = _parser(argv).parse_args(argv)
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    try:
        return args.call(args) or OK
    except UsageError as error:
        sys.stderr.write(f"error: {error}\n")
        return BAD_INPUT
    except KeyboardInterrupt:
        return INTERRUPTED


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m host", description="Runs this project's nodes without ComfyUI.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, (description, add_options) in _COMMANDS.items():
        command = commands.add_parser(name, help=description)
        if name in argv[:1]:
            add_options(command)
    return parser


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    from host.cli.run_options import add_run_options

    add_run_options(parser)
    parser.set_defaults(call=_run)


def _run(args: argparse.Namespace) -> int:
    from host.cli.run import run_command

    return run_command(args)


def _add_serve_options(parser: argparse.ArgumentParser) -> None:
    from host.cli.serve import add_options

    add_options(parser)


def _add_verify_options(parser: argparse.ArgumentParser) -> None:
    from host.cli.verify import add_options

    add_options(parser)


_COMMANDS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None]]] = {
    "run": ("run a workflow and print the files that it wrote", _add_run_options),
    "serve": ("serve the visual editor and the API", _add_serve_options),
    "verify": ("run the prompts of pictures again and compare what comes out", _add_verify_options),
}

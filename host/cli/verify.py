"""`python -m host verify`: runs the prompts of pictures again, and says whether the same pictures come out."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from host import folders
from host.cli.console import say
from host.cli.exit_codes import BAD_INPUT, INTERRUPTED, OK, UsageError
from host.cli.interrupts import on_interrupt
from host.cli.options.engines import engine_specs
from host.cli.progress_bars import ProgressBars
from host.engines.contract import EngineError
from host.engines.spec import EngineSpec
from host.execution import node_events
from host.verify.rerun import Rerunner, StoppedError, groups_of
from host.verify.saved_picture import ContactSheetError, SavedPicture, UnverifiableError, read_picture
from host.verify.verdicts import Verdict

__all__ = ["call"]

_DIFFERENT = 1


def call(args: argparse.Namespace) -> int:
    """Verify the pictures, and print what was found. Returns the exit code."""
    spec = _only_engine(args)
    chosen = folders.default_folders(folders.ROOT)
    if args.input_directory:
        chosen = replace(chosen, input=Path(os.path.abspath(args.input_directory)))
    verdicts: list[Verdict] = []
    pictures = _read_pictures(args.pictures, verdicts)
    groups = groups_of(pictures, args.threads, args.exact)
    node_events.log.setLevel(logging.CRITICAL)  # an error of a node becomes this command's own message
    try:
        with Rerunner(spec, chosen) as rerunner, on_interrupt(rerunner.interrupt):
            for number, group in enumerate(groups, 1):
                if len(groups) > 1:
                    say(f"run {number} of {len(groups)}")
                bars = ProgressBars(group.prompt)
                try:
                    found = rerunner.verdicts(group, bars.show_event)
                finally:
                    bars.close()
                _print(found)
                verdicts += found
    except StoppedError:
        sys.stderr.write("stopped; the pictures that are not listed were not verified\n")
        return INTERRUPTED
    except EngineError as error:
        raise UsageError(error) from error
    return _conclude(verdicts)


def _only_engine(args: argparse.Namespace) -> EngineSpec:
    specs = engine_specs(args)
    if len(specs) > 1:
        raise UsageError(f"verify runs on one --engine, got {len(specs)}")
    return specs[0]


def _read_pictures(paths: Sequence[str], verdicts: list[Verdict]) -> list[SavedPicture]:
    """Read the pictures, each once; those that cannot be verified become verdicts at once."""
    pictures = []
    for path in dict.fromkeys(paths):
        try:
            pictures.append(read_picture(Path(path)))
        except ContactSheetError:
            say(f"{path} is the contact sheet of a sweep; its pictures are verified one by one")
        except UnverifiableError as error:
            verdicts.append(Verdict(path, "unverified", str(error)))
    _print(verdicts)
    return pictures


def _print(verdicts: Sequence[Verdict]) -> None:
    """Print what was found: what could not be verified as errors."""
    for verdict in verdicts:
        if verdict.status == "unverified":
            sys.stderr.write(f"error: {verdict.picture}: {verdict.finding}\n")
        else:
            sys.stdout.write(f"{verdict.picture}: {verdict.finding}\n")
            sys.stdout.write("".join(f"  {line}\n" for line in verdict.details))
    sys.stdout.flush()


def _conclude(verdicts: Sequence[Verdict]) -> int:
    """Print a summary of several verdicts, and return the exit code."""
    counts = {
        name: sum(verdict.status == status for verdict in verdicts)
        for status, name in (("identical", "identical"), ("different", "different"), ("unverified", "not verified"))
    }
    if len(verdicts) > 1:
        parts = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        sys.stdout.write(f"{len(verdicts)} pictures: {parts}\n")
    if counts["not verified"]:
        return BAD_INPUT
    return _DIFFERENT if counts["different"] else OK

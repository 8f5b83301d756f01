"""`--resume`: finds a sweep that was stopped, and goes on with the jobs that its journal describes.

What would be executed is taken from the command line alone: a journal may come from someone else.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from host.cli.exit_codes import UsageError
from host.cli.sweeps.command import StartedSweep
from host.error_format import show
from host.folders import FolderError, plain_file_name
from host.sweep.plan import SweepPlan
from host.sweep.running import JOURNAL_NAME, Journal, JournalError

__all__ = ["command_to_keep", "find_sweep", "restore_options"]

_MAX_SWEEPS = 10_000  # folders that are looked at


def command_to_keep(args: argparse.Namespace) -> dict[str, Any]:
    """Return what of the command line a later `--resume` compares or uses."""
    return {
        "options": args.options,
        "engines": args.engine or ["embedded"],
        "threads": args.threads or 1,
        "exact": args.exact,
        "workers": args.workers,
    }


def find_sweep(args: argparse.Namespace, output: Path) -> tuple[StartedSweep, dict[str, Any]]:
    """Return the sweep that `--resume [ID]` means, with its journal held, and the command that began it.

    Raises:
        UsageError: There is none, it is in use, damaged, or not what the other options describe.
    """
    folder = _named(args.resume, output) if args.resume else _newest_unfinished(output)
    try:
        journal = Journal.resume(folder / JOURNAL_NAME)
    except JournalError as error:
        raise UsageError(error) from error
    try:
        plan, command = _read(journal)
        _require_same(args, folder.name, plan, command)
    except BaseException:
        journal.close()
        raise
    return StartedSweep(folder.name, folder, plan, journal), command


def restore_options(args: argparse.Namespace, command: dict[str, Any]) -> None:
    """Give options that are not given the values with which the sweep began."""
    args.threads = command["threads"]
    args.exact = command["exact"]
    if args.workers is None:
        args.workers = command["workers"]


def _named(sweep_id: str, output: Path) -> Path:
    try:
        folder = output / plain_file_name(sweep_id)
    except FolderError as error:
        raise UsageError(
            f"--resume expects the id of a sweep, which is a folder's name, got {show(sweep_id)}"
        ) from error
    if not (folder / JOURNAL_NAME).is_file():
        known = [path.parent.name for path in _journals(output)][:5]
        there = f"the newest are {', '.join(known)}" if known else "there is none"
        raise UsageError(f"there is no sweep {show(sweep_id)} in {output}; {there}")
    return folder


def _newest_unfinished(output: Path) -> Path:
    for path in _journals(output):
        try:
            journal = Journal.read(path)
        except JournalError:
            continue  # in use, or not ours
        try:
            plan, _ = _read(journal)
            if sum(1 for _ in journal.results()) < len(plan):
                return path.parent
        except (JournalError, UsageError):
            continue
        finally:
            journal.close()
    raise UsageError(f"--resume found no unfinished sweep in {output}; name one as --resume ID to retry failed jobs")


def _journals(output: Path) -> Iterator[Path]:
    """Return the journals below the output folder, the newest first."""
    found = []
    try:
        for path in output.glob(f"*/{JOURNAL_NAME}"):
            found.append((path.stat().st_mtime, path))
            if len(found) == _MAX_SWEEPS:
                break
    except OSError as error:
        raise UsageError(f"the output folder {output} cannot be read: {error.strerror}") from error
    return iter([path for _, path in sorted(found, reverse=True)])


def _read(journal: Journal) -> tuple[SweepPlan, dict[str, Any]]:
    try:
        definition = journal.definition
        plan = SweepPlan.from_definition(definition["plan"])
        return plan, _checked_command(definition["command"])
    except (JournalError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"the sweep in {journal.path.parent} cannot be continued: {error}") from error


def _checked_command(command: Any) -> dict[str, Any]:
    """Check the types of what a journal says about the command. Raises TypeError or KeyError."""
    types: dict[str, Any] = {
        "options": list,
        "engines": list,
        "threads": int,
        "exact": bool,
        "workers": (int, type(None)),
    }
    for name, kind in types.items():
        if not isinstance(command[name], kind):
            raise TypeError(f"the command's {name} are damaged")
    for name in ("threads", "workers"):
        if command[name] is not None and not 1 <= command[name] <= 1024:
            raise TypeError(f"the command's {name} are damaged")
    return dict(command)


def _require_same(args: argparse.Namespace, sweep_id: str, plan: SweepPlan, command: dict[str, Any]) -> None:
    """Refuse options that describe other jobs than those of the sweep, or other bits in its pictures."""
    began = f"{sweep_id} began with"
    if args.workflow is not None and Path(args.workflow).stem != plan.name:
        raise UsageError(f"{began} the workflow {plan.name}, got {args.workflow}; leave FILE out, or start a new sweep")
    if args.options and args.options != command["options"]:
        raise UsageError(f"{began} other values of --set and --zip; leave them out, or start a new sweep")
    if args.threads is not None and args.threads != command["threads"]:
        raise UsageError(f"{began} --threads {command['threads']}, on which pictures may depend; leave it out")
    if args.exact and not command["exact"]:
        raise UsageError(f"{began} no --exact, on which pictures may depend; leave it out")
    if (args.engine or ["embedded"]) != command["engines"] and args.engine is None:
        named = " ".join(f"--engine {engine}" for engine in command["engines"][:5])
        raise UsageError(f"{began} {named}; give the engine again: it is not taken from the journal")

"""A sweep from the command line: its folder, journal, workers, progress, and what is said at the end."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from host.cli.console import say
from host.cli.exit_codes import INTERRUPTED, NODE_RAISED, OK, UsageError
from host.cli.interrupts import on_interrupt
from host.cli.options.engines import PoolDescription
from host.cli.options.run import require_writable
from host.cli.pools import OpenedPool
from host.cli.progress_bars import bar_if_slow
from host.cli.sweeps.bars import SweepBars
from host.engines.contract import EngineError
from host.folders import Folders
from host.strict_json import dumps
from host.sweep.contract import Outcome, Record
from host.sweep.file_names import safe_name
from host.sweep.input_files import InputFiles
from host.sweep.plan import SweepPlan
from host.sweep.report import known_workers, table, write_report
from host.sweep.running import JOURNAL_NAME, Canary, Journal, JournalError, Sweep
from host.sweep.running.saving import are_on_disk
from host.sweep.sheets import write_sheets

__all__ = ["StartedSweep", "begin_sweep", "idle_cores_hint", "run_sweep"]

_MAX_DEFINITION = 60 << 20  # characters
_MAX_STEM_BYTES = 80


@dataclass(frozen=True)
class StartedSweep:
    """A sweep that has a folder and a journal.

    Attributes:
        id: The sweep's id, which is the folder's name.
        folder: Where its files are.
        plan: Its jobs.
        journal: Its results; held by this process.
    """

    id: str
    folder: Path
    plan: SweepPlan
    journal: Journal


def begin_sweep(plan: SweepPlan, command: dict[str, Any], output: Path) -> StartedSweep:
    """Make the folder and the journal of a new sweep.

    Args:
        plan: The plan.
        command: What else `--resume` needs to know.
        output: The output folder.

    Raises:
        UsageError: They cannot be written, or the plan is too large to be stored.
    """
    definition = dumps({"plan": plan.definition(), "command": command})
    if len(definition) > _MAX_DEFINITION:
        raise UsageError(f"the values have more than {_MAX_DEFINITION >> 20} MiB together; split the sweep")
    require_writable(output)
    folder = _new_folder(output, plan.name)
    try:
        journal = Journal.create(folder / JOURNAL_NAME, definition)
    except JournalError as error:
        raise UsageError(error) from error
    return StartedSweep(folder.name, folder, plan, journal)


def _new_folder(output: Path, name: str) -> Path:
    """Create and return `output/<name>-<date>-<time>`, with a number where that exists."""
    stem = f"{safe_name(name, _MAX_STEM_BYTES) or 'sweep'}-{time.strftime('%Y%m%d-%H%M%S')}"
    number = 1
    while True:
        folder = output / (stem if number == 1 else f"{stem}-{number}")
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            number += 1
        except OSError as error:
            raise UsageError(f"the folder {folder} cannot be made: {error.strerror}") from error


def run_sweep(
    started: StartedSweep,
    pool: OpenedPool,
    description: PoolDescription,
    chosen: Folders,
    *,
    retry_failed: bool = False,
) -> int:
    """Run what is missing of a sweep, and write and print its results. Returns the exit code."""
    plan, journal = started.plan, started.journal
    inputs = InputFiles(plan.input_files, chosen)
    try:
        inputs.check()
    except EngineError as error:
        raise UsageError(error) from error
    say(f"{started.id}: {len(plan):,} jobs into {started.folder}")
    if hint := idle_cores_hint(description):
        say(hint)
    done = sum(1 for record in journal.results() if _is_done(record, started.folder, retry_failed))
    bars = SweepBars(len(plan), done)
    can_differ = bool(description.address) or (len(description.specs) > 1 and not description.is_embedded)
    sweep = Sweep(
        plan,
        pool,
        journal,
        started.folder,
        bars,
        inputs=inputs,
        canary=Canary(description.specs[0].exact) if can_differ else None,
        retry_failed=retry_failed,
    )
    try:
        with on_interrupt(sweep.request_stop):
            began = time.monotonic()
            outcome = sweep.run()
            seconds = time.monotonic() - began
    except JournalError as error:
        raise UsageError(error) from error
    finally:
        bars.close()
    _conclude(started, outcome, pool.environments, seconds, len(plan) - done)
    return _exit_code(outcome)


def _is_done(record: Record, folder: Path, retry_failed: bool) -> bool:
    """Return whether the driver will leave a job alone."""
    return not retry_failed if record.status == "error" else are_on_disk(folder, record)


def _conclude(
    started: StartedSweep, outcome: Outcome, workers: dict[str, Any], seconds: float, missing_before: int
) -> None:
    """Write the report and the contact sheets, and say where everything is."""
    plan, journal, folder = started.plan, started.journal, started.folder
    written: Sequence[Path] = ()
    note = ""
    try:
        report = write_report(
            folder, started.id, plan, outcome, {**known_workers(folder), **workers}, journal.results()
        )
        with bar_if_slow("contact sheet") as show:
            written, note = write_sheets(plan, journal.result, folder, show)
        written = [*written, report]
    except OSError as error:
        sys.stderr.write(f"error: the report cannot be written to {folder}: {error.strerror}; --resume writes it\n")
    width = shutil.get_terminal_size((120, 24)).columns if sys.stdout.isatty() else 160
    out = sys.stdout.write
    for line in table(plan, journal.results(), width):
        out(f"{line}\n")
    ran = missing_before - (outcome.total - outcome.succeeded - outcome.failed)
    missing = outcome.total - outcome.succeeded - outcome.failed
    parts = [f"{outcome.succeeded:,} of {outcome.total:,} jobs made"]
    parts += [f"{outcome.failed:,} failed"] if outcome.failed else []
    parts += [f"{missing:,} missing"] if missing else []
    out(f"\n{', '.join(parts)}; {max(ran, 0):,} in {seconds:.1f} s\n")
    if note:
        out(f"{note}\n")
    for path in (*written, folder):
        out(f"{path}{os.sep if path == folder else ''}\n")
    if missing or outcome.failed:
        again = "" if missing else " --retry-failed"
        sys.stderr.write(f"to go on: python -m host run --resume {started.id}{again}, with the same directories\n")
    if outcome.stopped:
        sys.stderr.write(f"error: {outcome.stopped}\n")


def _exit_code(outcome: Outcome) -> int:
    if outcome.interrupted:
        return INTERRUPTED
    return NODE_RAISED if outcome.failed or outcome.stopped else OK


def idle_cores_hint(description: PoolDescription) -> str:
    """Return a sentence if the workers leave cores of this machine idle, else ""."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = description.specs[0].threads
    workers = len(description.specs)
    if description.address or not description.is_embedded or workers * threads >= cores:
        return ""
    most = max(1, cores // threads)
    each = f"{threads} thread{'s' if threads > 1 else ''}{' each' if workers > 1 else ''}"
    return f"{workers} worker{'s' if workers > 1 else ''} with {each}; --workers {most} uses all {cores} cores"

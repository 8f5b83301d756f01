"""A single job on an engine that is not this process: its files get the names that the nodes gave."""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from host.atomic_files import claim_name, flush_to_disk, temporary_file
from host.cli.exit_codes import INTERRUPTED, NODE_RAISED, OK, UsageError
from host.cli.interrupts import on_interrupt
from host.cli.options.run import require_writable
from host.cli.pools import OpenedPool
from host.cli.progress_bars import ProgressBars
from host.engines.contract import EngineError, EngineLost, JobResult, OutputFile
from host.folders import FolderError, Folders, requested_path
from host.sweep.input_files import InputFiles
from host.sweep.plan import SweepPlan

__all__ = ["run_single_job"]

_NUMBERED = re.compile(r"(.*_)(\d{5,9})(_?\.[^.]*)", re.DOTALL)


def run_single_job(plan: SweepPlan, pool: OpenedPool, chosen: Folders) -> int:
    """Run the only job of a plan on the pool's first worker, and write and print its files. Returns the exit code.

    Raises:
        UsageError: The engine cannot be started or used, or nothing can be written.
    """
    require_writable(chosen.output)
    job = plan.job(0)
    bars = ProgressBars(job.prompt)
    try:
        engine = pool.first()
        if plan.input_files:
            engine.put_inputs(InputFiles(plan.input_files, chosen))
        with on_interrupt(engine.interrupt):
            result = engine.run(job, bars.show_event)
    except EngineError as error:
        raise UsageError(error) from error
    except EngineLost as error:
        sys.stderr.write(f"error: {error}\n")
        return NODE_RAISED
    finally:
        bars.close()
    try:
        for file in result.files:
            if file.type == "output":
                sys.stdout.write(f"{_save(file, chosen.output)}\n")
    except OSError as error:
        raise UsageError(f"a file cannot be written to {chosen.output}: {error.strerror}") from error
    return _exit_code(result)


def _exit_code(result: JobResult) -> int:
    if result.status == "success":
        return OK
    if result.status == "interrupted":
        sys.stderr.write("stopped; finished outputs stay\n")
        return INTERRUPTED
    sys.stderr.write(f"error: {result.error}\n")
    return NODE_RAISED


def _save(file: OutputFile, output: Path) -> Path:
    """Write a file under its name, or the next number that is free where another file has that name."""
    try:
        path = requested_path(output, file.subfolder, file.filename)
    except FolderError as error:
        raise UsageError(f"the engine names a file that cannot be written: {error}") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary_file(path.parent) as temporary:
        temporary.write_bytes(file.data)
        flush_to_disk(temporary)
        return claim_name(temporary, _candidates(path))


def _candidates(path: Path) -> Iterator[Path]:
    yield path
    match = _NUMBERED.fullmatch(path.name)
    if match is None:
        yield from (path.with_name(f"{path.stem}_{number}{path.suffix}") for number in itertools.count(2))
        return
    before, number, after = match.groups()
    yield from (path.with_name(f"{before}{each:05}{after}") for each in itertools.count(int(number) + 1))

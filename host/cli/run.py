"""`python -m host run`: runs a workflow headless, once or over a grid of values."""

from __future__ import annotations

import argparse
import logging
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from host import context, folders
from host.cli.console import say, told_if_slow
from host.cli.exit_codes import INTERRUPTED, NODE_RAISED, OK, UsageError
from host.cli.interrupts import on_interrupt
from host.cli.options.engines import PoolDescription, describe_pool
from host.cli.options.run import choose_folders, require_writable
from host.cli.pools import OpenedPool, make_pool
from host.cli.progress_bars import ProgressBars, bar_if_slow
from host.cli.sweeps.command import begin_sweep, run_sweep
from host.cli.sweeps.dry_run import print_plan
from host.cli.sweeps.resume import command_to_keep, find_sweep, restore_options
from host.cli.sweeps.single_job import run_single_job
from host.engines.contract import EngineError, EngineLost
from host.engines.environment import describe_process
from host.engines.stamping import stamp_files
from host.execution import node_events
from host.execution.executor import Executor, RunResult
from host.folders import Folders
from host.packs import PackError, Registry, load_pack
from host.sweep.planning import PlanError, Planned, make_plan
from host.validation import Validation
from host.workflows import WorkflowError, read_workflow

__all__ = ["call"]


def call(args: argparse.Namespace) -> int:
    """Check everything, then run. Returns the exit code."""
    chosen = choose_folders(args)
    context.use_folders(chosen)
    if args.resume is not None:
        return _resume(args, chosen)
    if args.workflow is None:
        raise UsageError(
            "expected the FILE of a workflow, before --zip, which takes all that follows it, or --resume to go on with "
            "a sweep"
        )
    if args.retry_failed:
        raise UsageError("--retry-failed goes with --resume, which names the sweep")
    description = describe_pool(args)
    pool = make_pool(description)
    try:
        registry = _load_registry(description, pool)
        planned = _plan(args, registry, chosen)
        if args.dry_run:
            print_plan(planned.plan, planned.notes, description, chosen.output)
            return OK
        for note in planned.notes:
            say(f"note: {note}")
        if planned.plan.axes:
            return _sweep(args, planned, pool, description, chosen)
        if description.is_embedded and not description.address and args.threads is None and not args.exact:
            return _run_here(planned, registry, chosen)
        return run_single_job(planned.plan, pool, chosen)
    finally:
        pool.close()


def _load_registry(description: PoolDescription, pool: OpenedPool) -> Registry:
    """Return the node classes of the engine."""
    try:
        if description.is_embedded:
            with told_if_slow("loading the nodes ..."):
                return load_pack(folders.ROOT)
        from host.engines.object_info import registry_from

        return registry_from(pool.first().object_info())
    except (PackError, EngineError, EngineLost) as error:
        raise UsageError(error) from error


def _plan(args: argparse.Namespace, registry: Registry, chosen: Folders) -> Planned:
    try:
        workflow = read_workflow(args.workflow, registry)
        with bar_if_slow("checking values") as show:
            return make_plan(workflow, Path(args.workflow).stem, args.options, registry, chosen, show)
    except (WorkflowError, PlanError) as error:
        raise UsageError(error) from error


def _sweep(
    args: argparse.Namespace, planned: Planned, pool: OpenedPool, description: PoolDescription, chosen: Folders
) -> int:
    require_writable(chosen.output)
    _require_worker(pool)
    started = begin_sweep(planned.plan, command_to_keep(args), chosen.output)
    try:
        return run_sweep(started, pool, description, chosen)
    finally:
        started.journal.close()


def _require_worker(pool: OpenedPool) -> None:
    """Wait for the first worker: if there is none, nothing has been written yet."""
    try:
        pool.first()
    except (EngineError, EngineLost) as error:
        raise UsageError(error) from error


def _resume(args: argparse.Namespace, chosen: Folders) -> int:
    """Go on with a sweep. Its jobs come from its journal; the workflow and the files of values are not read."""
    started, command = find_sweep(args, chosen.output)
    try:
        restore_options(args, command)
        description = describe_pool(args)
        if args.dry_run:
            done = sum(1 for _ in started.journal.results())
            notes = [f"{done:,} of these jobs have a result"]
            print_plan(started.plan, notes, description, chosen.output, started.folder)
            return OK
        require_writable(started.folder)
        pool = make_pool(description)
        try:
            if args.retry_failed or sum(1 for _ in started.journal.results()) < len(started.plan):
                _require_worker(pool)
            return run_sweep(started, pool, description, chosen, retry_failed=args.retry_failed)
        finally:
            pool.close()
    finally:
        started.journal.close()


# -- a single run in this process


def _run_here(planned: Planned, registry: Registry, chosen: Folders) -> int:
    require_writable(chosen.output)
    result = _execute(planned.checked, planned.plan.extra_data, registry)
    stamp_files(result, planned.checked.prompt, chosen, describe_process([folders.ROOT]))
    for path in _saved_files(result, chosen):
        sys.stdout.write(f"{path}\n")
    return _exit_code(result)


def _execute(checked: Validation, extra_data: dict[str, Any], registry: Registry) -> RunResult:
    bars = ProgressBars(checked.prompt)
    # A node's error becomes this command's own message, so the log need not repeat it.
    cancel = threading.Event()
    with on_interrupt(cancel.set), _silenced(node_events.log):
        result = Executor(registry).run(
            checked.prompt, str(uuid.uuid4()), checked.outputs, extra_data, bars.show_event, cancel
        )
    bars.close()
    return result


@contextmanager
def _silenced(logger: logging.Logger) -> Iterator[None]:
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def _saved_files(result: RunResult, chosen: Folders) -> Iterator[Path]:
    """Yield the files that the nodes report having written."""
    for shown in result.outputs.values():
        for values in shown.values():
            for value in values:
                if isinstance(value, dict) and {"filename", "subfolder", "type"} <= value.keys():
                    yield chosen.of_type(value["type"]) / value["subfolder"] / value["filename"]


def _exit_code(result: RunResult) -> int:
    """Return the exit code of a run, and report a failure."""
    if result.failure is None:
        return OK
    node = f"node {result.failure.node_id} ({result.failure.class_type})"
    if result.status == "interrupted":
        sys.stderr.write(f"stopped at {node}; finished outputs stay\n")
        return INTERRUPTED
    error = result.failure.exception
    sys.stderr.write(f"error: {node} raised {type(error).__name__}: {error}\n")
    return NODE_RAISED

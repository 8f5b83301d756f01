"""`python -m host run`: runs a workflow headless."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import tempfile
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from host import context, folders
from host.cli.exit_codes import INTERRUPTED, NODE_RAISED, OK, UsageError
from host.cli.progress_bars import ProgressBars
from host.engines.environment import describe_process
from host.engines.stamping import stamp_files
from host.error_format import shorten, show
from host.execution import Executor, RunResult, node_events
from host.folders import Folders
from host.packs import PackError, Registry, load_pack
from host.prompt_format import Prompt
from host.validation import Validation, validate
from host.workflows import OverrideError, WorkflowError, apply_overrides, read_workflow

__all__ = ["add_options"]

_MAX_ERROR_LINES = 30


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to its parser; `args.call(args)` runs it."""
    parser.add_argument(
        "workflow", metavar="FILE", help="workflow in the API's or the editor's format, or a PNG with one"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NODE.INPUT=VALUE",
        dest="overrides",
        help="give an input another value; NODE is an id, a title or a class; may be repeated",
    )
    parser.add_argument("--output-directory", metavar="DIR", help="where SaveImage writes (default: output)")
    parser.add_argument("--input-directory", metavar="DIR", help="where LoadImage reads (default: input)")
    parser.set_defaults(call=_run)


def _run(args: argparse.Namespace) -> int:
    """Check everything, then run."""
    chosen = _choose_folders(args)
    context.use_folders(chosen)
    registry = _load_registry()
    checked, extra_data = _read_prompt(args, registry)
    _require_writable(chosen.output)
    result = _execute(checked, extra_data, registry)
    stamp_files(result, checked.prompt, chosen, describe_process([folders.ROOT]))
    for path in _saved_files(result, chosen):
        sys.stdout.write(f"{path}\n")
    return _exit_code(result)


def _choose_folders(args: argparse.Namespace) -> Folders:
    chosen = folders.default_folders(folders.ROOT)
    if args.output_directory:
        chosen = replace(chosen, output=Path(os.path.abspath(args.output_directory)))
    if args.input_directory:
        chosen = replace(chosen, input=Path(os.path.abspath(args.input_directory)))
    return chosen


def _load_registry() -> Registry:
    try:
        return load_pack(folders.ROOT)
    except PackError as error:
        raise UsageError(error) from error


def _read_prompt(args: argparse.Namespace, registry: Registry) -> tuple[Validation, dict[str, Any]]:
    """Return the checked prompt, and the data that goes with it into saved pictures."""
    try:
        workflow = read_workflow(args.workflow, registry)
        _require_known_classes(workflow.prompt, registry, args.workflow)
        prompt = apply_overrides(workflow.prompt, args.overrides, registry)
    except (WorkflowError, OverrideError) as error:
        raise UsageError(error) from error
    checked = validate(prompt, registry)
    if not checked.ok:
        raise UsageError(_describe_errors(checked, args.workflow))
    # With overrides, the editor's graph would show other values than those that made the picture: leave it out.
    extra = {} if args.overrides else workflow.extra_pnginfo
    return checked, {"extra_pnginfo": extra} if extra else {}


def _require_known_classes(prompt: Prompt, registry: Registry, file: str) -> None:
    """Refuse a prompt with nodes of unknown classes, and name all of them; `validate` names only the first."""
    malformed = [node_id for node_id, node in prompt.items() if not isinstance(node, dict)]
    if malformed:
        raise UsageError(
            f"{file} cannot be run: node {shorten(malformed[0], 80)} must be an object with class_type and inputs"
        )
    unknown = [
        f"node {shorten(node_id, 80)}: no class {show(node.get('class_type'))} is known"
        for node_id, node in prompt.items()
        if not (isinstance(node.get("class_type"), str) and node["class_type"] in registry.nodes)
    ]
    if unknown:
        hint = "this host has this project's nodes and LoadImage, SaveImage, PreviewImage; ComfyUI has the others"
        raise UsageError("\n  ".join([f"{file} cannot be run:", *_first_lines(unknown), hint]))


def _describe_errors(checked: Validation, file: str) -> str:
    """Return the errors that validation found, one per line, with node and input."""
    lines = []
    for node_id, entry in checked.node_errors.items():
        for error in entry["errors"]:
            name = error["extra_info"].get("input_name")
            where = f"node {shorten(node_id, 80)} ({entry['class_type']})" + (f", input '{name}'" if name else "")
            details = "" if error["details"] in ("", name) else f" ({error['details']})"
            lines.append(f"{where}: {error['message']}{details}")
    if not lines and checked.error is not None:
        details = f" ({checked.error['details']})" if checked.error["details"] else ""
        lines = [f"{checked.error['message']}{details}"]
    return f"{file} cannot be run:\n  " + "\n  ".join(_first_lines(lines))


def _first_lines(lines: list[str]) -> list[str]:
    """Return the first lines of a long list, and how many follow."""
    rest = len(lines) - _MAX_ERROR_LINES
    return lines if rest <= 0 else [*lines[:_MAX_ERROR_LINES], f"and {rest} more"]


def _require_writable(folder: Path) -> None:
    """Create the output folder, and check that it is writable before hours of work."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(f"nothing can be written to the output folder {folder}: {error.strerror}") from error


def _execute(checked: Validation, extra_data: dict[str, Any], registry: Registry) -> RunResult:
    bars = ProgressBars(checked.prompt)
    # A node's error becomes this command's own message, so the log need not repeat it.
    with _stop_on_interrupt() as cancel, _silenced(node_events.log):
        result = Executor(registry).run(
            checked.prompt, str(uuid.uuid4()), checked.outputs, extra_data, bars.show_event, cancel
        )
    bars.close()
    return result


@contextmanager
def _stop_on_interrupt() -> Iterator[threading.Event]:
    """On the first Ctrl-C, request a stop at the next step boundary; on the second, stop at once."""
    cancel = threading.Event()

    def request_stop(signum: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.stderr.write("\nstopping after this step; Ctrl-C again to stop at once\n")
        cancel.set()

    before = signal.signal(signal.SIGINT, request_stop)
    try:
        yield cancel
    finally:
        signal.signal(signal.SIGINT, before)


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

"""The command line: `python -m host run WORKFLOW` and `python -m host serve`.

Exit codes: 0 done; 1 a node raised, finished outputs stay; 2 bad input, nothing was run or written; 130
Ctrl-C.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import tempfile
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from host import context
from host.folders import Folders, default_folders
from host.registry import PackError, Registry, load_pack

__all__ = ["main"]

OK, NODE_RAISED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


class UsageError(Exception):
    """Bad input: one message for the person."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Returns its exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    args = _parser(argv).parse_args(argv)
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    try:
        return args.call(args) or OK
    except (UsageError, PackError) as error:
        sys.stderr.write(f"error: {error}\n")
        return BAD_INPUT
    except KeyboardInterrupt:
        return INTERRUPTED


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m host", description="Runs this project's nodes without ComfyUI.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    run = commands.add_parser("run", help="run a workflow and print the files that it wrote")
    run.add_argument("workflow", metavar="FILE", help="workflow in the API's or the editor's format, or a PNG with one")
    run.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NODE.INPUT=VALUE",
        dest="overrides",
        help="give an input another value; NODE is an id, a title or a class; may be repeated",
    )
    run.add_argument("--output-directory", metavar="DIR", help="where SaveImage writes (default: output)")
    run.add_argument("--input-directory", metavar="DIR", help="where LoadImage reads (default: input)")
    run.set_defaults(call=_run)
    if "serve" in argv[:1]:  # imported here alone: `run` needs no server
        from host.server.command import add_serve_command

        add_serve_command(commands)
    else:
        commands.add_parser("serve", help="serve the visual editor and the API")
    return parser


def _run(args: argparse.Namespace) -> int:
    """Check everything, then run."""
    from host.checking.validation import validate
    from host.execution.executor import Executor
    from host.terminal import Bars
    from host.workflows.overrides import OverrideError, apply_overrides
    from host.workflows.workflow import WorkflowError, read_workflow

    folders = _folders(args)
    context.use_folders(folders)
    registry = load_pack(context.ROOT)
    try:
        workflow = read_workflow(args.workflow, registry)
        _refuse_unknown(workflow.prompt, registry, args.workflow)
        prompt = apply_overrides(workflow.prompt, args.overrides, registry)
    except (WorkflowError, OverrideError) as error:
        raise UsageError(error) from error
    checked = validate(prompt, registry)
    if not checked.ok:
        raise UsageError(_describe(checked, args.workflow))
    _refuse_unwritable(folders.output)
    # With other values than the editor's graph says, the prompt alone tells how the pictures were made.
    extra = {} if args.overrides else workflow.extra_pnginfo
    bars = Bars(checked.prompt)
    with _stop_on_interrupt() as cancel, _quiet("host.execution.report"):
        result = Executor(registry).run(
            checked.prompt,
            str(uuid.uuid4()),
            checked.outputs,
            {"extra_pnginfo": extra} if extra else {},
            bars,
            cancel,
        )
    bars.close()
    for path in _files(result.outputs, folders):
        sys.stdout.write(f"{path}\n")
    return _exit_code(result, checked.prompt)


def _folders(args: argparse.Namespace) -> Folders:
    folders = default_folders(context.ROOT)
    if args.output_directory:
        folders = replace(folders, output=Path(os.path.abspath(args.output_directory)))
    if args.input_directory:
        folders = replace(folders, input=Path(os.path.abspath(args.input_directory)))
    return folders


def _refuse_unknown(prompt: dict[str, Any], registry: Registry, file: str) -> None:
    """Refuse what is no prompt, and name every node of unknown class at once; ComfyUI's answer names the first."""
    broken = [node_id for node_id, node in prompt.items() if not isinstance(node, dict)]
    if broken:
        raise UsageError(f"{file} cannot be run: node {broken[0]} must be an object with class_type and inputs")
    unknown = [
        f"node {node_id}: no class {node.get('class_type')!r} is known"
        for node_id, node in prompt.items()
        if not (isinstance(node.get("class_type"), str) and node["class_type"] in registry.nodes)
    ]
    if unknown:
        hint = "this host has this project's nodes and LoadImage, SaveImage, PreviewImage; ComfyUI has the others"
        raise UsageError("\n  ".join([f"{file} cannot be run:", *unknown, hint]))


def _describe(checked: Any, file: str) -> str:
    """Return what validation found, a line for each problem, with node and input."""
    lines = []
    for node_id, entry in checked.node_errors.items():
        for found in entry["errors"]:
            name = found["extra_info"].get("input_name")
            place = f"node {node_id} ({entry['class_type']})" + (f", input '{name}'" if name else "")
            details = "" if found["details"] in ("", name) else f" ({found['details']})"
            lines.append(f"{place}: {found['message']}{details}")
    if not lines:
        lines = [f"{checked.error['message']}" + (f" ({checked.error['details']})" if checked.error["details"] else "")]
    return f"{file} cannot be run:\n  " + "\n  ".join(lines)


def _refuse_unwritable(folder: Path) -> None:
    """Make the output folder, and make sure of it before hours of work."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(f"nothing can be written to the output folder {folder}: {error.strerror}") from error


@contextmanager
def _stop_on_interrupt() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into a wish to stop, which is followed between steps; the second is Python's own."""
    cancel = threading.Event()

    def stop(signum: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.stderr.write("\nstopping after this step; Ctrl-C again to stop at once\n")
        cancel.set()

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield cancel
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Keep a logger silent: what it would say is said as the command's own error."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def _files(outputs: dict[str, dict[str, list]], folders: Folders) -> Iterator[Path]:
    """Yield the files that the nodes say they have written."""
    for shown in outputs.values():
        for values in shown.values():
            for value in values:
                if isinstance(value, dict) and {"filename", "subfolder", "type"} <= value.keys():
                    yield folders.of_kind(value["type"]) / value["subfolder"] / value["filename"]


def _exit_code(result: Any, prompt: dict[str, Any]) -> int:
    """Say how the run ended."""
    if result.failure is None:
        return OK
    node = f"node {result.failure.node_id} ({result.failure.class_type})"
    if result.status == "interrupted":
        sys.stderr.write(f"stopped at {node}; finished outputs stay\n")
        return INTERRUPTED
    error = result.failure.exception
    sys.stderr.write(f"error: {node} raised {type(error).__name__}: {error}\n")
    return NODE_RAISED

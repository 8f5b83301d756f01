"""The options that say what runs the jobs: engines, workers, threads and the address of a cluster."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from host.cli.exit_codes import UsageError
from host.engines.spec import EngineSpec
from host.error_format import show

__all__ = ["PoolDescription", "add_engine_options", "describe_pool", "engine_specs"]

_MAX_WORKERS = 256
_MAX_THREADS = 1024
_DEFAULT_PORT = 8188
_KINDS = "embedded, comfyui:PATH or http://HOST:PORT"


@dataclass(frozen=True)
class PoolDescription:
    """Which workers run the jobs.

    Attributes:
        specs: The engine of each worker on this machine; with an address, the one engine that every worker has.
        address: The address of a Ray cluster; "" for this machine.
        workers: The number of workers that was asked for, or None.
    """

    specs: tuple[EngineSpec, ...]
    address: str = ""
    workers: int | None = None

    @property
    def is_embedded(self) -> bool:
        """Whether every worker runs this host's own executor."""
        return all(spec.kind == "embedded" for spec in self.specs)


def add_engine_options(parser: argparse.ArgumentParser, *, workers: bool = True, address: bool = True) -> None:
    """Add the options to a command's parser.

    Args:
        parser: The parser.
        workers: Whether the command can use several workers.
        address: Whether the command can use a cluster.
    """
    group = parser.add_argument_group("engine", "what runs the jobs")
    group.add_argument(
        "--engine",
        action="append",
        metavar="ENGINE",
        help="embedded (default), comfyui:PATH (starts the ComfyUI in that folder) or http://HOST:PORT (a ComfyUI that "
        "runs already); several make a pool",
    )
    group.add_argument("--engine-python", default="", metavar="PYTHON", help="the interpreter of comfyui:PATH")
    group.add_argument(
        "--engine-argument",
        action="append",
        default=[],
        metavar="ARGUMENT",
        help="a further argument of comfyui:PATH, as in --engine-argument=--cpu; may be repeated",
    )
    group.add_argument("--threads", type=_count(_MAX_THREADS), metavar="N", help="processor threads a worker uses")
    group.add_argument("--exact", action="store_true", help="switch off what gives other bits for the same inputs")
    if workers:
        group.add_argument("--workers", type=_count(_MAX_WORKERS), metavar="N", help="workers for each engine")
    if address:
        group.add_argument(
            "--address", default="", metavar="ADDRESS", help="a Ray cluster: auto, HOST:PORT or ray://HOST:PORT"
        )


def engine_specs(args: argparse.Namespace) -> list[EngineSpec]:
    """Return the engine of each worker that the options ask for.

    `--workers` counts the workers of each engine that is started here. An engine that runs already is one worker: it
    runs one prompt at a time, however many wait.

    Raises:
        UsageError: An engine is not known or not there, or options do not fit together.
    """
    named = [_read_engine(text) for text in args.engine or ["embedded"]]
    _check_comfyui_options(args, named)
    if len({spec.kind == "embedded" for spec in named}) > 1:
        raise UsageError("--engine expects engines with the same nodes, got embedded beside a ComfyUI; name one sort")
    workers = getattr(args, "workers", None)
    if workers is not None and workers > 1 and all(spec.kind == "http" for spec in named):
        raise UsageError(
            f"--workers {workers} expects an engine that is started here, got only running ones; each of these is one "
            "worker: name more of them with --engine"
        )
    input_directory = getattr(args, "input_directory", None)
    complete = [
        replace(
            spec,
            python=args.engine_python if spec.kind == "comfyui" else "",
            arguments=tuple(args.engine_argument) if spec.kind == "comfyui" else (),
            threads=args.threads or 1,
            exact=args.exact,
            input_directory=os.path.abspath(input_directory) if input_directory and spec.kind == "embedded" else "",
        )
        for spec in named
    ]
    return [spec for spec in complete for _ in range(1 if spec.kind == "http" else workers or 1)]


def describe_pool(args: argparse.Namespace) -> PoolDescription:
    """Return the workers that the options ask for. Raises UsageError like `engine_specs`."""
    address = getattr(args, "address", "")
    workers = getattr(args, "workers", None)
    specs = engine_specs(args)
    if address:
        if len(set(specs)) > 1:
            raise UsageError(f"--address expects one --engine, which every worker of the cluster has; got {len(specs)}")
        if specs[0].kind == "http":
            raise UsageError(
                "--address expects an engine that the workers of the cluster start, embedded or comfyui:PATH; "
                "without --address, engines that run already make a pool of their own"
            )
        specs = specs[:1]
    return PoolDescription(tuple(specs), address, workers)


def _read_engine(text: str) -> EngineSpec:
    if text == "embedded":
        return EngineSpec()
    if text.startswith("comfyui:"):
        return _read_comfyui(text.removeprefix("comfyui:"))
    if re.match("https?://", text):
        return _read_address(text)
    raise UsageError(f"--engine expects {_KINDS}, got {show(text)}")


def _read_comfyui(folder: str) -> EngineSpec:
    path = Path(folder).expanduser()
    if not folder or not (path / "main.py").is_file():
        raise UsageError(
            f"--engine comfyui:PATH expects the folder of a ComfyUI, got {show(folder)}, which has no main.py"
        )
    return EngineSpec("comfyui", os.path.abspath(path))


def _read_address(text: str) -> EngineSpec:
    expected = f"--engine expects an address such as http://127.0.0.1:{_DEFAULT_PORT}, got {show(text)}"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"{expected}: {error}") from error
    if not parts.hostname or parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc:
        raise UsageError(f"{expected}: give scheme, host and port only")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return EngineSpec("http", f"{parts.scheme}://{host}" + (f":{port}" if port is not None else ""))


def _check_comfyui_options(args: argparse.Namespace, named: list[EngineSpec]) -> None:
    given = [
        option
        for option, value in (("--engine-python", args.engine_python), ("--engine-argument", args.engine_argument))
        if value
    ]
    if given and not any(spec.kind == "comfyui" for spec in named):
        raise UsageError(f"{given[0]} is for --engine comfyui:PATH, and no engine is one; leave it out or name one")


def _count(largest: int) -> Callable[[str], int]:
    """Return a reader of whole numbers from 1 to `largest` for argparse."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = 0
        if not 1 <= number <= largest:
            raise argparse.ArgumentTypeError(f"expected a whole number from 1 to {largest}, got {show(text)}")
        return number

    return read

"""`python -m host serve`: serves the visual editor and the API."""

from __future__ import annotations

import argparse
import logging
import os
from dataclasses import replace
from pathlib import Path

from host.cli.engine_options import PoolDescription, add_engine_options, describe_pool
from host.cli.exit_codes import OK, UsageError
from host.cli.pools import OpenedPool, make_pool
from host.engines.contract import EngineError, EngineLost
from host.folders import ROOT
from host.packs import PackError, Registry, load_packs
from host.server import ServeError, Settings, serve

__all__ = ["add_options"]

_OPENING_WORKFLOW = Path("example_workflows", "digits.json")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to its parser; `args.call(args)` runs it."""
    parser.add_argument("--port", type=_port, default=8188, help="port (default 8188); 0 takes a free one")
    parser.add_argument("--listen", default="127.0.0.1", metavar="ADDRESS", help="address (default 127.0.0.1)")
    parser.add_argument(
        "--data-directory",
        type=Path,
        default=ROOT,
        metavar="FOLDER",
        help="folder that holds input, output, temp, models and user (default: this project's)",
    )
    parser.add_argument(
        "--pack",
        type=Path,
        action="append",
        metavar="FOLDER",
        help="serve this node pack instead of this project's; may be given more than once",
    )
    parser.add_argument("--open", type=_file, metavar="WORKFLOW", help="workflow with which an empty editor opens")
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="name, beside localhost, under which browsers may call this host; may be given more than once",
    )
    add_engine_options(parser)
    parser.set_defaults(call=_serve)


def _serve(args: argparse.Namespace) -> int:
    logging.getLogger("host").setLevel(logging.INFO)
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # it logs malformed requests, which are answered 400
    packs = args.pack or [ROOT]
    examples = (pack / _OPENING_WORKFLOW for pack in packs)
    opening = args.open or next((path for path in examples if path.is_file()), None)
    data = args.data_directory.absolute()
    description = _workers(args, packs)
    pool = None if description is None else make_pool(description)
    try:
        registry = _registry(packs, description, pool)
        serve(registry, Settings(data, args.port, args.listen, tuple(args.allow_host), opening), pool=pool)
    except (PackError, ServeError, EngineError, EngineLost) as error:
        raise UsageError(error) from error
    finally:
        if pool is not None:
            pool.close()
    return OK


def _workers(args: argparse.Namespace, packs: list[Path]) -> PoolDescription | None:
    """Return the workers that take the prompts, or None if they run in this process."""
    if not (args.address or args.engine or args.workers is not None):
        if args.threads is not None or args.exact:
            raise UsageError("--threads and --exact are for workers: add --workers, --engine or --address")
        return None
    description = describe_pool(args)
    folders = tuple(os.path.abspath(pack) for pack in packs) if args.pack else ()
    specs = tuple(replace(spec, packs=folders) if spec.kind == "embedded" else spec for spec in description.specs)
    return replace(description, specs=specs)


def _registry(packs: list[Path], description: PoolDescription | None, pool: OpenedPool | None) -> Registry:
    """Return the node classes: those of the packs, or those of another engine. A worker is ready then."""
    if description is None or pool is None:
        return load_packs(packs)
    first = pool.first()
    if description.is_embedded:
        return load_packs(packs)
    from host.engines.object_info import registry_from

    return registry_from(first.object_info())


def _file(text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"there is no file {text}")
    return path


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"expected a port between 0 and 65535, got {port}")
    return port

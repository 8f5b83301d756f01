"""`python -m host serve`: serves the visual editor and the API."""

from __future__ import annotations

import argparse
import logging
import os
from dataclasses import replace
from pathlib import Path

from host.cli.console import is_quiet
from host.cli.exit_codes import OK, UsageError
from host.cli.options.engines import PoolDescription, describe_pool
from host.cli.pools import OpenedPool, make_pool
from host.engines.contract import EngineError, EngineLost
from host.folders import ROOT
from host.packs import PackError, Registry, load_packs
from host.server import ServeError, Settings, serve

__all__ = ["call"]

_OPENING_WORKFLOW = Path("example_workflows", "Emoji - from words.json")


def call(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C. Returns the exit code."""
    logging.getLogger("host").setLevel(logging.WARNING if is_quiet() else logging.INFO)
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

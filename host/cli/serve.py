"""The ``serve`` command's options."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

from host.registry import Registry, load_pack, stock_registry

from .serving import ServeError, Settings, serve

__all__ = ["add_serve_command"]

log = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[2]
BAD_INPUT = 2
_OPENING = Path("example_workflows", "digits.json")


def add_serve_command(commands: Any) -> None:
    """Adds ``serve`` to the sub-commands of an argparse parser; ``args.call(args)`` runs it."""
    parser = commands.add_parser("serve", help="serve the visual editor and the API")
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
    parser.set_defaults(call=_serve)


def _serve(args: argparse.Namespace) -> int:
    logging.getLogger("host").setLevel(logging.INFO)
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # its errors are what strangers send: answered 400
    packs = args.pack or [ROOT]
    data = args.data_directory.absolute()
    opening = args.open or next((pack / _OPENING for pack in packs if (pack / _OPENING).is_file()), None)
    try:
        serve(_load(packs), Settings(data, args.port, args.listen, tuple(args.allow_host), opening))
    except ServeError as error:
        sys.stderr.write(f"error: {error}\n")
        return BAD_INPUT
    return 0


def _load(packs: list[Path]) -> Registry:
    registry = stock_registry()
    for pack in packs:
        log.info("loading the nodes of %s", pack)
        registry = load_pack(pack, registry)
    return registry


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

"""How the embedded host bears load, and how much memory its largest requests take: ``python -m bench.server``.

Starts a host of its own, on a free port and in a temporary folder. `--prompts` and `--clients` set how much is sent.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from bench.server.load import load_table
from bench.server.memory import memory_table
from tests.server.support import ROOT, HostProcess, make_pack


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser("python -m bench.server", description=__doc__)
    parser.add_argument("--prompts", type=int, default=2200, help="prompts of all clients together (%(default)s)")
    parser.add_argument("--clients", type=int, default=20, help="clients, each with a WebSocket (%(default)s)")
    parser.add_argument("--only", choices=tuple(_PARTS), action="append", help="print only this table")
    arguments = parser.parse_args()
    for name in arguments.only or _PARTS:
        with tempfile.TemporaryDirectory() as folder:
            host = HostProcess(Path(folder, "data"), [ROOT, make_pack(Path(folder))])
            try:
                _PARTS[name](host, arguments.prompts, arguments.clients)
            finally:
                host.stop()


_PARTS = {
    "load": load_table,
    "memory": lambda host, prompts, clients: memory_table(host),
}


if __name__ == "__main__":
    main()

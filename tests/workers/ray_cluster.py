"""A Ray cluster on this machine, in a process group of its own: `python ray_cluster.py` obeys commands on its input.

Each line is a JSON list: ["add", cpus, {variable: value}], ["kill", index of an added node], ["kill-head"].
The answer to each, and to the start, is a line of JSON.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import ray
from ray._private.node import Node
from ray.cluster_utils import Cluster


def main() -> None:
    here = ray.util.get_node_ip_address()
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": int(sys.argv[1]), "include_dashboard": False, "node_ip_address": here},
    )
    answer({"address": cluster.address, "node": cluster.head_node.node_id})
    nodes = []
    for line in sys.stdin:
        command, *arguments = json.loads(line)
        if command == "add":
            nodes.append(cluster.add_node(num_cpus=arguments[0], env_vars=arguments[1], node_ip_address=here))
            answer({"node": nodes[-1].node_id})
        elif command == "kill":
            kill_machine(nodes[arguments[0]])
            cluster.remove_node(nodes[arguments[0]], allow_graceful=False)
            answer({})
        else:
            cluster.head_node.kill_all_processes(check_alive=False, allow_graceful=False)
            answer({})
    cluster.shutdown()


def kill_machine(node: Node) -> None:
    """End the processes of a node at once, as a power cut does: its workers would finish what they do."""
    (raylet,) = (entry.process.pid for entry in node.all_processes["raylet"])
    for process in [raylet, *children(raylet)]:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def children(parent: int) -> list[int]:
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            with suppress(OSError):
                if int((path / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                    found.append(int(path.name))
    return found


def answer(what: dict) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()

"""A Ray cluster on this machine, in a process group of its own: `python ray_cluster.py` obeys commands on its input.

Each line is a JSON list: ["add", cpus, {variable: value}], ["kill", index of an added node], ["kill-head"].
The answer to each, and to the start, is a line of JSON.
"""

from __future__ import annotations

import json
import sys

import ray
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
            cluster.remove_node(nodes[arguments[0]], allow_graceful=False)
            answer({})
        else:
            cluster.head_node.kill_all_processes(check_alive=False, allow_graceful=False)
            answer({})
    cluster.shutdown()


def answer(what: dict) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()

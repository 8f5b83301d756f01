"""The page about clusters and its example agree with Ray and with the code."""

from __future__ import annotations

import re
import subprocess
import sys

from host.folders import ROOT
from host.workers import ray_connection

PAGE = (ROOT / "docs/scale-out.md").read_text(encoding="utf-8")
CHECK = """
import sys, yaml
from ray.autoscaler._private.util import prepare_config, validate_config
config = prepare_config(yaml.safe_load(open(sys.argv[1])))
validate_config(config)
print(config["cluster_name"], config["max_workers"], len(config["provider"]["worker_ips"]))
"""


def test_the_example_of_a_cluster_is_valid_for_ray():
    command = [sys.executable, "-W", "ignore", "-c", CHECK, str(ROOT / "docs/cluster.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["ddim", "2", "2"]


def test_the_page_states_what_the_code_does():
    text = " ".join(PAGE.split())
    assert f"after {ray_connection.LOST_SECONDS:g} seconds the command says so" in text
    commands = re.findall(r"^python -m host (\w+)|^RAY_AUTH_MODE=token python -m host (\w+)", PAGE, re.MULTILINE)
    assert {name for pair in commands for name in pair if name} == {"run", "serve"}

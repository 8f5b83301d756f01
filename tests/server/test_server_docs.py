"""The page about the server says what is so."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from host import limits
from host.folders import ROOT
from host.server.jobs.store import MAX_ATTEMPTS, TRUSTED_ATTEMPTS
from host.server.jobs.worker import SUSPECT_SECONDS
from host.server.routes import ROUTES
from tests.server.support import graph

PAGE = (Path(__file__).resolve().parents[2] / "docs/server.md").read_text()


def test_the_example_program_runs(server, tmp_path):
    (program,) = re.findall(r"```python\n(import json.*?)```", PAGE, re.DOTALL)
    (tmp_path / "prompt.json").write_text(json.dumps(graph(0.123, prefix="docs")))
    program = program.replace("http://127.0.0.1:8188", server.address)
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], cwd=tmp_path, check=True, timeout=200)
    (picture,) = tmp_path.glob("docs_*.png")
    with Image.open(picture) as shown:
        assert shown.size == (32, 16)


def test_every_option_is_described():
    listed = set(re.findall(r"^\| `(--[a-z-]+)", PAGE, re.MULTILINE))
    help_text = subprocess.run(
        [sys.executable, "-m", "host", "serve", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert listed == set(re.findall(r"^ +(--[a-z-]+)", help_text, re.MULTILINE)) - {"--help"}


@pytest.mark.parametrize("request_line", re.findall(r"`((?:GET|POST) /[^`]*)`", PAGE.split("| request |")[1]))
def test_every_request_of_the_table_exists(request_line):
    method, path = request_line.split()
    routes = {(route.method, re.sub(r"\{\w+\}", "NAME", route.path)) for route in ROUTES}
    assert (method, re.sub(r"ID|NODE", "NAME", path)) in routes


def test_the_limits():
    """Every limit that the page states is the one in the code."""
    text = " ".join(PAGE.split())
    for stated in (
        f"{limits.MAX_BODY_BYTES >> 20} MiB of JSON nested {limits.MAX_JSON_DEPTH} deep",
        f"(a prompt {limits.MAX_PROMPT_DEPTH})",
        f"{limits.MAX_JSON_VALUES // 1000} 000 values in a request",
        f"{limits.MAX_PROMPT_NODES} nodes in a prompt",
        f"uploads of {limits.MAX_UPLOAD_BYTES >> 20} MiB",
        f"pictures of {limits.MAX_PICTURE_PIXELS >> 20} megapixels",
        f"animations of {limits.MAX_PICTURE_FRAMES} frames and {limits.MAX_ANIMATION_PIXELS >> 20} megapixels",
        f"{limits.MAX_SETTINGS_BYTES >> 20} MiB of settings",
        f"{limits.MAX_WEBSOCKETS} WebSockets",
        f"headers of a request are not complete after {limits.MAX_HEADER_SECONDS:g} seconds",
        f"nothing of a body arrives for {limits.MAX_BODY_PAUSE_SECONDS:g} seconds",
        f"crashed the server {MAX_ATTEMPTS} times",
        f"After {TRUSTED_ATTEMPTS} of them it starts only when the server has been up for {SUSPECT_SECONDS:g} seconds",
    ):
        assert stated in text

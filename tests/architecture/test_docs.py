"""What the documentation tells a reader to type works, and the files that it names exist."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest

from ddim import INVERSION_METHODS
from host.cli import main
from tests.server.support import HostProcess

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RECIPES = (ROOT / "docs/recipes.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^python -m host (run .*)$", RECIPES, re.MULTILINE)


def test_the_list_of_nodes_names_every_node(pack: ModuleType) -> None:
    named = set(re.findall(r"web/docs/(DDIM\w+)\.md", (ROOT / "docs/nodes.md").read_text(encoding="utf-8")))
    assert named == set(pack.NODE_CLASS_MAPPINGS)


def test_the_line_for_curl_queues_a_prompt(tmp_path: Path) -> None:
    (line,) = re.findall(r"^curl .*$", README, re.MULTILINE)
    words = shlex.split(line)
    path, body = words[words.index("-s") + 1], words[words.index("-d") + 1].removeprefix("@")
    host = HostProcess(tmp_path, [ROOT])
    try:
        address = path.removeprefix("http://127.0.0.1:8188")
        answer = host.post(address, (ROOT / body).read_bytes(), **{"Content-Type": "application/json"})
        assert answer.status == 200, answer.body
        done = host.finished(answer.json["prompt_id"])
        assert done["status"]["status_str"] == "success" and len(list((tmp_path / "output").glob("*.png"))) == 1
    finally:
        host.stop()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_recipes_is_valid(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    code = main([*shlex.split(command), "--dry-run", "--output-directory", str(tmp_path)])
    assert code == 0, capsys.readouterr()


def test_there_are_commands_in_the_recipes() -> None:
    assert len(COMMANDS) >= 8


def test_every_template_that_the_recipes_name_exists() -> None:
    tables = RECIPES[: RECIPES.index("## Stable Diffusion 1.5")]
    named = set(re.findall(r"\| \*([^*|]+)\* \|$", tables, re.MULTILINE))
    there = {path.stem for path in (ROOT / "example_workflows").glob("*.json")}
    assert len(named) >= 8 and named <= there, named - there


def test_every_input_that_the_pages_for_users_name_exists(pack: ModuleType) -> None:
    known = {
        name
        for node in pack.NODE_CLASS_MAPPINGS.values()
        for part in ("required", "optional")
        for name in node.INPUT_TYPES().get(part, {})
    }
    for page in ("recipes", "troubleshooting"):
        text = (ROOT / f"docs/{page}.md").read_text(encoding="utf-8")
        prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        named = set(re.findall(r"`([a-z][a-z0-9_]+)`", prose))
        others = {path.stem for path in (ROOT / "example_workflows").glob("*.json")} | {"latent", *INVERSION_METHODS}
        assert named - known - others - {"output", "custom_nodes"} == set(), page


def test_json_in_the_folder_for_programs_is_a_body_of_a_request() -> None:
    for path in (ROOT / "example_workflows/api").glob("*.json"):
        assert set(json.loads(path.read_text(encoding="utf-8"))) == {"prompt"}

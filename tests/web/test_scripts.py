"""The web folder's scripts and words, without a browser: what is loaded, what is named, what is translated."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WEB, LOCALES = ROOT / "web", ROOT / "locales"
LANGUAGES = ("en", "zh", "ja")
SCRIPTS = sorted(path for path in WEB.rglob("*") if path.suffix in {".js", ".mjs"})


def words(language: str, name: str = "main") -> dict:
    return json.loads((LOCALES / language / f"{name}.json").read_text(encoding="utf-8"))


def flat(branch: dict, above: str = "") -> dict[str, str]:
    found = {}
    for key, value in branch.items():
        found.update(flat(value, f"{above}{key}.") if isinstance(value, dict) else {above + key: value})
    return found


def places(text: str) -> set[str]:
    return set(re.findall(r"\{(\w+)\}", text))


def test_functions_without_a_page():
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node on this machine")
    done = subprocess.run([node, "--test", "tests/web/"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def test_one_file_is_executed_at_page_load():
    assert [path.name for path in WEB.rglob("*.js")] == ["ddim.js"]


def test_one_file_names_the_editors_scripts():
    assert [path.name for path in SCRIPTS if "/scripts/" in path.read_text()] == ["comfy.mjs"]


def test_scripts_import_what_is_there():
    for path in SCRIPTS:
        for name in re.findall(r'from "(\.[^"]+\.mjs)"', path.read_text()):
            assert (path.parent / name).is_file(), f"{path.relative_to(WEB)} imports {name}"


def test_nothing_is_logged_evaluated_or_written_as_markup():
    for path in SCRIPTS:
        assert not re.search(
            r"console\.|innerHTML|outerHTML|insertAdjacentHTML|\beval\(|new Function", path.read_text()
        )


def test_every_text_that_is_said_has_words_with_the_same_places():
    english = flat(words("en")["ddim"])
    for language in LANGUAGES:
        translated = flat(words(language)["ddim"])
        assert translated.keys() == english.keys(), language
        for key, text in translated.items():
            assert places(text) == places(english[key]) and text.strip(), (language, key)
    for path in SCRIPTS:
        for key in re.findall(r'say\(\s*"([\w.]+)"', path.read_text()):
            assert key in english, f"{path.name}: {key}"


def test_every_sentence_of_the_nodes_has_words(pack):
    from pack.nodes.editor.messages import MESSAGES

    english = words("en")["ddim"]["messages"]
    assert english == MESSAGES


def test_settings_have_words():
    ids = {name.replace(".", "_") for name in re.findall(r'id: "(DDIM\.\w+)"', (WEB / "ddim.js").read_text())}
    for language in LANGUAGES:
        assert words(language, "settings").keys() == ids


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_input_and_output_of_every_node_has_words(pack, language):
    nodes, names = pack.NODE_CLASS_MAPPINGS, pack.NODE_DISPLAY_NAME_MAPPINGS
    given = words(language, "nodeDefs")
    assert given.keys() == nodes.keys()
    for node_id, node in nodes.items():
        declared = node.INPUT_TYPES()
        inputs = {**declared.get("required", {}), **declared.get("optional", {})}
        entry = given[node_id]
        assert entry["inputs"].keys() == inputs.keys(), node_id
        assert entry["outputs"].keys() == {str(i) for i in range(len(node.RETURN_TYPES))}, node_id
        assert all(text.strip() for text in flat(entry).values())
    spec = importlib.util.spec_from_file_location("locales_make", LOCALES / "make.py")
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    assert given == make.node_definitions(nodes, names, language), "run: python locales/make.py"

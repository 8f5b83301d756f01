"""Writes ``<language>/nodeDefs.json`` of every language: names, tooltips and outputs of every node.

An input of one name means the same on every node, so its words stand once in ``terms.<language>.json``: under
``inputs`` by name (or by ``Node.name`` where a node means something else), under ``outputs`` likewise, under ``nodes``
by id. English comes from the nodes themselves; there, ``terms.en.json`` holds the labels that are not simply the id in
words. Run from the repository: ``python locales/make.py``.

The editor compiles some of these texts as messages and shows others as they are, depending on its version, so none may
hold a mark of its message language.
"""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
LANGUAGES = ("en", "zh", "ja")
MARKS = set("@${}|%")
INPUT_ID = re.compile(r"(?<![\w（(])[a-z][a-z0-9]*(?:_[a-z0-9]+)+(?![\w=])", re.ASCII)
ALSO_VALUES = {"variance_noise"}  # ids that are also values of another input


def load_nodes() -> tuple[dict[str, type], dict[str, str]]:
    """The pack's classes and names, loaded by path as a host does it."""
    root = HERE.parent
    spec = importlib.util.spec_from_file_location("pack", root / "__init__.py", submodule_search_locations=[str(root)])
    assert spec is not None and spec.loader is not None
    sys.path.insert(0, str(root))
    sys.modules["pack"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.NODE_CLASS_MAPPINGS, module.NODE_DISPLAY_NAME_MAPPINGS


def node_definitions(nodes: dict[str, type], names: dict[str, str], language: str) -> dict[str, Any]:
    """The whole of one language's nodeDefs.json.

    Raises:
        KeyError: for a node, input or output that has no words in this language.
        ValueError: for a text with a mark of the editor's message language.
    """
    terms = json.loads((HERE / f"terms.{language}.json").read_text(encoding="utf-8"))
    if language == "en":
        return {node: _english(kind, names[node], terms) for node, kind in nodes.items()}
    return {node: _translated(node, kind, terms) for node, kind in nodes.items()}


def _english(kind: type, name: str, terms: dict[str, dict[str, str]]) -> dict[str, Any]:
    def words(group: str, name: str, tip: str) -> dict[str, str]:
        label = terms[group].get(name, name.replace("_", " "))
        return {"name": _plain(label), "tooltip": _named(_plain(tip), terms["inputs"])}

    outputs = zip(_output_names(kind), kind.OUTPUT_TOOLTIPS, strict=True)
    return {
        "display_name": _plain(name),
        "description": _named(_plain(kind.DESCRIPTION), terms["inputs"]),
        "inputs": {name: words("inputs", name, tip) for name, tip in _input_tips(kind).items()},
        "outputs": {str(i): words("outputs", name, tip) for i, (name, tip) in enumerate(outputs)},
    }


def _translated(node: str, kind: type, terms: dict[str, Any]) -> dict[str, Any]:
    labels = {name: label for name, (label, _) in terms["inputs"].items()}

    def words(group: str, name: str) -> dict[str, str]:
        found = terms[group].get(f"{node}.{name}") or terms[group][name]
        return {"name": _plain(found[0]), "tooltip": _named(_plain(found[1]), labels)}

    title, description = terms["nodes"][node]
    return {
        "display_name": _plain(title),
        "description": _named(_plain(description), labels),
        "inputs": {name: words("inputs", name) for name in _input_tips(kind)},
        "outputs": {str(i): words("outputs", name) for i, name in enumerate(_output_names(kind))},
    }


def _named(text: str, labels: dict[str, str]) -> str:
    """Put the label that a node shows before each id of an input in a text, as web/common/words.mjs does."""

    def labelled(found: re.Match[str]) -> str:
        name = found.group()
        return name if name not in labels or name in ALSO_VALUES else f"{labels[name]} ({name})"

    return INPUT_ID.sub(labelled, text)


def _input_tips(kind: type) -> dict[str, str]:
    declared = kind.INPUT_TYPES()
    every = {**declared.get("required", {}), **declared.get("optional", {})}
    return {name: spec[1].get("tooltip", "") for name, spec in every.items()}


def _output_names(kind: type) -> tuple[str, ...]:
    return tuple(kind.RETURN_NAMES if hasattr(kind, "RETURN_NAMES") else kind.RETURN_TYPES)


def _plain(text: str) -> str:
    if MARKS & set(text):
        raise ValueError(f"a text for the editor must not hold {' '.join(sorted(MARKS))}, got {text!r}")
    return text


def main() -> None:
    """Write the files."""
    nodes, names = load_nodes()
    for language in LANGUAGES:
        content = json.dumps(node_definitions(nodes, names, language), ensure_ascii=False, indent=2)
        (HERE / language / "nodeDefs.json").write_text(content + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

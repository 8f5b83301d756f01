"""A host with a pack of toy nodes, so that these tests stand on nothing but the host."""

from __future__ import annotations

import json
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from host import context
from host.cli import main
from host.execution.executor import Executor, RunResult
from host.folders import Folders, default_folders
from host.packs import Registry, load_pack, pack_module_name
from host.validation import validate

DOOR = """
WEB_DIRECTORY = "./web"

def __getattr__(name):
    if name in ("NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"):
        from . import toy_nodes
        return getattr(toy_nodes, name)
    raise AttributeError(name)
"""


@pytest.fixture(scope="session")
def toy_pack(tmp_path_factory) -> Path:
    """A pack folder with a lazy door, as the project's own, under a name that is no identifier."""
    folder = tmp_path_factory.mktemp("packs") / "toy-pack.v1"
    (folder / "web").mkdir(parents=True)
    (folder / "__init__.py").write_text(DOOR)
    shutil.copy(Path(__file__).parent / "toy_nodes.py", folder)
    return folder


@pytest.fixture(scope="session")
def registry(toy_pack) -> Registry:
    """The stock nodes and the toy nodes."""
    return load_pack(toy_pack)


@pytest.fixture
def folders(tmp_path) -> Iterator[Folders]:
    """Folders of this test alone."""
    chosen = default_folders(tmp_path / "data")
    chosen.input.mkdir(parents=True)
    before = context.use_folders(chosen)
    yield chosen
    context.use_folders(before)


@pytest.fixture
def calls(toy_pack) -> list[str]:
    """What the toy nodes ran, in order."""
    log = sys.modules[pack_module_name(toy_pack) + ".toy_nodes"].CALLS
    log.clear()
    return log


@dataclass(frozen=True)
class Told:
    """A run and every event that it sent."""

    result: RunResult
    events: list[tuple[str, dict[str, Any]]]

    def of(self, event: str) -> list[dict[str, Any]]:
        """The data of the events of one kind."""
        return [data for name, data in self.events if name == event]

    @property
    def texts(self) -> dict[str, Any]:
        """What each ToyShow showed."""
        return {node_id: ui["text"] for node_id, ui in self.result.outputs.items() if "text" in ui}


@pytest.fixture
def play(registry, folders, toy_pack) -> Callable[..., Told]:
    """Run prompts one after the other in one executor; `play(prompt, **options)`."""
    executor = Executor(registry)

    def run(prompt, cancel=None, extra_data=None, listen=None) -> Told:
        checked = validate(prompt, registry)
        assert checked.error is None, checked
        events: list[tuple[str, dict[str, Any]]] = []

        def emit(event, data):
            events.append((event, data))
            if listen is not None:
                listen(event, data)

        cancel = cancel or threading.Event()
        result = executor.run(checked.prompt, "run-1", checked.outputs, extra_data or {}, emit, cancel)
        return Told(result, events)

    return run


def node(kind: str, title: str | None = None, /, **inputs: Any) -> dict[str, Any]:
    """A node of a prompt."""
    return {"class_type": kind, "inputs": inputs} | ({"_meta": {"title": title}} if title else {})


@pytest.fixture(name="node")
def _node() -> Callable[..., dict[str, Any]]:
    """`node("ToyAdd", a=["1", 0], b=2.0)`."""
    return node


@pytest.fixture
def run(monkeypatch, toy_pack, tmp_path, folders, capsys):
    """Run a graph with options; gives (exit code, stdout, stderr)."""
    monkeypatch.setattr("host.folders.ROOT", toy_pack)

    def call(graph, *options, out=tmp_path / "out"):
        file = tmp_path / "graph.json"
        file.write_text(graph if isinstance(graph, str) else json.dumps(graph))
        try:
            code = main(["run", str(file), "--output-directory", str(out), *options])
        except SystemExit as error:
            code = error.code
        told = capsys.readouterr()
        return code, told.out, told.err

    return call

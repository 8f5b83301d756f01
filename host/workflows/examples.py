"""The example workflows of packs, and which of them a host can run with the classes that it has."""

from __future__ import annotations

from pathlib import Path

from host.packs import Registry
from host.workflows.editor_graph import WorkflowError
from host.workflows.workflow_files import read_workflow

__all__ = ["EXAMPLE_FOLDERS", "example_files", "runs_here", "runnable_examples"]

EXAMPLE_FOLDERS = ("example_workflows", "example", "examples", "workflow", "workflows")  # as ComfyUI looks for them


def example_files(pack: Path) -> list[Path]:
    """Return the example workflows of a pack's folder, sorted by path."""
    return sorted(path for name in EXAMPLE_FOLDERS for path in (pack / name).glob("*.json"))


def runs_here(workflow: Path, registry: Registry) -> bool:
    """Return whether a workflow is made of nodes whose classes are known. False for a file that is no workflow."""
    try:
        prompt = read_workflow(workflow, registry).prompt
    except WorkflowError:
        return False
    return all(isinstance(node, dict) and node.get("class_type") in registry.nodes for node in prompt.values())


def runnable_examples(registry: Registry) -> list[Path]:
    """Return the examples of the registry's packs that run here."""
    packs = registry.pack_directories.values()
    return [path for pack in packs for path in example_files(pack) if runs_here(path, registry)]

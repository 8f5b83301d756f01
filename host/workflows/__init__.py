"""Workflows in the API's format, the editor's format or a PNG, read into prompts."""

from host.workflows.editor_graph import WorkflowError
from host.workflows.overrides import OverrideError, OverrideTarget, apply_overrides, find_target, replace_values
from host.workflows.workflow_files import Workflow, read_workflow

__all__ = [
    "OverrideError",
    "OverrideTarget",
    "Workflow",
    "WorkflowError",
    "apply_overrides",
    "find_target",
    "read_workflow",
    "replace_values",
]

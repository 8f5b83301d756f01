"""Workflows in the API's format, the editor's format or a PNG, read into prompts."""

from host.workflows.editor_graph import WorkflowError
from host.workflows.overrides import OverrideError, apply_overrides
from host.workflows.workflow_files import Workflow, read_workflow

__all__ = ["OverrideError", "Workflow", "WorkflowError", "apply_overrides", "read_workflow"]

"""The arguments of a node: constants, other nodes' outputs, and the hidden inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from host.execution.calls import Inputs
from host.execution.dynamic_prompt import DynamicPrompt
from host.packs import NodeClass, find_input, input_types
from host.prompt_format import is_link

__all__ = ["gather_inputs", "hidden_inputs"]


def gather_inputs(
    node: NodeClass,
    inputs: Mapping[str, Any],
    fetch: Callable[[str, int], list[Any] | None],
) -> tuple[Inputs, set[str]]:
    """Return a node's declared inputs, each as a list of values, and the names of those not available yet.

    Args:
        node: The class.
        inputs: The node's inputs in the prompt.
        fetch: fetch(node id, slot) returns that output's values, or None if the node has not run.
    """
    declared = input_types(node)
    values: Inputs = {}
    missing: set[str] = set()
    for name, value in inputs.items():
        spec = find_input(declared, name)
        if spec is None:
            continue
        if not is_link(value) or spec.options.get("rawLink", False):
            values[name] = [value]
            continue
        fetched = fetch(*value)
        values[name] = [None] if fetched is None else fetched
        if fetched is None:
            missing.add(name)
    return values, missing


def hidden_inputs(
    node: NodeClass,
    node_id: str,
    graph: DynamicPrompt | None,
    extra_data: Mapping[str, Any],
) -> Inputs:
    """Return the hidden inputs that the class declares: PROMPT, DYNPROMPT, EXTRA_PNGINFO, UNIQUE_ID."""
    known = {
        "PROMPT": graph.get_original_prompt() if graph is not None else {},
        "DYNPROMPT": graph,
        "EXTRA_PNGINFO": extra_data.get("extra_pnginfo"),
        "UNIQUE_ID": node_id,
        "AUTH_TOKEN_COMFY_ORG": extra_data.get("auth_token_comfy_org"),
        "API_KEY_COMFY_ORG": extra_data.get("api_key_comfy_org"),
    }
    declared = input_types(node).get("hidden", {})
    types = {name: spec if isinstance(spec, str) else spec[0] for name, spec in declared.items()}
    return {name: [known[input_type]] for name, input_type in types.items() if input_type in known}

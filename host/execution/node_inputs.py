"""The arguments of a node: constants, other nodes' outputs, and the hidden inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from host.checking.links import is_link
from host.execution.graph import DynamicPrompt
from host.object_info import NodeClass, find_input, input_types

__all__ = ["gather_inputs", "hidden_inputs"]


def gather_inputs(
    node: NodeClass,
    inputs: Mapping[str, Any],
    fetch: Callable[[str, int], list | None],
) -> tuple[dict[str, list], set[str]]:
    """Return a node's declared inputs, each as a list of values, and the names of those not at hand.

    Args:
        node: The class.
        inputs: The node's inputs in the prompt.
        fetch: fetch(node id, slot) gives that output's values, or None if that node has not run.
    """
    declared = input_types(node)
    values: dict[str, list] = {}
    missing: set[str] = set()
    for name, value in inputs.items():
        found = find_input(declared, name)
        if found is None:
            continue
        if not is_link(value) or found[2].get("rawLink", False):
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
) -> dict[str, list]:
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
    kinds = {name: spec if isinstance(spec, str) else spec[0] for name, spec in declared.items()}
    return {name: [known[kind]] for name, kind in kinds.items() if kind in known}

"""Whatever a stranger sends, validation answers, in JSON that a browser can read."""

from __future__ import annotations

import json
import threading

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from host.execution import Executor
from host.strict_json import dumps
from host.validation import validate

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)
ids = st.sampled_from(["1", "2", "3", "4", "nowhere"])
links = st.tuples(ids, st.integers(-1, 2)).map(list)
names = st.sampled_from(["value", "a", "b", "mode", "seed", "image", "count", "__value__", "prompt"])
kinds = st.sampled_from(
    [
        "ToyNumber",
        "ToyAdd",
        "ToyShow",
        "ToyEven",
        "ToySwitch",
        "ToyList",
        "ToySum",
        "ToyImage",
        "SaveImage",
        "LoadImage",
    ]
)
nodes = st.fixed_dictionaries({"class_type": kinds, "inputs": st.dictionaries(names, links | values, max_size=4)})
prompts = st.dictionaries(ids, nodes, max_size=4)
quick = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@quick
@given(prompt=values | st.dictionaries(ids, values | nodes, max_size=4), targets=st.none() | values)
def test_anything_at_all_gets_an_answer(registry, folders, prompt, targets):
    found = validate(prompt, registry, targets)
    assert (found.error is None) == bool(found.outputs)
    json.loads(dumps({"error": found.error, "node_errors": found.node_errors}), parse_constant=lambda name: 1 / 0)


@quick
@given(prompt=prompts)
def test_a_prompt_that_passes_runs_to_an_end(registry, folders, prompt):
    found = validate(prompt, registry)
    for node_id, entry in found.node_errors.items():
        assert entry["errors"] and entry["dependent_outputs"]
        assert entry["class_type"] == prompt[node_id]["class_type"]
    if found.error is None:
        ended = Executor(registry).run(
            found.prompt, "x", found.outputs, {}, lambda event, data: dumps(data), threading.Event()
        )
        assert ended.status in ("success", "error")

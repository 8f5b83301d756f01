"""Every route with anything at all: the answer is never an error of the host, and never missing."""

from __future__ import annotations

import json
import string
import urllib.parse

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from host.server.routes import ROUTES as HOST_ROUTES
from tests.server.support import graph

# Each route of the table, read from the table itself: a new route is fuzzed without anybody thinking of it.
ROUTES = sorted({(route.method, route.path) for route in HOST_ROUTES})

plain = st.text(string.ascii_letters + string.digits + "._- ", max_size=12)
nasty = st.one_of(
    plain,
    st.text(max_size=20).map(lambda text: text.encode("utf-8", "replace").decode()),
    st.sampled_from(
        ["..", "../x", "%2e%2e", "\0", "a/b", "workflows", "toy", "output", "1e9", "-1", "null", "[]", "x" * 300]
    ),
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), plain, st.sampled_from(["1", "3", "ToyShow"])),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(plain, inner, max_size=4)),
    max_leaves=12,
)
KEYS = [
    "prompt", "prompt_id", "client_id", "number", "front", "extra_data", "partial_execution_targets", "clear", "delete",
    "job_ids", "unload_models", "clientId", "enabled", "class_type", "inputs", "value", "1", "3",
]  # fmt: skip
objects = st.dictionaries(st.sampled_from(KEYS), values, max_size=5)
bodies = st.one_of(
    st.binary(max_size=60),
    objects.map(lambda value: json.dumps(value).encode()),
    values.map(lambda value: json.dumps(value).encode()),
    objects.map(lambda inputs: json.dumps({"prompt": {"1": {"class_type": "ToyShow", "inputs": inputs}}}).encode()),
)
QUERY = [
    "filename", "subfolder", "type", "preview", "channel", "dir", "path", "recurse", "full_info", "split", "overwrite",
    "status", "limit", "offset", "sort_by", "sort_order", "workflow_id", "max_items",
]  # fmt: skip
queries = st.dictionaries(st.sampled_from(QUERY), nasty, max_size=4)
types = st.sampled_from(
    ["application/json", "text/plain", "multipart/form-data; boundary=x", "multipart/form-data", "x", ""]
)


def fill(path: str, data: st.DataObject) -> str:
    """``path`` with something in place of each ``{part}``."""
    out, rest = "", path
    while "{" in rest:
        head, _, rest = rest.partition("{")
        _, _, rest = rest.partition("}")
        out += head + urllib.parse.quote(data.draw(nasty), safe=data.draw(st.sampled_from(["", "/%"])))
    return out + rest


@pytest.mark.parametrize("method, path", ROUTES, ids=lambda part: str(part))
def test_no_request_is_an_error_of_the_host(server, method, path):
    assert ROUTES

    @settings(
        max_examples=25,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
        database=None,
    )
    @given(data=st.data())
    def check(data):
        target = fill(path, data)
        query = urllib.parse.urlencode(data.draw(queries))
        body = b"" if method == "GET" else data.draw(bodies)
        headers = {"Content-Type": data.draw(types)} if body else {}
        prefix = data.draw(st.sampled_from(["", "/api"]))
        answer = server.raw(method, f"{prefix}{target}?{query}", body, headers)
        assert answer.status < 500, (method, target, query, body, answer.body)

    check()
    assert server.process.poll() is None


def test_the_host_still_works(server):
    server.post("/queue", {"clear": True})
    server.post("/interrupt")
    assert server.finished(server.submit(graph(0.9)))["status"]["completed"] is True
    outside = {path.name for path in server.data.iterdir()} - {"stderr.txt", "secret.txt"}
    assert outside == {"input", "output", "temp", "user"}
    assert "Traceback" not in server.errors.read_text().split("on purpose")[-1]

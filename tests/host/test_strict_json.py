"""JSON from a request: refused before it is parsed if it holds too many values."""

from __future__ import annotations

import json

import hypothesis.strategies as st
import pytest
from hypothesis import example, given, settings

from host import strict_json
from host.limits import MAX_JSON_VALUES
from host.strict_json import parse_untrusted

values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(st.text(), inner, max_size=5)),
)


@settings(max_examples=500)
@given(value=values, limit=st.integers(0, 20), ascii_only=st.booleans())
@example(value=[None, None, [], [None, None, []]], limit=8, ascii_only=False)
@example(value=[[""], ["a"], {"": ""}], limit=3, ascii_only=True)
def test_values_are_counted_without_parsing(value, limit, ascii_only):
    def count(item) -> int:
        children = item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
        return 1 + sum(map(count, children))

    text = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    if strict_json._may_exceed(text, limit):
        assert count(value) > limit
    elif isinstance(value, (dict, list)):
        # An opening and a separator can belong to one value, so up to half of the limit is lost.
        assert count(value) <= 2 * limit + 1 or not value


@pytest.mark.parametrize("item", [b"{}", b"[]", b"1", b'""', b'{"a":0}'])
def test_many_values_are_refused(item, monkeypatch):
    text = b"[" + b",".join([item] * (MAX_JSON_VALUES + 2)) + b"]"
    monkeypatch.setattr(strict_json.json, "loads", lambda *_, **__: pytest.fail("parsed"))
    with pytest.raises(ValueError, match=f"more than {MAX_JSON_VALUES} values"):
        parse_untrusted(text)


@pytest.mark.parametrize("letters", [",", "[", "{", '"', "\\", '\\",{', ' ,"'])
def test_a_long_text_is_one_value(letters):
    text = letters * (MAX_JSON_VALUES + 2)
    assert parse_untrusted(json.dumps({"note": text}).encode()) == {"note": text}


@pytest.mark.parametrize("text", [b"[" * 200 + b"]" * 200, b"[" * 100_000, b"9" * 5000, b"\xff", b"{", b""])
def test_whatever_cannot_be_read_is_a_value_error(text):
    with pytest.raises(ValueError):
        parse_untrusted(text)

"""JSON from requests: read as Python's own reader does, within limits, and in steps that let other threads run."""

from __future__ import annotations

import json
import threading
import time

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from host.limits import MAX_BODY_BYTES, MAX_JSON_DEPTH, MAX_JSON_VALUES
from host.strict_json import dumps, loads, parse_untrusted, reading

values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(st.text(), inner, max_size=5)),
)
# Texts that are nearly JSON: pieces of it in any order.
PIECES = [
    "{", "}", "[", "]", ",", ":", '"', "\\", '"a"', '"\\u00e9"', "\\ud83d", "\\ude00", "\\u12", "\\n", "\\x", "\n", " ",
    "\t", "\x00", "\x0b", "\xa0", "é", "😀", "1", "-", "0", "01", "1.", "1.5", ".5", "1e5", "1E+5", "e", "-0", "null",
    "true", "false", "NaN", "-Infinity", "Infinity", "nul", "True", "9" * 4301, "٣",
]  # fmt: skip
nearly_json = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)


@pytest.fixture(autouse=True, scope="module")
def _small_steps():
    """Long texts are read otherwise than short ones: here, every text is a long one, unless a test needs its size."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "_READ_AT_ONCE", -1)
        patch.setattr(reading, "_DECODED_AT_ONCE", 3)
        yield


def outcome(read, text):
    try:
        return repr(read(text))
    except ValueError:
        return "refused"


def python_reader(text: str | bytes):
    return json.loads(text, parse_constant=lambda name: None)


@settings(max_examples=200)
@given(value=values, ascii_only=st.booleans(), indent=st.sampled_from([None, 0, 3]))
def test_json_is_read_as_by_pythons_reader(value, ascii_only, indent):
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    assert outcome(loads, text) == outcome(python_reader, text)
    raw = text.encode("utf-8", "surrogatepass")
    assert outcome(parse_untrusted, raw) == outcome(python_reader, raw)


@settings(max_examples=600)
@given(text=nearly_json | nearly_json.map(lambda text: f'"{text}"') | nearly_json.map(lambda text: f"[{text}]"))
def test_nearly_json_is_refused_as_by_pythons_reader(text):
    assert outcome(parse_untrusted, text.encode()) == outcome(python_reader, text.encode())


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "utf-32-be"])
def test_the_encodings_of_json(encoding):
    assert parse_untrusted('{"a": ["é😀", 1]}'.encode(encoding)) == {"a": ["é😀", 1]}


@pytest.mark.parametrize("length", [1000, 1023, 1024, 1025, 16_383, 16_384, 16_385, 65_536, 200_000])
@pytest.mark.parametrize(
    "unit", ["x", "é", "\\n", "x\\n", "\\ud83d\\ude00", "\\ud83d", "\\ude00", '\\"', "\\\\", "😀\\u0041"]
)
def test_long_strings_are_read_in_pieces(unit, length):
    for start in ("", "x", "\\t"):
        text = f'["{start}{unit * length}", 1]'
        assert parse_untrusted(text.encode()) == json.loads(text)


@settings(max_examples=100)
@given(value=values)
def test_json_is_written_as_by_pythons_writer(value):
    assert dumps(value) == json.dumps(value)


@pytest.mark.parametrize("unit", ["x", "é", "😀", "\ud83d", '"', "\n"])
def test_long_strings_are_written_in_pieces(unit):
    for text in (unit * (1 << 20), "x" + unit * (1 << 20), unit * (3 << 20)):
        assert dumps([text]) == json.dumps([text])


@pytest.mark.parametrize("item", [b"{}", b"[]", b"1", b'""', b'{"a":0}'])
def test_many_values_are_refused(item):
    text = b"[" + b",".join([item] * MAX_JSON_VALUES) + b"]"
    with pytest.raises(ValueError, match=f"more than {MAX_JSON_VALUES} values"):
        parse_untrusted(text)


def test_as_many_values_as_allowed_are_read():
    assert len(parse_untrusted(b"[" + b",".join([b"1"] * (MAX_JSON_VALUES - 1)) + b"]")) == MAX_JSON_VALUES - 1


@pytest.mark.parametrize("at_once", [-1, 1 << 20], ids=["in steps", "at once"])
def test_depth_is_limited(monkeypatch, at_once):
    monkeypatch.setattr(reading, "_READ_AT_ONCE", at_once)
    assert parse_untrusted(b"[" * MAX_JSON_DEPTH + b"]" * MAX_JSON_DEPTH)
    for depth in (MAX_JSON_DEPTH + 1, 100_000):
        with pytest.raises(ValueError, match="JSON"):
            parse_untrusted(b'{"a":[' + b"[" * (depth - 2) + b"]" * (depth - 2) + b"]}")


@pytest.mark.parametrize("letters", [",", "[", "{", '"', "\\", '\\",{', ' ,"'])
def test_a_long_text_is_one_value(letters):
    text = letters * (MAX_JSON_VALUES + 2)
    assert parse_untrusted(json.dumps({"note": text}).encode()) == {"note": text}


@pytest.mark.parametrize("at_once", [-1, 1 << 20], ids=["in steps", "at once"])
@pytest.mark.parametrize("text", [b"[" * 200 + b"]" * 200, b"[" * 100_000, b"9" * 5000, b"\xff", b"{", b"", b"1 2"])
def test_whatever_cannot_be_read_is_a_value_error(monkeypatch, text, at_once):
    monkeypatch.setattr(reading, "_READ_AT_ONCE", at_once)
    with pytest.raises(ValueError):
        parse_untrusted(text)


# -- other threads


def longest_stop(work) -> float:
    """The longest time in seconds for which `work` lets no other thread run, in this process's processor time."""
    stops, ended = [0.0], threading.Event()

    def watch():
        while not ended.is_set():
            wall, used = time.perf_counter(), time.process_time()
            time.sleep(0.001)
            stops.append(min(time.perf_counter() - wall, time.process_time() - used))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:
        ended.set()
        watcher.join()
    return max(stops)


FULL = MAX_BODY_BYTES - 100
LARGE = {
    "long integers": b"[" + b",".join([b"9" * 4299] * (FULL // 8600)) + b"]",
    "escapes": b'"' + b"x\\n" * (FULL // 3) + b'"',
    "long floats": b"[" + b",".join([b"0." + b"123456789" * 11] * 290_000) + b"]",
    "keys": b"{" + b",".join(b'"%s":"%s"' % (b"%d" % i * 8, b"y" * 40) for i in range(290_000)) + b"}",
}
MAX_STOP = 0.12  # half of what the server promises for an answer, which may have to wait twice


@pytest.mark.parametrize("name", LARGE)
def test_reading_and_writing_let_other_threads_run(monkeypatch, name):
    monkeypatch.undo()
    monkeypatch.setattr(reading, "_READ_AT_ONCE", 128 << 10)
    monkeypatch.setattr(reading, "_DECODED_AT_ONCE", 1 << 20)
    found = []
    assert longest_stop(lambda: found.append(parse_untrusted(LARGE[name]))) < MAX_STOP
    assert longest_stop(lambda: dumps(found[0])) < MAX_STOP


def test_a_stop_is_noticed():
    assert longest_stop(lambda: python_reader(LARGE["long integers"])) > 2 * MAX_STOP

"""Comparing pictures, and what made them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from host.engines.contract import OutputFile
from host.engines.digests import content_digest
from host.engines.picture_metadata import replace_texts
from host.verify import differences
from host.verify.differences import Fact, IncomparableError, compare_pixels, differing_facts
from host.verify.saved_picture import UnverifiableError, read_picture
from host.verify.verdicts import judge

CHANNELS = {"L": (), "RGB": (3,), "RGBA": (4,), "LA": (2,), "I;16": ()}


def png(array: np.ndarray, mode: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).convert(mode).save(buffer, "PNG") if mode != "LA" else Image.fromarray(
        array, mode="LA"
    ).save(buffer, "PNG")
    return buffer.getvalue()


@settings(deadline=None)
@given(
    mode=st.sampled_from(["L", "RGB", "RGBA", "I;16"]),
    width=st.integers(1, 9),
    height=st.integers(1, 9),
    rows=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
)
def test_differences_are_counted(mode, width, height, rows, seed):
    random = np.random.default_rng(seed)
    dtype = np.uint16 if mode == "I;16" else np.uint8
    old = random.integers(0, 65535 if mode == "I;16" else 255, (height, width, *CHANNELS[mode]), dtype, endpoint=True)
    new = np.where(random.random(old.shape) < 0.2, random.integers(0, 255, old.shape, dtype), old)
    before = differences._ROWS
    differences._ROWS = rows
    try:
        found = compare_pixels(png(old, mode), png(new, mode))
    finally:
        differences._ROWS = before
    apart = np.abs(old.astype(int) - new.astype(int)).reshape(height, width, -1).max(-1)
    assert (found.pixels, found.largest) == (np.count_nonzero(apart), apart.max())
    assert (found.total, found.scale) == (width * height, 65535 if mode == "I;16" else 255)
    assert (found.pixels == 0) == (content_digest(png(old, mode)) == content_digest(png(new, mode)))


def test_other_shapes_are_named():
    grey = np.zeros((2, 3), np.uint8)
    with pytest.raises(IncomparableError, match="it is L 3x2, and the run gives RGB 3x2"):
        compare_pixels(png(grey, "L"), png(grey, "RGB"))
    with pytest.raises(IncomparableError, match="cannot be decoded"):
        compare_pixels(png(grey, "L"), b"text")
    frames = io.BytesIO()
    Image.new("RGB", (3, 2)).save(frames, "PNG", save_all=True, append_images=[Image.new("RGB", (3, 2), "red")])
    with pytest.raises(IncomparableError, match="it has 2 frames, and the run gives 1"):
        compare_pixels(frames.getvalue(), png(grey, "RGB"))


def test_only_differing_facts_are_given():
    old = {"a": {"b": 1, "c": 2}, "devices": ["x"], "packs": [{"v": 1}, {"v": 2}], "gone": 1}
    new = {"a": {"b": 1, "c": 3}, "devices": ["y"], "packs": [{"v": 1}, {"v": 3}], "new": None}
    assert differing_facts(old, new) == [
        Fact("a.c", 2, 3),
        Fact("devices", "x", "y"),
        Fact("packs.1.v", 2, 3),
        Fact("gone", 1, None),
    ]
    assert differing_facts(old, old) == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@settings(deadline=None)
@given(
    facts=JSON
    | st.fixed_dictionaries(
        {"environment": st.dictionaries(st.text(), JSON, max_size=4), "node": st.text() | JSON},
        optional={"position": st.integers() | JSON, "digest": st.text() | JSON},
    ),
    prompt=JSON,
)
def test_whatever_a_picture_says_is_handled(tmp_path_factory, facts, prompt):
    path = tmp_path_factory.mktemp("said") / "x.png"
    data = png(np.zeros((2, 3), np.uint8), "L")
    path.write_bytes(replace_texts(data, {"prompt": prompt, "made_with": facts}))
    try:
        picture = read_picture(path)
    except UnverifiableError:
        assert not isinstance(prompt, dict)
        return
    picture.group()
    file = OutputFile("1", 0, "x.png", "", "output", data, content_digest(data))
    verdict = judge(picture, [file], {"engine": "embedded"})
    assert verdict.status == "identical"
    assert all(line.isprintable() and line.isascii() or "'" in line or '"' in line for line in verdict.details)
    assert not any(ord(character) < 32 for line in verdict.details for character in line)
    assert sum(map(len, verdict.details)) < 20_000

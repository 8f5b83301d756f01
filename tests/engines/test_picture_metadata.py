"""Editing the text chunks of PNG files, good, odd and hostile ones; digests of pictures."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from host.engines.digests import content_digest
from host.engines.picture_metadata import is_png, made_with, read_texts, replace_texts
from host.pictures import PictureError

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(texts: dict[str, str] | None = None, size=(3, 2), mode="RGB", **options) -> bytes:
    info = PngImagePlugin.PngInfo()
    for name, text in (texts or {}).items():
        info.add_text(name, text, **options)
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize(size).convert(mode).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def split(data: bytes) -> list[tuple[bytes, bytes]]:
    """(kind, content) of each chunk, read in another way than the code under test does."""
    stream, found = io.BytesIO(data[8:]), []
    while head := stream.read(8):
        size, kind = struct.unpack(">I4s", head)
        found.append((kind, stream.read(size)))
        assert stream.read(4) == struct.pack(">I", zlib.crc32(kind + found[-1][1]))
    return found


def pixels(data: bytes) -> tuple:
    with Image.open(io.BytesIO(data)) as picture:
        return picture.size, picture.mode, picture.tobytes()


@pytest.mark.parametrize("options", [{}, {"zip": True}])
def test_a_text_is_replaced_wherever_it_stood(options):
    old = png({"prompt": "old", "workflow": "kept", "é": "latin"}, **options)
    new = replace_texts(old, {"prompt": {"a": "ü"}, "made_with": [1, float("nan")]})
    assert read_texts(new) == {
        "prompt": '{"a": "\\u00fc"}', "made_with": "[1, null]", "workflow": "kept", "é": "latin",
    }  # fmt: skip
    assert pixels(new) == pixels(old) and content_digest(new) == content_digest(old)
    assert replace_texts(new, {"prompt": {"a": "ü"}, "made_with": [1, None]}) == new


def test_international_texts_and_texts_after_the_pixels_are_replaced():
    old = png({"prompt": "日本"})  # Pillow writes iTXt for it
    end = chunk(b"IEND", b"")
    old = old.removesuffix(end) + chunk(b"tEXt", b"prompt\0later") + chunk(b"tEXt", b"other\0stays") + end
    new = replace_texts(old, {"prompt": 1})
    assert [content for kind, content in split(new) if kind in (b"tEXt", b"iTXt", b"zTXt")] == [
        b"prompt\x001", b"other\0stays",
    ]  # fmt: skip


TEXTS = st.dictionaries(
    st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=79), st.text(), max_size=4
)
CHUNKS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from([b"tEXt", b"zTXt", b"iTXt"]), st.binary(max_size=120)),
        st.tuples(st.sampled_from([b"tEXt"]), st.sampled_from([b"prompt\0x", b"prompt", b"made_with\0{}", b"\0", b""])),
        st.tuples(st.sampled_from([b"gAMA", b"tIME", b"ruSt", b"PLTE"]), st.binary(max_size=20)),
    ),
    max_size=8,
)


@settings(deadline=None)
@given(before=CHUNKS, after=CHUNKS, texts=TEXTS, tail=st.binary(max_size=20))
def test_every_other_chunk_stays(before, after, texts, tail):
    plain = split(png())
    head, body, end = plain[0], plain[1:-1], plain[-1]
    chunks = [head, *before, *body, *after, end]
    data = SIGNATURE + b"".join(chunk(*one) for one in chunks)
    new = split(replace_texts(data + tail, texts))

    def is_replaced(one):
        kind, content = one
        return kind in (b"tEXt", b"zTXt", b"iTXt") and content[:80].split(b"\0")[0].decode("latin-1") in texts

    added = [(b"tEXt", name.encode() + b"\0" + json.dumps(text).encode()) for name, text in texts.items()]
    first = [one for one in [head, *before] if not is_replaced(one)]
    assert new == [*first, *added, *body, *[one for one in after if not is_replaced(one)], end]


@settings(deadline=None)
@given(data=st.data())
def test_damaged_files_are_refused_or_handled(data):
    good = png({"prompt": "{}", "x": "y" * 50})
    bad = bytearray(good[: data.draw(st.integers(0, len(good)))])
    for _ in range(data.draw(st.integers(0, 3))):
        if bad:
            bad[data.draw(st.integers(0, len(bad) - 1))] = data.draw(st.integers(0, 255))
    content_digest(bytes(bad))
    is_png(bytes(bad))
    for call in (read_texts, lambda file: replace_texts(file, {"prompt": 1})):
        try:
            call(bytes(bad))
        except PictureError:
            pass


@settings(deadline=None)
@given(rest=st.binary(max_size=300))
def test_noise_after_a_signature_is_refused(rest):
    with pytest.raises(PictureError):
        replace_texts(SIGNATURE + rest, {"prompt": 1})


@pytest.mark.parametrize("name", ["", "x" * 80, "é", "a\nb"])
def test_a_name_that_png_does_not_know_is_refused(name):
    with pytest.raises(ValueError, match="keyword"):
        replace_texts(png(), {name: 1})


@pytest.mark.parametrize("text", ["", "[]", "5", "{", "{" * 10**5, '{"a": "' + "x" * (1 << 20) + '"}', "\ud800"])
def test_what_says_nothing_readable_is_nothing(text):
    assert made_with({"made_with": text}) is None and made_with({}) is None


def test_digests_tell_pictures_apart_by_what_they_show():
    assert content_digest(png({"a": "b"})) == content_digest(png())
    different = [png(), png(size=(2, 3)), png(mode="L"), png(mode="RGBA"), png(size=(6, 1)), b"", b"text"]
    assert len({content_digest(data) for data in different}) == len(different)
    assert content_digest(b"text") == hashlib.sha256(b"text").hexdigest()


def test_palettes_and_later_frames_count():
    def gif(*colours, mode="P"):
        buffer = io.BytesIO()
        frames = [Image.new("RGB", (4, 4), colour).convert(mode) for colour in colours]
        frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
        return buffer.getvalue()

    assert content_digest(gif("red")) != content_digest(gif("blue"))
    assert content_digest(gif("red", "blue")) != content_digest(gif("red", "green"))
    cut = gif("red", "blue", "green")[:-20]
    assert len(content_digest(cut)) == 64

"""Pictures that the server saves say what they were made with, once, and previews do not."""

from __future__ import annotations

from host.engines.digests import content_digest
from host.engines.picture_metadata import made_with, read_texts
from tests.server.support import graph


def saved(server, prompt) -> bytes:
    entry = server.finished(server.submit(prompt))
    (reference,) = entry["outputs"]["3"]["images"]
    return server.get(f"/view?filename={reference['filename']}&type={reference['type']}").body


def test_a_saved_picture_says_what_it_was_made_with(server):
    data = saved(server, graph(0.3, prefix="stamped"))
    facts = made_with(read_texts(data))
    assert (facts["node"], facts["position"], facts["digest"]) == ("3", 0, content_digest(data))
    assert facts["environment"]["engine"] == "embedded" and len(facts["environment"]["packs"]) == 1
    assert saved(server, graph(0.3, prefix="stamped")) == data  # the cached node shows the file of the first run


def test_a_preview_does_not(server):
    prompt = graph(0.4)
    prompt["3"] = {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}}
    assert "made_with" not in read_texts(saved(server, prompt))


def test_no_temporary_file_stays(server):
    saved(server, graph(0.6, prefix="clean/x"))
    assert [path.name for path in (server.data / "output/clean").iterdir()] == ["x_00001_.png"]

"""Pictures, uploads, settings, user files, templates and everything else the page asks for."""

from __future__ import annotations

import io
import json
import shutil
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.server.support import HostProcess, blueprint, editor_workflow, graph, make_pack


def png(color=(10, 20, 30, 255), size=(8, 6), text: dict | None = None) -> bytes:
    buffer, info = io.BytesIO(), PngInfo()
    for key, value in (text or {}).items():
        info.add_text(key, value)
    Image.new("RGBA", size, color).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def opened(answer) -> Image.Image:
    assert answer.status == 200, answer.body
    return Image.open(io.BytesIO(answer.body))


def test_a_result_can_be_viewed_in_every_form(server):
    entry = server.finished(server.submit(graph(0.2)))
    name = entry["outputs"]["3"]["images"][0]["filename"]
    picture = opened(server.get(f"/view?filename={name}"))
    assert picture.size == (32, 16) and json.loads(picture.text["prompt"])["1"]["class_type"] == "ToyPicture"
    assert (
        server.get(f"/view?filename={name}&type=output&subfolder=").body
        == server.get(f"/api/view?filename={name}").body
    )
    assert opened(server.get(f"/view?filename={name}&preview=webp;50")).format == "WEBP"
    assert opened(server.get(f"/view?filename={name}&preview=jpeg")).format == "JPEG"
    assert opened(server.get(f"/view?filename={name}&channel=rgb")).mode == "RGB"
    assert opened(server.get(f"/view?filename={name}&channel=a")).mode == "RGBA"
    part = server.get(f"/view?filename={name}", Range="bytes=0-7")
    assert part.status == 206 and part.body == b"\x89PNG\r\n\x1a\n"


def test_an_upload_can_be_viewed_and_is_not_overwritten(server):
    one, two = png((1, 2, 3, 255)), png((4, 5, 6, 255))
    assert server.upload("/upload/image", "up.png", one).json == {"name": "up.png", "subfolder": "", "type": "input"}
    assert server.upload("/api/upload/image", "up.png", one).json["name"] == "up.png"  # the same bytes
    assert server.upload("/upload/image", "up.png", two).json["name"] == "up (1).png"
    assert server.get("/view?filename=up.png&type=input").body == one
    assert server.get("/view?filename=up.png%20[input]").body == one
    assert server.upload("/upload/image", "up.png", two, overwrite="true").json["name"] == "up.png"
    assert server.get("/view?filename=up.png&type=input").body == two
    placed = server.upload("/upload/image", "up.png", one, subfolder="a/b", type="temp").json
    assert placed == {"name": "up.png", "subfolder": "a/b", "type": "temp"}
    assert server.get("/view?filename=up.png&type=temp&subfolder=a/b").body == one
    assert "up.png [input]" in server.get("/internal/files/input").json


def test_uploads_of_one_name_at_once_keep_every_picture(server):
    """Each sender gets a name under which its own picture lies."""
    pictures = [png((number, 0, 0, 255)) for number in range(20)]
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda content: server.upload("/upload/image", "same.png", content), pictures))
    assert len({answer.json["name"] for answer in answers}) == 20
    for answer, content in zip(answers, pictures, strict=True):
        assert server.get(f"/view?type=input&filename={urllib.parse.quote(answer.json['name'])}").body == content


def test_a_mask_becomes_the_alpha_of_its_picture(server):
    server.upload("/upload/image", "base.png", png((200, 100, 50, 255), text={"note": "kept"}))
    reference = json.dumps({"filename": "base.png", "subfolder": "", "type": "input"})
    answer = server.upload("/upload/mask", "masked.png", png((0, 0, 0, 77)), original_ref=reference)
    assert answer.json == {"name": "masked.png", "subfolder": "", "type": "input"}
    picture = opened(server.get("/view?filename=masked.png&type=input"))
    assert picture.getpixel((0, 0)) == (200, 100, 50, 77) and picture.text["note"] == "kept"


@pytest.mark.parametrize(
    "name, content, status",
    [
        ("x.png", b"not a picture", 400),
        ("x.png", b"", 400),
        ("x.png", png()[:45], 400),
        ("x.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 400),
        ("x.html", b"<script>alert(1)</script>", 415),
        ("x.svg", b"<svg/>", 415),
        ("x.py", b"import os", 415),
        ("noextension", png(), 415),
        ("x.json", b'{"a": 1}', 200),
        ("x.json", b"{", 400),
        ("x.safetensors", b"\x02\0\0\0\0\0\0\0{}", 200),
        ("x.safetensors", b"\xff" * 64, 400),
        ("x.ckpt", b"\x80\x04", 415),
    ],
)
def test_uploads_are_checked_by_content(server, name, content, status):
    assert server.upload("/upload/image", name, content).status == status


def test_a_small_file_that_unpacks_to_a_huge_picture_is_refused(server):
    buffer = io.BytesIO()
    Image.new("1", (12_000, 12_000)).save(buffer, "PNG")
    assert len(buffer.getvalue()) < 100_000
    assert server.upload("/upload/image", "bomb.png", buffer.getvalue()).status == 400


@pytest.mark.parametrize("size", [(20_000, 3), (3, 70_000)])
@pytest.mark.parametrize("kind", ["webp", "jpeg"])
def test_a_picture_too_long_for_the_format_of_its_preview(server, kind, size):
    server.upload("/upload/image", "long.png", png(size=size), overwrite="true")
    picture = opened(server.get(f"/view?filename=long.png&type=input&preview={kind}"))
    assert picture.format == kind.upper() and min(picture.size) >= 1


def test_uploads_are_limited_in_size(server):
    limit = server.get("/features").json["max_upload_size"]
    answer = server.raw("POST", "/upload/image", b"", {"Content-Type": "multipart/form-data; boundary=x"})
    assert answer.status == 400
    body = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n' + bytes(limit + 1)
    try:
        answer = server.raw("POST", "/upload/image", body, {"Content-Type": "multipart/form-data; boundary=x"})
        assert answer.status == 413
    except (BrokenPipeError, ConnectionResetError):
        pass  # the host stopped reading: as good an answer
    assert not list((server.data / "temp").glob("*.upload"))


def test_malformed_forms(server):
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    for body in (
        b"",
        b"--x",
        b"--x--\r\n",
        b"--x\r\n\r\n\r\n--x--",
        b"garbage",
        b"--x\r\nContent-Disposition: x\r\n\r\n",
    ):
        assert server.raw("POST", "/upload/image", body, form).status == 400, body
    assert server.post("/upload/image", b"{}").status == 400
    for ref in ("", "[]", "{", '{"filename": 5}', '{"filename": "no-such.png"}'):
        assert server.upload("/upload/mask", "m.png", png(), original_ref=ref).status in (400, 404)


def test_markup_from_user_folders_is_only_ever_downloaded(server):
    for name in ("x.html", "x.svg", "x.js", "x.css", "x.xml", "x.xhtml", "x.mhtml", "x.shtml", "x.unknown"):
        (server.data / "output" / name).write_text("<script>alert(1)</script>")
        server.post(f"/userdata/{name}", b"<script>alert(1)</script>")
        for answer in (server.get(f"/view?filename={name}"), server.get(f"/userdata/{name}")):
            assert answer.status == 200 and answer.headers["Content-Type"] == "application/octet-stream", name
            assert answer.headers["Content-Disposition"].startswith("attachment")
            assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_pictures_that_are_none_give_no_error_of_the_host(server):
    (server.data / "output/broken.png").write_bytes(png()[:45])
    assert server.get("/view?filename=broken.png&preview=webp").status == 400
    assert server.get("/view?filename=broken.png&channel=rgb").status == 400
    assert server.get("/view?filename=none.png").status == 404
    assert server.get("/view").status == 400
    assert server.get("/view?filename=x.png&type=etc").status == 400


def test_settings_are_kept(server):
    assert server.get("/settings").json["Comfy.TutorialCompleted"] is True
    assert server.post("/settings", {"a.b": {"c": [1, None]}}).status == 200
    assert server.post("/settings/x.y", b"true").status == 200
    assert server.get("/settings").json | {"a.b": {"c": [1, None]}, "x.y": True} == server.get("/settings").json
    assert server.get("/settings/a.b").json == {"c": [1, None]} and server.get("/settings/none").json is None
    for wrong in (b"[]", b"", b"{", b"5"):
        assert server.post("/settings", wrong).status == 400


def test_user_files(server):
    name = "workflows%2Fmy%20flow.json"
    answer = server.post(f"/api/userdata/{name}?overwrite=false&full_info=true", b'{"a":1}')
    assert set(answer.json) == {"path", "size", "modified", "created"} and answer.json["size"] == 7
    assert answer.json["path"] == "workflows/my flow.json"
    assert server.post(f"/userdata/{name}?overwrite=false", b"{}").status == 409
    assert server.post(f"/userdata/{name}", b'{"a":2}').json == "workflows/my flow.json"
    assert server.get(f"/userdata/{name}").json == {"a": 2}
    query = "/userdata?dir=workflows&recurse=true&split=false&full_info=true"
    assert [entry["path"] for entry in server.get(query).json] == ["my flow.json"]
    assert server.get("/userdata?dir=workflows&split=true").json == [["my flow.json", "my flow.json"]]
    assert server.get("/userdata?dir=none").json == []
    assert {"workflows", "my flow.json"} <= {entry["name"] for entry in server.get("/v2/userdata").json}
    moved = server.post(f"/userdata/{name}/move/workflows%2Fsub%2Fother.json?overwrite=false")
    assert moved.json == "workflows/sub/other.json" and server.get(f"/userdata/{name}").status == 404
    assert server.request("DELETE", "/userdata/workflows%2Fsub%2Fother.json").status == 204
    assert server.request("DELETE", "/userdata/workflows%2Fsub%2Fother.json").status == 404
    assert server.get("/userdata").status == 400
    assert server.post("/userdata/workflows", b"x").status == 400  # a folder
    assert server.post(f"/userdata/workflows%2F{'x' * 300}", b"x").status == 400


@pytest.mark.parametrize("name", ["a {x}.json", "100% + # ? & [y].json", "\U0001f600 é.json", "%41.json", "a;b=c.json"])
def test_user_files_of_any_name(server, name):
    path = f"/userdata/{urllib.parse.quote('workflows/' + name, safe='')}"
    assert server.post(path, b"{}").json == f"workflows/{name}"
    assert server.get(path).json == {}
    assert name in server.get("/userdata?dir=workflows").json
    assert server.request("DELETE", path).status == 204


def test_templates(server):
    assert server.get("/api/workflow_templates").json == {"toy": ["toy"]}
    assert server.get("/api/workflow_templates/toy/toy.json").json == editor_workflow()
    assert opened(server.get("/api/workflow_templates/toy/toy.jpg")).format == "JPEG"
    assert server.get("/api/workflow_templates/toy/none.json").status == 404
    assert server.get("/api/workflow_templates/other/toy.json").status == 404


def test_only_examples_that_can_run_are_offered(tmp_path):
    (tmp_path / "packs").mkdir()
    pack = make_pack(tmp_path / "packs")
    unknown = editor_workflow()
    unknown["nodes"][0]["type"] = "CheckpointLoaderSimple"
    (pack / "example_workflows/With a checkpoint.json").write_text(json.dumps(unknown))
    (pack / "example_workflows/broken.json").write_text("{")
    host = HostProcess(tmp_path / "data", [pack])
    try:
        assert host.get("/workflow_templates").json == {"toy": ["toy"]}
        assert host.get("/workflow_templates/toy/With%20a%20checkpoint.json").json == unknown
    finally:
        host.stop()


def test_blueprints(server):
    (key,) = server.get("/api/global_subgraphs").json
    entry = {"source": "custom_node", "name": "Toy stage", "info": {"node_pack": "custom_nodes.toy"}}
    assert server.get("/api/global_subgraphs").json == {key: entry}
    found = server.get(f"/api/global_subgraphs/{key}").json
    assert json.loads(found.pop("data")) == blueprint() and found == entry
    assert server.get(f"/api/global_subgraphs/{'0' * 64}").status == 404


def test_a_blueprint_that_is_a_link_out_of_its_folder_is_not_served(tmp_path):
    (tmp_path / "packs").mkdir()
    pack = make_pack(tmp_path / "packs")
    (tmp_path / "secret.json").write_text("{}")
    (pack / "subgraphs/secret.json").symlink_to(tmp_path / "secret.json")
    host = HostProcess(tmp_path / "data", [pack])
    try:
        assert [entry["name"] for entry in host.get("/global_subgraphs").json.values()] == ["Toy stage"]
    finally:
        host.stop()


def test_what_the_page_asks_at_its_start(server):
    assert server.get("/users").json == {"storage": "server", "migrated": True}
    assert {"/extensions/toy/toy.js", "/extensions/host/opening_workflow.js"} <= set(server.get("/extensions").json)
    for path in server.get("/extensions").json:
        assert "javascript" in server.get(path).headers["Content-Type"]
    assert server.get("/extensions/toy/docs/ToyPicture.md").body.startswith(b"# Toy Picture")
    assert server.get("/i18n").json == {"fr": {"nodeDefs": {"ToyPicture": {"display_name": "Image jouet"}}}}
    for path in ("/embeddings", "/models", "/experiment/models", "/templates/index.json"):
        assert server.get(path).json == []
    for path in ("/node_replacements", "/templates/index_logo.json"):
        assert server.get(path).json == {}
    for path in ("/user.css", "/userdata/user.css"):
        assert server.get(path).headers["Content-Type"].startswith("text/css")
    assert b"<!doctype html>" in server.get("/").body[:20].lower()
    assert server.get("/scripts/app.js").status == 200
    assert server.get("/no/such/file").status == 404


def test_nodes(server):
    everything = server.get("/object_info").json
    assert {"ToyPicture", "SaveImage", "LoadImage", "PreviewImage"} <= set(everything)
    assert server.get("/object_info/ToyPicture").json == {"ToyPicture": everything["ToyPicture"]}
    assert server.get("/object_info/NoSuchNode").json == {}
    assert everything["ToyPicture"]["python_module"] == "custom_nodes.toy"


def test_the_machine(server):
    stats = server.get("/system_stats").json
    assert stats["system"]["ram_total"] > 0 and stats["system"]["comfyui_version"]
    device = stats["devices"][0]
    assert set(device) == {
        "name", "type", "index", "vram_total", "vram_free", "torch_vram_total", "torch_vram_free"
    }  # fmt: skip


def test_routes_of_a_pack(server):
    assert server.get("/toy/echo?a=1").json == server.get("/api/toy/echo?a=1").json == {"a": "1"}


def test_the_log(server):
    socket = server.socket("log-reader", {})
    assert (
        server.request("PATCH", "/internal/logs/subscribe", {"clientId": "log-reader", "enabled": True}).status == 200
    )
    server.finished(server.submit(graph(0.77)))
    kind, data = socket.until(lambda event: event[0] == "logs")[-1]
    assert set(data) == {"entries", "size"} and set(data["entries"][0]) == {"t", "m"}
    socket.close()
    assert server.get("/internal/logs/raw").json["entries"] and "prompt" in server.get("/internal/logs").json
    assert server.request("PATCH", "/internal/logs/subscribe", {"clientId": 5}).status == 400


def test_a_pack_may_lie_in_a_folder_of_any_name(toy_pack, tmp_path):
    name = "my pack {x} %41é"
    shutil.copytree(toy_pack, tmp_path / name)
    host = HostProcess(tmp_path / "data", [tmp_path / name])
    try:
        (script,) = [path for path in host.get("/extensions").json if path.endswith("toy.js")]
        assert host.get(script).body == (toy_pack / "web/toy.js").read_bytes()
        assert host.get(f"/api/workflow_templates/{urllib.parse.quote(name)}/toy.json").json == editor_workflow()
        assert host.get("/workflow_templates").json == {name: ["toy"]}
    finally:
        host.stop()


def test_settings_that_cannot_be_read_are_kept(server):
    path = server.data / "user/default/comfy.settings.json"
    path.write_text('{"Comfy.Mine": 1,')
    assert server.post("/settings/a", b"2").status == 200
    assert path.with_name("comfy.settings.json.bak").read_text() == '{"Comfy.Mine": 1,'
    assert server.get("/settings/a").json == 2

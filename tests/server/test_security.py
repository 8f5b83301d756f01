"""What strangers may not do: reach other folders, or send requests from other sites."""

from __future__ import annotations

import json
import urllib.parse
from pathlib import Path

import pytest
import websocket

from tests.server.support import HostProcess

SECRET = b"the secret of another folder"


@pytest.fixture(scope="module")
def secrets(server: HostProcess) -> list[Path]:
    """Files with a secret: beside the data folders, and behind links inside them."""
    outside = server.data.parent / "outside"
    outside.mkdir(exist_ok=True)
    for path in (server.data / "secret.txt", server.data / "user/secret.txt", outside / "secret.txt"):
        path.write_bytes(SECRET)
    for folder in ("input", "output", "temp", "user/default"):
        (server.data / folder / "link").symlink_to(outside)
        (server.data / folder / "link.txt").symlink_to(outside / "secret.txt")
    return [outside]


TRAVERSALS = [
    "../secret.txt",
    "../../outside/secret.txt",
    "a/../../secret.txt",
    "./../secret.txt",
    "..//secret.txt",
    "/etc/passwd",
    "//etc/passwd",
    "..\\secret.txt",
    "..\\..\\secret.txt",
    "C:\\secret.txt",
    "C:secret.txt",
    "%2e%2e/secret.txt",
    "%2e%2e%2fsecret.txt",
    "..%2fsecret.txt",
    "..%252fsecret.txt",
    "%252e%252e%252fsecret.txt",
    "..%c0%afsecret.txt",
    "..%5csecret.txt",
    "link/secret.txt",
    "link.txt",
    "link/../secret.txt",
    "\0",
    "../secret.txt\0.png",
    "secret.txt%00.png",
    "....//secret.txt",
    "..;/secret.txt",
    "\u2025/secret.txt",
    "\uff0e\uff0e/secret.txt",
    "~/secret.txt",
    "file:///etc/passwd",
    "x" * 5000,
    "a/" * 1000 + "x",
]


def addresses(name: str) -> list[tuple[str, str]]:
    """Every request that takes a path, with ``name`` in its place, encoded once and as it is."""
    found = []
    for part in (urllib.parse.quote(name, safe=""), urllib.parse.quote(name, safe="/%")):
        found += [
            ("GET", f"/view?filename={part}&type=output"),
            ("GET", f"/view?filename={part}%20[input]"),
            ("GET", f"/view?filename=secret.txt&subfolder={part}&type=input"),
            ("GET", f"/view?filename=x&type={part}"),
            ("GET", f"/userdata/{part}"),
            ("GET", f"/userdata?dir={part}"),
            ("GET", f"/v2/userdata?path={part}"),
            ("DELETE", f"/userdata/{part}"),
            ("POST", f"/userdata/{part}"),
            ("POST", f"/userdata/x.json/move/{part}"),
            ("GET", f"/workflow_templates/toy/{part}"),
            ("GET", f"/workflow_templates/{part}/toy.json"),
            ("GET", f"/global_subgraphs/{part}"),
            ("GET", f"/extensions/toy/{part}"),
            ("GET", f"/extensions/host/{part}"),
            ("GET", f"/assets/{part}"),
            ("GET", f"/{part}"),
            ("GET", f"/models/{part}"),
            ("GET", f"/experiment/models/{part}"),
            ("GET", f"/internal/files/{part}"),
            ("GET", f"/settings/{part}"),
        ]
    return found


def files_below(*folders: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", TRAVERSALS, ids=lambda name: repr(name[:30]))
def test_no_request_leaves_its_folder(server, secrets, name):
    protected = [*secrets, server.data / "output", server.data / "input"]
    before = files_below(*protected)
    server.post("/userdata/x.json", b"{}")
    for method, target in addresses(name):
        answer = server.raw(
            method, "/api" + target if not target.startswith(("/ext", "/ass")) else target, b"overwritten"
        )
        assert answer.status < 500, (method, target[:200], answer.body)
        assert SECRET not in answer.body and b"root:" not in answer.body, (method, target[:200])
    for upload_name, subfolder in ((name, ""), ("x.json", name)):
        if "\0" not in name:
            answer = server.upload("/upload/image", upload_name.replace('"', ""), b"{}", subfolder=subfolder)
            assert answer.status < 500, answer.body
    reference = json.dumps({"filename": name, "subfolder": "", "type": "output"})
    assert 400 <= server.upload("/upload/mask", "m.png", b"x", original_ref=reference).status < 500
    after = files_below(*secrets)
    assert after == {path: content for path, content in before.items() if path in after}
    assert (server.data / "secret.txt").read_bytes() == SECRET
    assert (server.data / "user/secret.txt").read_bytes() == SECRET
    assert not (server.data / "x.json").exists()


def test_links_are_not_listed(server, secrets):
    listed = server.get("/userdata?dir=.&recurse=true").json
    assert not [name for name in listed if "link" in name]


HOSTS = [
    ("127.0.0.1:{port}", 200),
    ("localhost:{port}", 200),
    ("comfy.localhost:{port}", 200),
    ("[::1]:{port}", 200),
    ("192.168.1.5:{port}", 200),
    ("evil.example:{port}", 403),
    ("evil.example", 403),
    ("localhost.evil.example:{port}", 403),
    ("127.0.0.1.evil.example:{port}", 403),
    ("127.0.0.1:{port}@evil.example", 403),
    ("evil.example:abc", 403),
    ("[", 403),
]


@pytest.mark.parametrize("host, status", HOSTS)
def test_a_name_that_was_re_pointed_to_this_machine_is_refused(server, host, status):
    port = urllib.parse.urlsplit(server.address).port
    host = host.format(port=port)
    for path in ("/", "/queue", "/api/prompt", "/scripts/app.js"):
        assert server.raw("GET", path, headers={"Host": host}).status == status
    origin = {"Host": host, "Origin": f"http://{host}"}  # after re-pointing, both name the attacker's site
    assert server.raw("POST", "/interrupt", headers=origin).status == status


ORIGINS = [
    ({}, 200),
    ({"Origin": "http://{netloc}"}, 200),
    ({"Origin": "http://{netloc}", "Sec-Fetch-Site": "same-origin"}, 200),
    ({"Origin": "http://evil.example"}, 403),
    ({"Origin": "https://{netloc}.evil.example"}, 403),
    ({"Origin": "http://127.0.0.1:1"}, 403),
    ({"Origin": "http://localhost:{port}"}, 403),
    ({"Origin": "null"}, 403),
    ({"Origin": ""}, 403),
    ({"Origin": "http://["}, 403),
    ({"Origin": "file://"}, 403),
    ({"Sec-Fetch-Site": "cross-site"}, 403),
    ({"Sec-Fetch-Site": "same-origin"}, 200),
    ({"Sec-Fetch-Site": "none"}, 200),
]


@pytest.mark.parametrize("headers, status", ORIGINS)
def test_another_site_cannot_send_requests(server, headers, status):
    netloc = urllib.parse.urlsplit(server.address).netloc
    headers = {name: value.format(netloc=netloc, port=netloc.split(":")[1]) for name, value in headers.items()}
    plain = {**headers, "Content-Type": "text/plain"}  # what a page can send without asking first
    assert server.raw("POST", "/interrupt", headers=plain).status == status
    assert server.raw("POST", "/api/queue", b'{"delete": []}', plain).status == status
    assert server.raw("GET", "/object_info", headers=headers).status == status


def test_a_link_from_another_site_opens_the_page_and_nothing_else(server):
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert server.raw("GET", "/", headers=link).status == 200
    assert server.raw("GET", "/history", headers=link).status == 403
    assert server.raw("GET", "/", headers={**link, "Sec-Fetch-Dest": "iframe"}).status == 403


def test_another_site_cannot_open_a_socket(server):
    address = server.address.replace("http", "ws") + "/ws"
    with pytest.raises(websocket.WebSocketBadStatusException, match="403"):
        websocket.create_connection(address, origin="http://evil.example", timeout=10)
    websocket.create_connection(address, origin=server.address, timeout=10).close()
    websocket.create_connection(address, suppress_origin=True, timeout=10).close()


def test_no_answer_allows_other_sites_to_read_it(server):
    answer = server.raw(
        "OPTIONS", "/prompt", headers={"Origin": server.address, "Access-Control-Request-Method": "POST"}
    )
    assert answer.status == 405
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]
    assert server.get("/").headers["X-Frame-Options"] == "SAMEORIGIN"

"""What the server's tests share: a toy pack, a host in a process of its own, and a client for it."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import websocket
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
ENDS = ("execution_success", "execution_error", "execution_interrupted")
CHANGED_LIMITS = (
    "import runpy; from host import limits; vars(limits).update({}); runpy.run_module('host', {{}}, '__main__')"
)
FLAGS = {"supports_preview_metadata": True}


def make_pack(folder: Path) -> Path:
    """A pack named ``toy`` with a script, a help page, a translation and an example."""
    pack = folder / "toy"
    for part in ("web/docs", "example_workflows", "subgraphs", "locales/fr"):
        (pack / part).mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("toy_pack.py"), pack / "__init__.py")
    (pack / "web/toy.js").write_text("export const toy = 1;\n")
    (pack / "web/docs/ToyPicture.md").write_text("# Toy Picture\n\nOne colour.\n")
    (pack / "locales/fr/nodeDefs.json").write_text(json.dumps({"ToyPicture": {"display_name": "Image jouet"}}))
    (pack / "example_workflows/toy.json").write_text(json.dumps(editor_workflow()))
    (pack / "subgraphs/Toy stage.json").write_text(json.dumps(blueprint()))
    Image.new("RGB", (64, 64), (200, 120, 40)).save(pack / "example_workflows/toy.jpg")
    return pack


def graph(level: float = 0.5, *, steps: int = 3, seconds: float = 0.0, mark: str = "", prefix: str = "toy") -> dict:
    """A prompt: a picture, some steps, a saved file."""
    return {
        "1": {"class_type": "ToyPicture", "inputs": {"width": 32, "height": 16, "level": level}},
        "2": {
            "class_type": "ToySteps",
            "inputs": {"image": ["1", 0], "steps": steps, "seconds": seconds, "mark": mark},
        },
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": prefix}},
    }


def failing_graph() -> dict:
    """A prompt whose second node raises."""
    return {
        "1": {"class_type": "ToyPicture", "inputs": {"width": 32, "height": 16, "level": 0.5}},
        "2": {"class_type": "ToyFail", "inputs": {"image": ["1", 0], "message": "on purpose"}},
        "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
    }


def blueprint() -> dict:
    """A subgraph without a node inside, as the editor publishes one."""
    key = str(uuid.UUID(int=2))
    node = {
        "id": 1, "type": key, "pos": [0, 0], "size": [200, 60], "flags": {}, "order": 0, "mode": 0, "inputs": [],
        "outputs": [], "title": "Toy stage", "properties": {"proxyWidgets": []}, "widgets_values": [],
    }  # fmt: skip
    inside = {
        "id": key, "version": 1, "state": {"lastGroupId": 0, "lastNodeId": 1, "lastLinkId": 0, "lastRerouteId": 0},
        "revision": 0, "config": {}, "name": "Toy stage", "inputNode": {"id": -10, "bounding": [0, 0, 120, 60]},
        "outputNode": {"id": -20, "bounding": [400, 0, 120, 60]}, "inputs": [], "outputs": [], "widgets": [],
        "nodes": [], "groups": [], "links": [], "extra": {},
    }  # fmt: skip
    return {
        "revision": 0, "last_node_id": 1, "last_link_id": 0, "nodes": [node], "links": [], "version": 0.4,
        "definitions": {"subgraphs": [inside]}, "extra": {},
    }  # fmt: skip


def editor_workflow(steps: int = 3, seconds: float = 0.0) -> dict:
    """The same graph as ``graph()`` as the editor saves it."""

    def node(node_id, kind, at, inputs, outputs, values):
        return {
            "id": node_id, "type": kind, "pos": at, "size": [260, 160], "flags": {}, "order": node_id, "mode": 0,
            "inputs": inputs, "outputs": outputs, "properties": {"Node name for S&R": kind}, "widgets_values": values,
        }  # fmt: skip

    image_out = {"name": "IMAGE", "type": "IMAGE"}
    return {
        "id": str(uuid.UUID(int=1)),
        "last_node_id": 3,
        "last_link_id": 2,
        "nodes": [
            node(1, "ToyPicture", [40, 120], [], [{**image_out, "links": [1]}], [32, 16, 0.5]),
            node(
                2,
                "ToySteps",
                [360, 120],
                [{"name": "image", "type": "IMAGE", "link": 1}],
                [{**image_out, "links": [2]}],
                [steps, seconds, ""],
            ),
            node(3, "SaveImage", [680, 120], [{"name": "images", "type": "IMAGE", "link": 2}], [], ["toy"]),
        ],
        "links": [[1, 1, 0, 2, 0, "IMAGE"], [2, 2, 0, 3, 0, "IMAGE"]],
        "groups": [],
        "config": {},
        "extra": {},
        "version": 0.4,
    }


@dataclass(frozen=True)
class Answer:
    """An HTTP response."""

    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Client:
    """A client of a server at ``address``, as a program without any library would write it: no content type."""

    address: str

    def request(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data=data, method=method, headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=200) as response:
                return Answer(response.status, response.headers, response.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.headers, error.read())

    def raw(self, method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Answer:
        """Sends ``target`` as it is: urllib would tidy up dots and encodings."""
        parts = urllib.parse.urlsplit(self.address)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=200)
        try:
            connection.putrequest(method, target, skip_host="Host" in (headers or {}))
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.request("GET", path, headers=headers)

    def post(self, path: str, body: Any = b"", **headers: str) -> Answer:
        return self.request("POST", path, body, headers)

    def upload(self, path: str, name: str, content: bytes, **fields: str) -> Answer:
        """A multipart form with the file ``image``."""
        mark = uuid.uuid4().hex
        parts = [
            f'--{mark}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
            for key, value in fields.items()
        ]
        head = f'--{mark}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n\r\n'
        body = b"".join([*parts, head.encode(), content, f"\r\n--{mark}--\r\n".encode()])
        return self.request("POST", path, body, {"Content-Type": f"multipart/form-data; boundary={mark}"})

    def socket(self, sid: str | None = None, flags: dict | None = None) -> Socket:
        sid = sid or uuid.uuid4().hex
        connection = websocket.create_connection(
            f"{self.address.replace('http', 'ws', 1)}/ws?clientId={sid}", timeout=200
        )
        socket = Socket(connection, sid)
        if flags is not None:
            connection.send(json.dumps({"type": "feature_flags", "data": flags}))
            socket.until(lambda event: event[0] == "feature_flags")
        return socket

    def submit(self, prompt: dict, sid: str | None = None, **more: Any) -> str:
        """Posts a prompt that must be accepted; its id."""
        body = {"prompt": prompt, **({"client_id": sid} if sid else {}), **more}
        answer = self.post("/prompt", body)
        assert answer.status == 200, answer.body
        return answer.json["prompt_id"]

    def finished(self, prompt_id: str, timeout: float = 200) -> dict:
        """The history entry of a prompt, waiting for it."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            entry = self.get(f"/history/{prompt_id}").json.get(prompt_id)
            if entry is not None:
                return entry
            time.sleep(0.05)
        raise AssertionError(f"prompt {prompt_id} has not finished after {timeout} seconds")

    def wait(self, condition, timeout: float = 200) -> Any:
        """What ``condition()`` gives once it is true."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if found := condition():
                return found
            time.sleep(0.05)
        raise AssertionError("the condition did not become true")


@dataclass
class Socket:
    """A raw web socket. Events are (type, data); binary frames are ("preview", {type, format or metadata, image})."""

    connection: websocket.WebSocket
    sid: str
    events: list = field(default_factory=list)

    def next(self) -> tuple[str, Any]:
        opcode, payload = self.connection.recv_data()
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            raise EOFError(payload)
        event = _read_binary(payload) if opcode == websocket.ABNF.OPCODE_BINARY else _read_text(payload)
        self.events.append(event)
        return event

    def until(self, condition) -> list:
        """Events up to and with the first that fulfils ``condition``."""
        start = len(self.events)
        while not condition(self.next()):
            pass
        return self.events[start:]

    def run_of(self, prompt_id: str) -> list:
        """Events up to the last one of a run: ``executing`` with node null."""
        return self.until(
            lambda event: event[0] == "executing" and event[1]["node"] is None and event[1]["prompt_id"] == prompt_id
        )

    def close(self) -> None:
        self.connection.close()


def _read_text(payload: bytes) -> tuple[str, Any]:
    message = json.loads(payload, parse_constant=lambda name: (_ for _ in ()).throw(ValueError(name)))
    return message["type"], message["data"]


def _read_binary(payload: bytes) -> tuple[str, Any]:
    kind, word = struct.unpack(">II", payload[:8])
    if kind == 1:
        return "preview", {"type": 1, "format": word, "image": payload[8:]}
    assert kind == 4, kind
    return "preview", {"type": 4, "metadata": json.loads(payload[8 : 8 + word]), "image": payload[8 + word :]}


class HostProcess(Client):
    """``python -m host serve`` on a free port.

    Args:
        data: its data directory.
        packs: the packs it serves.
        port: 0 for a free one.
        log: where ToySteps notes its marks.
        files: how many files it may open before it asks for more; 0 leaves that as it is.
        limits: other values for constants of `host.limits`.
        options: further options of the command.
        environment: instead of this process's.
    """

    def __init__(
        self,
        data: Path,
        packs: list[Path],
        port: int = 0,
        log: Path | None = None,
        files: int = 0,
        limits: dict[str, float] | None = None,
        options: Sequence[str] = (),
        environment: dict[str, str] | None = None,
    ) -> None:
        data.mkdir(parents=True, exist_ok=True)
        program = ["-c", CHANGED_LIMITS.format(limits)] if limits else ["-m", "host"]
        arguments = [sys.executable, *program, "serve", "--port", str(port), "--data-directory", str(data), *options]
        for pack in packs:
            arguments += ["--pack", str(pack)]
        if files:
            arguments = ["sh", "-c", f'ulimit -Sn {files}; exec "$@"', "sh", *arguments]
        environment = {**(environment or os.environ), "OMP_NUM_THREADS": "1", **({"TOY_LOG": str(log)} if log else {})}
        self.data = data
        self.errors = data / "stderr.txt"
        with self.errors.open("a") as errors:
            self.process = subprocess.Popen(
                arguments, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
            )
        super().__init__(self._read_address())

    def _read_address(self) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if "http://" in line:
                return line.split()[-1]
        raise AssertionError(f"the host ended before it was ready: {self.errors.read_text()[-2000:]}")

    def rss(self) -> int:
        """Resident bytes of the process."""
        return self._memory("VmRSS")

    def peak(self) -> int:
        """The most bytes that were resident at once."""
        return self._memory("VmHWM")

    def _memory(self, name: str) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith(name))

    def kill(self) -> None:
        self.process.kill()
        self._reap()

    def stop(self) -> int:
        """Ends the host as Ctrl-C does; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self._reap()

    def _reap(self) -> int:
        code = self.process.wait(timeout=100)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code

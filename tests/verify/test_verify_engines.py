"""Verifying on a server that already runs: this project's own, in a process of its own."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from PIL import Image

from host.cli import main
from host.engines.contract import Job
from host.engines.http import HttpEngine
from host.engines.picture_metadata import replace_texts
from host.engines.spec import EngineSpec
from tests.server.support import HostProcess, graph, make_pack


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    host = HostProcess(tmp_path_factory.mktemp("data"), [make_pack(tmp_path_factory.mktemp("packs"))])
    yield host
    host.stop()


@pytest.fixture
def verify(capsys):
    """Run the command; gives (exit code, stdout, stderr)."""

    def call(*arguments):
        code = main(["verify", *map(str, arguments)])
        told = capsys.readouterr()
        return code, told.out, told.err

    return call


def test_a_picture_of_the_server_comes_out_again_there(server, verify):
    entry = server.finished(server.submit(graph(0.3, prefix="again")))
    path = server.data / "output" / entry["outputs"]["3"]["images"][0]["filename"]
    code, out, err = verify("--engine", server.address, path)
    assert code == 0, err
    first, *facts = out.splitlines()
    assert first == f"{path}: identical"
    # Asked over HTTP, a server says what ComfyUI says: less than it knows of itself.
    assert "  engine: made with embedded, now comfyui" in facts


def test_a_picture_of_an_engine_comes_out_again_with_the_same_facts(server, verify, tmp_path):
    buffer = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").resize((12, 8)).save(buffer, "PNG")
    (tmp_path / "inputs").mkdir()
    (tmp_path / "inputs" / "sent.png").write_bytes(buffer.getvalue())
    prompt = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "sent.png"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "sent"}},
    }
    engine = HttpEngine(EngineSpec("http", server.address), tmp_path, "server")
    engine.put_inputs({"sent.png": buffer.getvalue()})
    result = engine.run(Job("job", prompt), lambda event, data: None)
    engine.close()
    path = tmp_path / "made.png"
    path.write_bytes(result.files[0].data)
    code, out, err = verify("--engine", server.address, "--input-directory", tmp_path / "inputs", path)
    assert (code, out) == (0, f"{path}: identical\n"), err
    # The server keeps what it was sent, so it is not needed here any more.
    code, out, err = verify("--engine", server.address, "--input-directory", tmp_path, path)
    assert (code, out) == (0, f"{path}: identical\n"), err


def test_nothing_that_answers_is_an_error(verify, tmp_path):
    path = tmp_path / "x.png"
    Image.new("RGB", (4, 4)).save(path)
    path.write_bytes(replace_texts(path.read_bytes(), {"prompt": graph(0.3)}))
    code, out, err = verify("--engine", "http://127.0.0.1:9", path)
    assert (code, out) == (2, "") and "error: nothing answers at http://127.0.0.1:9" in err

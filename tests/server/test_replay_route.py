"""The sheet of a step replay is served while it is still being made, and nothing else is."""

from __future__ import annotations

import asyncio
import errno
import io
import time
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.server.support import ROOT, HostProcess


@pytest.fixture(scope="module")
def host(toy_pack: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    host = HostProcess(tmp_path_factory.mktemp("replay"), [toy_pack, ROOT])
    yield host
    host.stop()


def prompt(steps: int) -> dict:
    """Two digits, sampled in that many steps by the node ``sample``."""
    guided = {"model": ["model", 0], "positive": ["positive", 0], "negative": ["positive", 0]}
    return {
        "model": {"class_type": "DDIMDemoModel", "inputs": {}},
        "positive": {"class_type": "DDIMDemoPrompt", "inputs": {"digits": "42"}},
        "latent": {"class_type": "DDIMDemoLatent", "inputs": {"batch_size": 2}},
        "sample": {"class_type": "DDIMSample", "inputs": {**guided, "latent_image": ["latent", 0], "steps": steps}},
        "decode": {"class_type": "DDIMDemoDecode", "inputs": {"latent": ["sample", 0]}},
        "save": {"class_type": "PreviewImage", "inputs": {"images": ["decode", 0]}},
    }


def test_a_sheet_can_be_fetched_as_soon_as_a_run_has_told_its_name(host: HostProcess) -> None:
    socket = host.socket("watching")
    prompt_id = host.submit(prompt(3), "watching")
    events = socket.run_of(prompt_id)
    socket.close()
    (sheet,) = next(
        data["output"]["ddim_replay"] for kind, data in events if kind == "executed" and data["node"] == "sample"
    )
    answer = host.get(f"/ddim/replay/{sheet['sheet']}")
    with Image.open(io.BytesIO(answer.body)) as picture:
        assert picture.size == (sheet["columns"] * sheet["width"], sheet["rows"] * sheet["height"]) == (3 * 64, 32)
    assert host.get(f"/api/ddim/replay/{sheet['sheet']}").body == answer.body


def test_a_run_that_was_cancelled_leaves_its_steps_under_the_id_of_the_node(host: HostProcess) -> None:
    assert host.get("/ddim/replay/of/sample").status == 404
    socket = host.socket("watching")
    prompt_id = host.submit(prompt(1000), "watching")
    socket.until(lambda event: event[0] == "progress" and event[1]["value"] >= 30)
    host.post("/interrupt", {"prompt_id": prompt_id})
    assert "execution_interrupted" in [kind for kind, _ in socket.run_of(prompt_id)]
    socket.close()
    answer = host.get("/ddim/replay/of/sample")
    sheet = answer.json
    assert answer.status == 200 and sheet["partial"] is True
    assert (sheet["prompt_id"], sheet["node"], sheet["steps"]) == (prompt_id, "sample", 1000)
    done = [frame["step"] for frame in sheet["frames"]]
    assert done[0] == 1 and 30 <= done[-1] + 1000 // 47 and done[-1] < 1000
    with Image.open(io.BytesIO(host.get(f"/ddim/replay/{sheet['sheet']}").body)) as picture:
        assert picture.size == (sheet["columns"] * sheet["width"], sheet["rows"] * sheet["height"])
    for other in ("decode", "..%2f..%2fsample", "%00", "x" * 3000):
        assert host.get(f"/ddim/replay/of/{other}").status == 404


@pytest.mark.parametrize(
    "name",
    [
        "x.png",
        "ddim_replay_0123456789abcdef0123.svg",
        "..%2f..%2finput%2fddim_replay_0123456789abcdef0123.png",
        "ddim_replay_0123456789abcdef0123.png%00.png",
        "ddim_replay_0123456789ABCDEF0123.png",
        "%0addim_replay_0123456789abcdef0123.png",
        "ddim_replay_0123456789abcdef0123.png%0a",
    ],
)
def test_other_names_are_refused_at_once(host: HostProcess, name: str) -> None:
    (host.data / "input" / "ddim_replay_0123456789abcdef0123.png").write_bytes(b"not to be seen")
    began = time.monotonic()
    answer = host.get(f"/ddim/replay/{name}")
    assert answer.status == 404 and b"not to be seen" not in answer.body
    assert time.monotonic() - began < 5


def test_a_file_is_waited_for_but_not_for_ever(pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pack.NODE_CLASS_MAPPINGS
    from pack.nodes.editor import http

    late = tmp_path / "late.png"

    async def appears() -> bytes | None:
        waiting = asyncio.ensure_future(http._when_there(late))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        late.write_bytes(b"there")
        return await waiting

    assert _in_a_new_loop(appears()) == b"there"
    monkeypatch.setattr(http, "LONGEST_WAIT", 0.1)
    assert _in_a_new_loop(http._when_there(tmp_path / "never.png")) is None


def test_a_folder_that_cannot_be_read_has_no_files(pack, tmp_path: Path) -> None:
    assert pack.NODE_CLASS_MAPPINGS
    from pack.nodes.editor import http

    (tmp_path / "temp").write_text("a file where the folder should be")
    assert http._content(tmp_path / "temp" / "sheet.png") is None


def test_a_disk_that_is_full_keeps_no_part_of_a_sheet(
    pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert pack.NODE_CLASS_MAPPINGS
    from pack.nodes.editor import replay_sheet

    def runs_full(path: Path, data: bytes) -> None:
        with path.open("wb") as file:
            file.write(data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", runs_full)
    frames = torch.zeros((2, 8, 8, 3), dtype=torch.uint8)
    replay_sheet.write_later(tmp_path / replay_sheet.new_name(8), lambda: frames).result()
    assert "No space left" in caplog.text
    assert list(tmp_path.iterdir()) == []


def _in_a_new_loop(work: Coroutine[Any, Any, Any]) -> Any:
    """Run in a thread: the browser tests leave a loop in this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()

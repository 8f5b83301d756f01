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


def test_a_sheet_can_be_fetched_as_soon_as_a_run_has_told_its_name(host: HostProcess) -> None:
    prompt = {
        "model": {"class_type": "DDIMDemoModel", "inputs": {}},
        "positive": {"class_type": "DDIMDemoPrompt", "inputs": {"digits": "42"}},
        "latent": {"class_type": "DDIMDemoLatent", "inputs": {"batch_size": 2}},
        "schedule": {"class_type": "DDIMSchedule", "inputs": defaults(host, "DDIMSchedule") | {"steps": 3}},
        "sample": {
            "class_type": "DDIMSample",
            "inputs": defaults(host, "DDIMSample")
            | {
                "model": ["model", 0],
                "positive": ["positive", 0],
                "negative": ["positive", 0],
                "latent_image": ["latent", 0],
                "schedule": ["schedule", 0],
            },
        },
        "decode": {
            "class_type": "DDIMDemoDecode",
            "inputs": defaults(host, "DDIMDemoDecode") | {"latent": ["sample", 0]},
        },
        "save": {"class_type": "PreviewImage", "inputs": {"images": ["decode", 0]}},
    }
    prompt["schedule"]["inputs"]["prediction_type"] = "v_prediction"
    socket = host.socket("watching")
    prompt_id = host.submit(prompt, "watching")
    events = socket.run_of(prompt_id)
    socket.close()
    (sheet,) = next(
        data["output"]["ddim_replay"] for kind, data in events if kind == "executed" and data["node"] == "sample"
    )
    answer = host.get(f"/ddim/replay/{sheet['sheet']}")
    with Image.open(io.BytesIO(answer.body)) as picture:
        assert picture.size == (sheet["columns"] * sheet["width"], sheet["rows"] * sheet["height"]) == (3 * 64, 32)
    assert host.get(f"/api/ddim/replay/{sheet['sheet']}").body == answer.body


def defaults(host: HostProcess, node: str) -> dict:
    declared = host.get(f"/object_info/{node}").json[node]["input"]["optional"]
    return {name: spec[1]["default"] for name, spec in declared.items() if "default" in spec[1]}


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

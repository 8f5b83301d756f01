"""Memory of the largest requests that the host allows: its own peak, above what it had after its start."""

from __future__ import annotations

import io
import json
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from bench.timing import print_table
from host.limits import MAX_ANIMATION_PIXELS, MAX_BODY_BYTES, MAX_PICTURE_PIXELS
from tests.server.support import HostProcess, graph

__all__ = ["memory_table"]

_WIDTH = 8192
_FULL = MAX_BODY_BYTES - 10_000
_VIEW = "/view?type=input&filename="


def memory_table(host: HostProcess) -> None:
    """Print the peak of each request, and of eight at once."""
    start = host.rss()
    for name, content in _pictures().items():
        (host.data / "input" / name).write_bytes(content)
    rows = []
    for name, count, send in _requests(host):
        peak, seconds = _peak(host, [send] * count)
        rows.append((name, count, f"{(peak - start) / 2**30:.2f}", f"{seconds:.1f}"))
        host.post("/free", {"free_memory": True})
    print_table("Memory of the largest requests", ("request", "at once", "GiB above start", "seconds"), rows)


def _pictures() -> dict[str, bytes]:
    """Return the largest pictures: with transparency, of noise, and an animation of two frames."""
    height = MAX_PICTURE_PIXELS // _WIDTH
    side = int((MAX_ANIMATION_PIXELS // 2) ** 0.5)
    noise = np.random.default_rng(0).integers(0, 256, (64, _WIDTH, 3), np.uint8)
    rows = np.tile(noise, (height // 64 + 1, 1, 1))[:height]
    frames = [Image.new("RGBA", (side, side), (9, 8, level, 77)) for level in (7, 8)]
    return {
        "x.png": _encoded(Image.new("RGBA", (_WIDTH, height), (9, 8, 7, 77)), "PNG"),
        "x.webp": _encoded(Image.new("RGBA", (_WIDTH, height), (9, 8, 7, 77)), "WEBP"),
        "x.jpg": _encoded(Image.fromarray(rows), "JPEG"),
        "x.gif": _encoded(frames[0], "GIF", frames[1:]),
    }


def _encoded(picture: Image.Image, image_format: str, more: list[Image.Image] | None = None) -> bytes:
    buffer = io.BytesIO()
    if more:
        picture.save(buffer, image_format, save_all=True, append_images=more)
    else:
        picture.save(buffer, image_format, quality=40, method=0)
    return buffer.getvalue()


def _requests(host: HostProcess) -> list[tuple[str, int, Callable[[], object]]]:
    png = (host.data / "input/x.png").read_bytes()
    many, objects = "[" + ",".join(["{}"] * (_FULL // 3)) + "]", "[" + ",".join(['{"a":{}}'] * 149_000) + "]"
    waiting = json.dumps(graph(steps=20_000, seconds=0.05))
    large = f'{{"prompt": {waiting}, "extra_data": {{"note": "{"x" * (28 << 20)}"}}}}'.encode()
    return [
        ("upload a picture of 45 megapixels", 1, lambda: host.upload("/upload/image", "x.png", png)),
        ("the same", 8, lambda: host.upload("/upload/image", "x.png", png)),
        ("view it as WebP", 1, lambda: host.get(f"{_VIEW}x.webp&preview=webp")),
        ("view noise as WebP", 1, lambda: host.get(f"{_VIEW}x.jpg&preview=webp")),
        ("view its alpha channel", 1, lambda: host.get(f"{_VIEW}x.png&channel=a")),
        ("the same", 8, lambda: host.get(f"{_VIEW}x.png&channel=a")),
        ("load and preview it", 1, lambda: _load(host, "x.png")),
        ("load and preview an animation", 1, lambda: _load(host, "x.gif")),
        ("upload JSON of 32 MiB, `[{},{},...]`", 1, lambda: host.upload("/upload/image", "x.json", many.encode())),
        ("post the same as a prompt", 1, lambda: host.post("/prompt", f'{{"prompt": {many}}}'.encode())),
        ("post 300,000 values", 8, lambda: host.post("/prompt", f'{{"prompt": {objects}}}'.encode())),
        ("post 28 MiB of extra_data", 8, lambda: host.post("/prompt", large)),
        ("read the queue with these", 1, lambda: _read(host, "/queue")),
        ("the same", 8, lambda: _read(host, "/queue")),
    ]


def _read(host: HostProcess, path: str) -> None:
    """Read an answer without keeping it: its size is the client's matter."""
    with urllib.request.urlopen(host.address + path, timeout=600) as response:
        while response.read(1 << 20):
            pass


def _load(host: HostProcess, name: str) -> None:
    nodes = {
        "1": {"class_type": "LoadImage", "inputs": {"image": name}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    host.finished(host.submit(nodes))


def _peak(host: HostProcess, requests: list[Callable[[], object]]) -> tuple[int, float]:
    """Return the most bytes that were resident during the requests, and their seconds."""
    Path(f"/proc/{host.process.pid}/clear_refs").write_text("5")  # its peak is what it has now
    began = time.perf_counter()
    with ThreadPoolExecutor(len(requests)) as pool:
        for done in [pool.submit(request) for request in requests]:
            done.result()
    return host.peak(), time.perf_counter() - began

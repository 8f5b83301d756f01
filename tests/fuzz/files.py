"""Files and JSON that somebody else made: noise, weights, pictures, scheduler configurations, the pack's requests."""

from __future__ import annotations

import io
import json
import struct
import sys
import tempfile
import time
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import torch
from aiohttp import web
from hypothesis import strategies as st
from PIL import Image

import ddim
from ddim import DDIMError, import_config
from demo import Architecture, DemoWeightsError, DigitsUNet, load_demo_model, load_emoji_model
from demo.emoji.network import EmojiArchitecture, EmojiUNet
from demo.emoji.weights import save_emoji_weights
from demo.weights_file import SCHEDULER_CONFIG, save_weights
from host.pictures import UPLOAD_FORMATS, PictureError
from host.server.routes.view import open_image
from host.stock_nodes import LoadImage
from host.strict_json import dumps
from tests.fuzz.values import changed, mutated, texts, values, written
from tests.fuzz.workbench import Target, Workbench

MAX_SECONDS = 25.0  # for one input


def _read_back(write: Any) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.safetensors"
        write(path)
        return path.read_bytes()


# -- safetensors: noise files and the demo model's weights


@cache
def noise_file(method: str) -> bytes:
    scheduler = ddim.DDIMScheduler(clip_sample=False)
    scheduler.set_timesteps(3)
    x0 = torch.linspace(-1, 1, 2 * 3 * 16).reshape(2, 3, 4, 4)
    found = ddim.invert(lambda x, t: 0.1 * x, x0, scheduler, method=method, seed=1)
    return _read_back(lambda path: ddim.save_noise(found, path))


@cache
def weight_file() -> bytes:
    sizes = Architecture(fine_channels=8, coarse_channels=8, condition_channels=8)
    metadata = {"class_names": json.dumps(list("0123456789")), "data_sha256": "0" * 64, "training_command": "none"}
    return _read_back(lambda path: save_weights(path, DigitsUNet(sizes).state_dict(), sizes, metadata))


@cache
def emoji_weight_file() -> bytes:
    parts = ("fine", "coarse", "condition", "word", "text", "unfolded")
    network = EmojiUNet(EmojiArchitecture(5, **{f"{part}_channels": 8 for part in parts}))
    metadata = {"words": '["any", "cat", "face"]', "names": '["cat face"]', "data_sha256": "0", "training_command": ""}
    return _read_back(lambda path: save_emoji_weights(path, network.state_dict(), network, metadata))


def _split(data: bytes) -> tuple[dict[str, Any], bytes]:
    size = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def _joined(header: Any, tensors: bytes) -> bytes:
    text = written(header)
    return struct.pack("<Q", len(text)) + text + tensors


def safetensors(original: bytes, nested: tuple[str, ...]) -> st.SearchStrategy[bytes]:
    """A file whose bytes, header, or JSON inside of the header is changed.

    Args:
        original: A good file.
        nested: The keys of its metadata whose values are JSON.
    """
    header, tensors = _split(original)
    metadata = header["__metadata__"]

    def inside(key: str) -> st.SearchStrategy[bytes]:
        inner = changed(json.loads(metadata[key])).map(json.dumps) | texts.filter(lambda text: text.isprintable())
        return inner.map(lambda text: _joined({**header, "__metadata__": {**metadata, key: text}}, tensors))

    return st.one_of(
        mutated(original),
        changed(header).map(lambda given: _joined(given, tensors)),
        st.sampled_from(nested).flatmap(inside),
        st.sampled_from(nested).flatmap(inside),
    )


def _load_noise(bench: Workbench, data: bytes) -> str:
    path = bench.folders.input / "noise.safetensors"
    path.write_bytes(data)
    found = ddim.load_noise(path)
    assert torch.isfinite(found.latent).all() and len(found.eta) == len(found.schedule.plan)
    return "loaded"


def _load_weights(bench: Workbench, data: bytes) -> str:
    path = bench.folders.input / "weights.safetensors"
    path.write_bytes(data)
    model = load_demo_model(path)
    assert all(torch.isfinite(tensor).all() for tensor in model.network.state_dict().values())
    return "loaded"


def _load_emoji_weights(bench: Workbench, data: bytes) -> str:
    path = bench.folders.input / "emoji.safetensors"
    path.write_bytes(data)
    model = load_emoji_model(path)
    assert torch.isfinite(model.encode([""])).all()
    return "loaded"


# -- pictures


def _encoded(name: str, mode: str, frames: int = 1) -> bytes:
    images = [Image.new(mode, (9 + 4 * (frames > 1), 7)) for _ in range(frames)]
    file = io.BytesIO()
    images[0].save(file, name, **({"save_all": True, "append_images": images[1:]} if frames > 1 else {}))
    return file.getvalue()


PICTURES = [
    _encoded("PNG", "RGBA"), _encoded("PNG", "P"), _encoded("PNG", "I;16"), _encoded("JPEG", "RGB"),
    _encoded("JPEG", "CMYK"), _encoded("WEBP", "RGBA"), _encoded("GIF", "P"), _encoded("GIF", "RGB", 3),
    _encoded("BMP", "RGB"), _encoded("TIFF", "RGB"), _encoded("TIFF", "F"), _encoded("TIFF", "1", 2),
    _encoded("PNG", "RGB", 3), _encoded("ICO", "RGBA"), b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
    _encoded("EPS", "RGB"), _encoded("PDF", "RGB"), _encoded("TGA", "RGB"), _encoded("PPM", "RGB"),
]  # fmt: skip


def _upload(bench: Workbench, data: bytes) -> str:
    path = bench.folders.input / "upload.png"
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with open_image(path, UPLOAD_FORMATS) as image:
            assert image.format in UPLOAD_FORMATS
            return image.format


def _load_image(bench: Workbench, data: bytes) -> str:
    path = bench.folders.input / "picture.png"
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        picture, mask = LoadImage().load_image("picture.png")
    assert picture.ndim == 4 and mask.ndim == 3 and len(picture) == len(mask) >= 1
    assert 0 <= picture.min() and picture.max() <= 1 and 0 <= mask.min() and mask.max() <= 1
    return "loaded"


# What Pillow raises for a damaged file while it is decoded; the node that loads it fails with that message.
DECODING = (PictureError, OSError, ValueError, SyntaxError, EOFError, TypeError, LookupError, struct.error)


# -- scheduler configurations, and what the editor asks the pack


CONFIGS = [
    SCHEDULER_CONFIG,
    {**SCHEDULER_CONFIG, "_class_name": "DDIMScheduler", "_diffusers_version": "0.42.1", "trained_betas": None},
    {"_class_name": "EulerDiscreteScheduler", "interpolation_type": "linear", "use_karras_sigmas": False},
    {"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "dpmsolver++", "solver_order": 2},
    {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0},
    {"trained_betas": [0.1, 0.2, 0.3], "num_train_timesteps": 3, "snr_shift_scale": 3.0},
]
configs = st.sampled_from(CONFIGS).flatmap(changed)
objects = configs | st.dictionaries(st.sampled_from(sorted(ddim.DDIMScheduler().config)) | texts, values, max_size=4)
settings = st.dictionaries(st.sampled_from(sorted(ddim.DDIMScheduler().config)) | texts, values, max_size=3)


def _import(bench: Workbench, given: tuple[Any, dict[str, Any] | None]) -> str:
    if not isinstance(given[0], dict):
        return "no object"
    report = import_config(*given)
    json.loads(json.dumps(report.as_dict(), allow_nan=False))
    return "imported"


REQUESTS = [
    {"node": "DDIMSchedule", "inputs": {"steps": 20, "timestep_spacing": "trailing", "beta_start": 0.00085}},
    {"node": "DDIMScheduleFromConfig", "inputs": {"config": json.dumps(SCHEDULER_CONFIG), "steps": 4}},
    {"text": json.dumps(SCHEDULER_CONFIG)},
    *({"text": json.dumps(config)} for config in CONFIGS),
]
asked = st.one_of(
    st.sampled_from(REQUESTS).flatmap(changed),
    objects.map(lambda config: {"text": json.dumps(config)}),
    st.fixed_dictionaries({"node": st.just("DDIMSchedule"), "inputs": objects}),
)
bodies = st.tuples(
    st.sampled_from(["schedule", "config"]), asked.map(written) | values.map(written) | st.binary(max_size=9)
)


def _ask(bench: Workbench, given: tuple[str, bytes]) -> str:
    """What `/ddim/schedule` and `/ddim/config` answer."""
    nodes = bench.pack.NODE_CLASS_MAPPINGS
    routes, http = sys.modules["pack.nodes.editor.routes"], sys.modules["pack.nodes.editor.http"]
    started = time.monotonic()
    answer = getattr(routes, f"{given[0]}_answer")(http.parse(given[1]), nodes)
    assert time.monotonic() - started < MAX_SECONDS
    text = dumps(answer)
    if "error" in answer:
        assert len(text) < 5000
        return "a schedule that cannot exist"
    return "answered"


TARGETS = [
    *(
        Target(
            f"noise-files-{method}",
            st.deferred(lambda method=method: safetensors(noise_file(method), ("inversion",))),
            _load_noise, (DDIMError,), examples=60,
        )
        for method in ("ddim", "variance_noise")
    ),
    Target(
        "demo-weights",
        st.deferred(lambda: safetensors(weight_file(), ("scheduler_config", "class_names", "architecture"))),
        _load_weights, (DemoWeightsError,), examples=60,
    ),
    Target(
        "emoji-weights",
        st.deferred(lambda: safetensors(emoji_weight_file(), ("scheduler_config", "words", "names", "architecture"))),
        _load_emoji_weights, (DemoWeightsError,), examples=60,
    ),
    Target("pictures-uploaded", mutated(*PICTURES), _upload, (web.HTTPBadRequest,), examples=200),
    Target("pictures-loaded", mutated(*PICTURES), _load_image, DECODING, examples=200),
    Target("configs", st.tuples(objects, st.none() | settings), _import, (DDIMError,), examples=150),
    Target("pack-routes", bodies, _ask, (DDIMError,), examples=100),
]  # fmt: skip

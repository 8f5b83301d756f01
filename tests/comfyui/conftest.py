"""A real ComfyUI: as a server with the pack in it, and as a worker that calls its functions. COMFYUI_PATH names it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

HERE = Path(__file__).parent
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"), "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture(scope="session")
def comfyui_path() -> Path:
    path = os.environ.get("COMFYUI_PATH")
    if not path:
        pytest.skip("COMFYUI_PATH names no ComfyUI checkout")
    return Path(path).resolve()


@pytest.fixture(scope="session")
def comfyui_python(comfyui_path: Path) -> str:
    own = comfyui_path / ".venv/bin/python"
    return os.environ.get("COMFYUI_PYTHON") or (str(own) if own.exists() else "python3")


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory, repo_root: Path) -> Path:
    """ComfyUI's base directory, with a copy of the pack in custom_nodes."""
    base = tmp_path_factory.mktemp("comfyui")
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=repo_root, capture_output=True, text=True, check=True
    )
    pack = base / "custom_nodes" / "ddim-nodes"
    weights = [f"demo/weights/{model}.safetensors" for model in ("digits", "emoji")]  # also those that were just made
    for name in {*listed.stdout.splitlines(), *weights}:
        if (repo_root / name).is_file():
            (pack / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(repo_root / name, pack / name)
    (base / "models/checkpoints").mkdir(parents=True)
    for name in ("input", "output"):
        (base / name).mkdir()
    return base


class Worker:
    """ComfyUI's functions, called in its own interpreter; see worker.py.

    Attributes:
        loaded: what load_pack told, once the pack is there.
    """

    loaded: dict[str, Any]

    def __init__(self, python: str, path: Path) -> None:
        self.process = subprocess.Popen(
            [python, str(HERE / "worker.py"), str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=ENVIRONMENT,
            cwd=path,
        )

    def __call__(self, do: str, **given: Any) -> Any:
        """Refs of what the operation returned, its one tensor, or its plain answer."""
        tensors: dict[str, Tensor] = {}
        header = json.dumps({"do": do, "with": _encoded(given, tensors)}).encode()
        for part in (header, save(tensors) if tensors else b""):
            self.process.stdin.write(struct.pack(">Q", len(part)) + part)
        self.process.stdin.flush()
        answer, blob = json.loads(self._read()), self._read()
        if "error" in answer:
            raise RuntimeError(answer["error"] + "\n" + answer["traceback"])
        if blob:
            return load(blob)["tensor"]
        return [Ref(ref) for ref in answer["refs"]] if "refs" in answer else answer

    def node(self, name: str, module: str | None = None, **inputs: Any) -> Any:
        """Call a node; a single output alone, several as a list."""
        refs = self("call", node=name, module=module, inputs=inputs)
        return refs[0] if len(refs) == 1 else refs

    def samples(self, latent: Ref) -> Tensor:
        """The tensor in a LATENT."""
        return self("attribute", value=latent, path=["samples"])

    def _read(self) -> bytes:
        length = self.process.stdout.read(8)
        if len(length) < 8:
            raise RuntimeError(f"ComfyUI's interpreter ended with {self.process.wait()}")
        return self.process.stdout.read(struct.unpack(">Q", length)[0])


class Ref(int):
    """A value that the worker keeps."""


def _encoded(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        tensors[str(len(tensors))] = value.clone().contiguous()  # safetensors refuses shared memory
        return {"$tensor": str(len(tensors) - 1)}
    if isinstance(value, Ref):
        return {"$ref": int(value)}
    if isinstance(value, dict):
        return {key: _encoded(item, tensors) for key, item in value.items()}
    return [_encoded(item, tensors) for item in value] if isinstance(value, (list, tuple)) else value


@pytest.fixture(scope="session")
def bare_worker(comfyui_path: Path, comfyui_python: str) -> Iterator[Worker]:
    """Without the pack, until a test loads it."""
    worker = Worker(comfyui_python, comfyui_path)
    yield worker
    worker.process.communicate(timeout=60)


@pytest.fixture(scope="session")
def network(bare_worker: Worker, tmp_path_factory: pytest.TempPathFactory) -> Ref:
    """A randomly initialised checkpoint of SD1.5's shapes, through ComfyUI's own loader."""
    path = tmp_path_factory.mktemp("checkpoint") / "random.safetensors"
    bare_worker("write_checkpoint", path=str(path), seed=0, full=False)
    return bare_worker("load_model", path=str(path))[0]


@pytest.fixture(scope="session")
def contexts() -> tuple[Tensor, Tensor]:
    """A prompt and a negative prompt, as SD1.5's text encoder would give them."""
    generator = torch.Generator().manual_seed(4)
    return torch.randn(1, 77, 768, generator=generator), torch.randn(1, 77, 768, generator=generator)


@pytest.fixture(scope="session")
def conditions(contexts: tuple[Tensor, Tensor]) -> dict[str, Any]:
    return {"positive": [[contexts[0], {}]], "negative": [[contexts[1], {}]]}


@pytest.fixture(scope="session")
def stock_results(bare_worker: Worker, network: Ref, conditions: dict[str, Any]) -> dict[str, Tensor]:
    """What stock samplers give before the pack is there."""
    return {name: _stock_run(bare_worker, network, conditions, name) for name in ("euler", "ddim", "dpmpp_2m_sde")}


@pytest.fixture(scope="session")
def stock_run() -> Any:
    """The function that made stock_results."""
    return _stock_run


def _stock_run(worker: Worker, network: Ref, conditions: dict[str, Any], sampler: str) -> Tensor:
    """The stock KSampler."""
    given = {"seed": 5, "steps": 4, "cfg": 5.0, "scheduler": "normal", "denoise": 1.0, "sampler_name": sampler}
    latent = {"samples": torch.zeros(1, 4, 8, 8)}
    return worker.samples(worker.node("KSampler", "nodes", model=network, **conditions, latent_image=latent, **given))


@pytest.fixture(scope="session")
def worker(bare_worker: Worker, base: Path, stock_results: dict[str, Tensor]) -> Worker:
    """With the pack in it."""
    bare_worker.loaded = bare_worker("load_pack", path=str(base / "custom_nodes/ddim-nodes"))
    return bare_worker


class Server:
    """A running ComfyUI and the few requests that the tests make."""

    def __init__(self, url: str, base: Path, process: subprocess.Popen) -> None:
        self.url, self.base, self.process = url, base, process

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return json.load(answer)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            with error:
                text = error.read()
        return json.loads(text) if text else None

    def queue(self, prompt: dict[str, Any]) -> str:
        answer = self.post("/prompt", {"prompt": prompt, "client_id": uuid.uuid4().hex})
        assert "prompt_id" in answer, answer
        return answer["prompt_id"]

    def wait(self, prompt_id: str, seconds: float = 600) -> dict[str, Any]:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            history = self.get(f"/history/{prompt_id}")
            if prompt_id in history:
                return history[prompt_id]
            time.sleep(0.1)
        raise TimeoutError(f"prompt {prompt_id} did not finish")

    def run(self, prompt: dict[str, Any]) -> dict[str, Any]:
        """The history entry of a run that must succeed."""
        entry = self.wait(self.queue(prompt))
        assert entry["status"]["status_str"] == "success", [m for m in entry["status"]["messages"] if "error" in m[0]]
        return entry

    def files(self, entry: dict[str, Any], key: str = "images") -> list[Path]:
        """The output files of a run, in the order of its nodes' ids."""
        return [
            self.base / image["type"] / image["subfolder"] / image["filename"]
            for _, output in sorted(entry["outputs"].items())
            for image in output.get(key, [])
        ]


@pytest.fixture(scope="session")
def server(start_server: Callable[[Path], AbstractContextManager[Server]], base: Path) -> Iterator[Server]:
    with start_server(base) as server:
        yield server


@pytest.fixture(scope="session")
def start_server(comfyui_path: Path, comfyui_python: str) -> Callable[[Path], AbstractContextManager[Server]]:
    """Starts a ComfyUI with a base directory: its packs are in ``custom_nodes`` there."""
    return lambda base: _running(comfyui_path, comfyui_python, base)


@contextmanager
def _running(comfyui_path: Path, comfyui_python: str, base: Path) -> Iterator[Server]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = open(base / "server.log", "wb")
    arguments = ["--cpu", "--port", str(port), "--base-directory", str(base), "--disable-auto-launch"]
    process = subprocess.Popen(
        [comfyui_python, "main.py", *arguments, "--database-url", "sqlite:///:memory:"],
        cwd=comfyui_path,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=ENVIRONMENT,
    )
    server = Server(f"http://127.0.0.1:{port}", base, process)
    try:
        _wait_until_up(server)
        yield server
    finally:
        process.terminate()
        process.wait(timeout=60)
        log.close()


def _wait_until_up(server: Server) -> None:
    end = time.monotonic() + 180
    while time.monotonic() < end:
        if server.process.poll() is not None:
            break
        try:
            server.get("/system_stats")
            return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError("ComfyUI did not start:\n" + (server.base / "server.log").read_text(errors="replace")[-3000:])


SCHEDULE = {
    "steps": 8,
    "timestep_spacing": "trailing",
    "denoise": 1.0,
    "prediction_type": "from model",
    "rescale_betas_zero_snr": False,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": True,
    "steps_offset": 0,
    "start_step": 0,
    "end_step": 10000,
    "timesteps": "",
    "parity": "exact",
}
STEPPING = {
    "x0_processing": "none",
    "clip_sample_range": 1.0,
    "dynamic_thresholding_ratio": 0.995,
    "sample_max_value": 1.0,
    "use_clipped_model_output": False,
    "noise_mode": "per image",
}
SAMPLE = {"seed": 3, "cfg": 7.5, "guidance_rescale": 0.0, "eta": 0.0, "add_noise": True, **STEPPING}


class Calls:
    """The pack's nodes with defaults for what a test does not care about, and the stock nodes to compare with."""

    custom_sampling = "comfy_extras.nodes_custom_sampler"

    def __init__(self, worker: Worker) -> None:
        self.worker = worker

    def schedule_defaults(self) -> dict[str, Any]:
        """Every required input of DDIMSchedule."""
        return dict(SCHEDULE)

    def sample_defaults(self) -> dict[str, Any]:
        """Every required input of DDIMSample that is not a link."""
        return dict(SAMPLE)

    def schedule(self, **given: Any) -> tuple[Ref, Ref]:
        """DDIM_SCHEDULE and SIGMAS."""
        return tuple(self.worker.node("DDIMSchedule", **{**SCHEDULE, **given}))

    def sample(self, **given: Any) -> Tensor:
        """The samples that DDIMSample gives."""
        return self.worker.samples(self.worker.node("DDIMSample", **{**SAMPLE, **given})[0])

    def sampler(self, eta: float = 0.0, **given: Any) -> Ref:
        """DDIMSampler's SAMPLER."""
        return self.worker.node("DDIMSampler", eta=eta, **{**STEPPING, **given})

    def euler(self) -> Ref:
        """The stock Euler SAMPLER."""
        return self.worker.node("KSamplerSelect", self.custom_sampling, sampler_name="euler")

    def custom(self, model: Ref, conditions: dict[str, Any], sampler: Ref, sigmas: Ref, **given: Any) -> Tensor:
        """The samples that the stock SamplerCustom gives."""
        latent = {"samples": torch.zeros(2, 4, 8, 8)}
        settings = {"add_noise": True, "noise_seed": 3, "cfg": 4.0, "latent_image": latent, **conditions, **given}
        outputs = self.worker.node(
            "SamplerCustom", self.custom_sampling, model=model, sampler=sampler, sigmas=sigmas, **settings
        )
        return self.worker.samples(outputs[0])

    def noise_of(self, schedule: Ref, noise: Tensor, eta: float) -> Ref:
        """VARIANCE_NOISE with the given noise of every step, (S, B, ...)."""
        arguments = {"noise": noise, "schedule": schedule, "eta": eta}
        return self.worker("pack_value", name="RecordedNoise", arguments=arguments)[0]


@pytest.fixture(scope="session")
def calls(worker: Worker) -> Calls:
    return Calls(worker)

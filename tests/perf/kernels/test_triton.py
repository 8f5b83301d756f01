"""The GPU kernels: interpreted on the CPU, compiled without a GPU, and, where there is one, run on it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import ddim
from ddim.noise.philox import COS, LOG, SIN

HERE = Path(__file__).resolve().parent
needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


def child(name: str, tmp_path: Path, **environment: str) -> dict:
    command = [sys.executable, str(HERE / name)]
    settings = {**os.environ, "OMP_NUM_THREADS": "1", "TRITON_CACHE_DIR": str(tmp_path), **environment}
    done = subprocess.run(command, capture_output=True, text=True, env=settings, timeout=280)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory) -> dict:
    return child("interpreted_kernels.py", tmp_path_factory.mktemp("triton"), TRITON_INTERPRET="1")


@needs_triton
def test_the_kernels_draw_the_same_bits_as_the_cpu(interpreted):
    assert interpreted["noise_bits"] == dict.fromkeys(["one image", "a few elements", "numbered images"], True)


@needs_triton
def test_the_kernels_step_as_the_readable_step_does(interpreted):
    errors = interpreted["step_errors"]
    assert len(errors) == 3 * 3 * 3 * 2 * 2
    assert {name: error for name, error in errors.items() if not error < 5e-7} == {}


@needs_triton
def test_whole_runs_with_the_kernels_equal_those_without(interpreted):
    assert {name: error for name, error in interpreted["whole_runs"].items() if not error < 5e-6} == {}


@needs_triton
def test_what_the_kernels_cannot_do_is_left_to_torch(interpreted):
    assert interpreted["what_is_fused"] == {
        "float32": True,
        "float16": True,
        "float64": False,
        "other layout": False,
        "needs gradients": False,
    }


@needs_triton
def test_machine_code_contracts_nothing_and_rounds_correctly(tmp_path):
    found = child("compiled_kernels.py", tmp_path)
    for name in ("noise", "step none", "step given", "step keyed"):
        for code in found[name]:
            assert code["fma."] == code["sqrt.approx"] == code[".ftz"] == 0, (name, code)
    assert all(code["sqrt.rn"] > 0 for name in ("noise", "step keyed") for code in found[name])


def test_constants_of_the_definition_are_float32_numbers():
    for value in (*LOG, *SIN, *COS):
        assert float(torch.tensor(value, dtype=torch.float32)) == value


def test_importing_the_core_imports_neither_triton_nor_anything_slow():
    code = "import sys, torch; before = set(sys.modules); import ddim; print(*sorted(set(sys.modules) - before))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE.parents[2], check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert not loaded & {"triton", "scipy", "diffusers", "matplotlib", "PIL", "torchvision", "sympy", "pandas"}


@pytest.mark.gpu
@needs_gpu
def test_on_a_gpu_noise_has_the_bits_of_the_cpu_and_runs_agree():
    shape = (2, 4, 64, 64)
    drawn = ddim.keyed_noise(shape, 5, 3, [9, 4], device="cuda")
    assert torch.equal(drawn.cpu(), ddim.keyed_noise(shape, 5, 3, [9, 4]))
    x = torch.randn(shape)
    ours, truth = (
        ddim.sample(lambda x, t: torch.tanh(x), start, ddim.make_schedule(5).scheduler(start.device), eta=1.0, seed=1)
        for start in (x.cuda(), x.double())
    )
    torch.testing.assert_close(ours.double().cpu(), truth, rtol=1e-5, atol=1e-5)


@pytest.mark.gpu
@needs_gpu
def test_on_a_gpu_a_whole_run_never_waits():
    scheduler, x = ddim.make_schedule(10).scheduler("cuda"), torch.randn((1, 4, 64, 64), device="cuda")
    ddim.sample(lambda x, t: x * 0.5, x, scheduler, eta=1.0, seed=1)  # compiles
    torch.cuda.set_sync_debug_mode("error")
    try:
        ddim.sample(lambda x, t: x * 0.5, x, scheduler, eta=1.0, seed=1, image_indices=[3])
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_graph_of_a_run_is_refused_where_there_is_no_cuda():
    x = torch.zeros((1, 3))
    with pytest.raises(ddim.DDIMError, match="needs x and the scheduler's timesteps on a CUDA device"):
        ddim.capture_sample(lambda x, t: x, x, ddim.make_schedule(3).scheduler())


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("images", [None, [3, 1]])
def test_on_a_gpu_a_recorded_run_gives_what_the_run_gives(images):
    scheduler = ddim.make_schedule(10).scheduler("cuda")
    options = dict(eta=1.0, seed=1, image_indices=images)
    starts = [torch.randn((2, 4, 16, 16), device="cuda") for _ in range(3)]
    recorded = ddim.capture_sample(lambda x, t: torch.tanh(x), starts[0], scheduler, **options)
    for x in starts:
        assert torch.equal(recorded(x), ddim.sample(lambda x, t: torch.tanh(x), x, scheduler, **options))

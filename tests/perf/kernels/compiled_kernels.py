"""Compiles the GPU kernels for two generations of GPUs, without one; prints what is in their code, as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from ddim.guidance import triton_rescale
from ddim.noise import triton_noise
from ddim.step import triton_step

TYPES = {"output": "*bf16", "text": "*bf16", "images": "*i32", "count": "i32", "tiles": "i32"}
TYPES |= {"step": "i32", "key0": "i32", "key1": "i32", "programs": "i32", "per_program": "i32"}
POINTERS = ("sample", "noise", "factors", "result", "uncond", "text", "partial")
SWITCHES = ("GUIDED", "RESCALED", "CLIPPED", "NOISE", "NUMBERED")
STEPS = [(False, False, False, "none", False), (True, True, True, "keyed", True), (False, False, True, "given", False)]


def ptx(kernel, constants: dict, capability: int) -> str:
    names = kernel.arg_names
    types = {name: TYPES.get(name, "*fp32" if name in POINTERS else "fp32") for name in names}
    types.update(dict.fromkeys(constants, "constexpr"))
    source = ASTSource(fn=kernel, signature=types, constexprs=constants)
    compiled = triton.compile(
        source, target=GPUTarget("cuda", capability, 32), options=dict(triton_noise.LAUNCH_OPTIONS)
    )
    return compiled.asm["ptx"]


def summary(kernel, constants: dict) -> list[dict[str, int]]:
    codes = [ptx(kernel, constants, capability) for capability in (80, 90)]
    return [{word: code.count(word) for word in ("fma.", "sqrt.approx", "sqrt.rn", ".ftz")} for code in codes]


if __name__ == "__main__":
    found = {"noise": summary(triton_noise._noise_kernel, {"NUMBERED": False, "LANES": 256})}
    for values in STEPS:
        constants = dict(zip(SWITCHES, values, strict=True), LANES=256)
        found["step " + values[3]] = summary(triton_step._step_kernel, constants)
    found["moments"] = summary(triton_rescale._moments_kernel, {"BLOCK": 1024})
    found["factor"] = summary(triton_rescale._factor_kernel, {"BLOCK": 256})
    print(json.dumps(found))

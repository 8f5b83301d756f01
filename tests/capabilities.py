"""Print the CPU capabilities of torch that this machine has, one a line: values for ``ATEN_CPU_CAPABILITY``.

torch chooses its kernels by the processor's instructions, and float32 results differ between them in the last bit. One
machine can take the path of a smaller one::

    for capability in $(python tests/capabilities.py); do
        ATEN_CPU_CAPABILITY=$capability python -m pytest tests/core
    done

torch takes the variable at its word: what the processor lacks ends in an illegal instruction. So each value is tried in
a process of its own, with some arithmetic, and left out where that process dies or where torch falls back to another.
"""

from __future__ import annotations

import os
import subprocess
import sys

NAMES = ("default", "avx2", "avx512")
_TRIAL = """
import torch
x = torch.randn(4, 1000)
(x.exp().sqrt() + x @ x.mT.repeat(1, 250)).to(torch.float16).float().softmax(1).sum().item()
print(torch.backends.cpu.get_cpu_capability())
"""


def capabilities() -> list[str]:
    """Names that give kernels of their own on this machine, ``default`` first."""
    found: dict[str, str] = {}
    for name in NAMES:
        trial = subprocess.run(
            [sys.executable, "-c", _TRIAL],
            env={**os.environ, "ATEN_CPU_CAPABILITY": name},
            capture_output=True,
            text=True,
            check=False,
        )
        if trial.returncode == 0:
            found.setdefault(trial.stdout.strip(), name)
    return list(found.values())


if __name__ == "__main__":
    print(*capabilities(), sep="\n")

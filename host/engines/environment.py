"""What pictures are made with: the facts on which the last bit of a pixel may depend.

The facts go into pictures that people share, so there are no host names, users or paths among them. They are the same
for two machines of the same kind, and whenever they are asked for.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["describe", "describe_packs", "describe_process", "file_digest", "pack_version", "processor_name"]

# Folders of a pack whose code does not take part when a node runs, or that hold no code.
_TRAINING_STATE = ".training.safetensors"  # beside the weights while they are trained again
_NOT_NODES = frozenset({"host", "tests", "bench", "docs", "input", "output", "temp", "user", "models", "node_modules"})
_MAX_CODE_FILES = 10_000
_VERSION = re.compile(r"""^__version__(?:\s*:\s*str)?\s*=\s*["']([^"'\n]{1,40})["']""", re.MULTILINE)


def describe(
    engine: str,
    version: str,
    devices: Sequence[str],
    *,
    threads: int | None = None,
    exact: bool | None = None,
    processor: Mapping[str, str] | None = None,
    libraries: Mapping[str, str] | None = None,
    packs: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Return what pictures are made with, as plain JSON. What is None is not known, and left out.

    Args:
        engine: The engine's kind, as in `EngineSpec.kind`; "http" and "comfyui" are both a ComfyUI.
        version: The version of the embedded host or of the ComfyUI.
        devices: The names of the devices that compute, e.g. "NVIDIA H100" or "cpu".
        threads: How many threads of the processor one job may use.
        exact: Whether everything is off that lets equal inputs give different bits.
        processor: {"name": its model, "instructions": the set of instructions that torch chose}.
        libraries: {name: version}, such as python, torch, numpy.
        packs: What `describe_packs` returns.
    """
    facts: dict[str, Any] = {
        "engine": engine,
        "version": version,
        "devices": list(devices),
        "threads": threads,
        "exact": exact,
        "processor": dict(processor) if processor is not None else None,
        "libraries": dict(libraries) if libraries is not None else None,
        "packs": [dict(pack) for pack in packs] or None,
    }
    return {name: value for name, value in facts.items() if value is not None}


def describe_process(packs: Iterable[Path], *, exact: bool = False) -> dict[str, Any]:
    """Return what the nodes of these packs make pictures with when they run in this process now.

    Args:
        packs: The folders of the packs that are loaded.
        exact: `EngineSpec.exact`.
    """
    import numpy
    import torch

    from host.folders import ROOT

    devices = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    libraries = {"python": platform.python_version(), "torch": str(torch.__version__), "numpy": numpy.__version__}
    if devices:
        libraries |= {"cuda": str(torch.version.cuda), "cudnn": str(torch.backends.cudnn.version())}
    return describe(
        "embedded",
        pack_version(ROOT),
        devices or ["cpu"],
        threads=torch.get_num_threads(),
        exact=exact,
        processor={"name": processor_name(), "instructions": torch.backends.cpu.get_cpu_capability()},
        libraries=libraries,
        packs=describe_packs(packs),
    )


def describe_packs(folders: Iterable[Path]) -> list[dict[str, Any]]:
    """Return version, digest of the code, and digests of the weights of node packs on this machine.

    A pack's folder may have any name, and its name plays no role.

    Args:
        folders: Their folders, or single `.py` files.

    Returns:
        For each {"version": what it calls itself, "" if nothing; "code": SHA-256 of its Python files, with their names;
        "weights": {file name: SHA-256} of `<folder>/weights/*.safetensors`}.
    """
    found = []
    for folder in folders:
        weights = {} if folder.is_file() else {path.name: file_digest(path) for path in _weights_files(folder)}
        found.append({"version": pack_version(folder), "code": _code_digest(folder), "weights": weights})
    return found


def pack_version(pack: Path) -> str:
    """Return the `__version__` that a pack's door or a `version.py` of it names, without importing it."""
    candidates = [pack] if pack.is_file() else [pack / "__init__.py", *sorted(pack.glob("*/version.py"))]
    for path in candidates:
        match = _VERSION.search(path.read_text(encoding="utf-8", errors="replace")) if path.is_file() else None
        if match:
            return match[1]
    return ""


def _code_digest(pack: Path) -> str:
    digest = hashlib.sha256()
    for path in [pack] if pack.is_file() else sorted(_code_files(pack)):
        name = path.name if pack.is_file() else path.relative_to(pack).as_posix()
        digest.update(f"{name} {file_digest(path)}\n".encode("utf-8", errors="surrogateescape"))
    return digest.hexdigest()


def _code_files(pack: Path) -> list[Path]:
    """Return the Python files of a pack. Hidden folders, such as a virtual environment, are none of it."""
    files: list[Path] = []
    for folder, subfolders, names in os.walk(pack):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith(".") and name not in _NOT_NODES)
        files += [Path(folder, name) for name in sorted(names) if name.endswith(".py")]
        if len(files) > _MAX_CODE_FILES:
            break
    return files[:_MAX_CODE_FILES]


def _weights_files(pack: Path) -> list[Path]:
    found = (path for path in pack.glob("*/weights/*.safetensors") if path.is_file())
    return sorted(path for path in found if not path.name.endswith(_TRAINING_STATE))


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's content, which may be larger than the memory. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def processor_name() -> str:
    """Return the processor's model: libraries choose their code by it, beyond the set of instructions."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    match = re.search(r"^model name\s*:\s*(\S.{0,100})", text, re.MULTILINE)
    return match[1].strip() if match else platform.processor() or platform.machine()

"""How a ComfyUI checkout is started: its interpreter, its command line, and the packs that are linked in.

It runs with its own models, custom nodes and `extra_model_paths.yaml`. What it writes, and what it reads as input, lies
in a private folder, so that several can run from one checkout at the same time, and none leaves anything behind.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from host.engines.contract import EngineError
from host.engines.spec import EngineSpec
from host.error_format import shorten
from host.folders import ROOT

__all__ = ["checkout_of", "command_line", "environment_variables", "interpreter_of", "packs_of", "prepare_folder"]

_OWN_PYTHON = (".venv/bin/python", "venv/bin/python", ".venv/Scripts/python.exe", "venv/Scripts/python.exe")
_PORTABLE_PYTHON = "../python_embeded/python.exe"  # so spelt by ComfyUI's portable build
_PROJECT_NAME = re.compile(r"""^name\s*=\s*["']([^"']+)["']""", re.MULTILINE)
_NOT_COPIED = (".*", "__pycache__", "output", "temp", "user", "tests")
_OPTIONAL = {"--database-url": ["--database-url", "sqlite:///:memory:"]}


def checkout_of(spec: EngineSpec) -> Path:
    """Return the checkout that a specification names. Raises EngineError if it is none."""
    path = Path(os.path.abspath(Path(spec.address).expanduser()))
    if not (path / "main.py").is_file() or not (path / "comfy").is_dir():
        raise EngineError(
            f"{spec.address or 'the empty path'} is not a ComfyUI: expected a folder with main.py and comfy/"
        )
    return path


def interpreter_of(spec: EngineSpec, checkout: Path) -> str:
    """Return the checkout's Python: the one that the user names, else COMFYUI_PYTHON, its own, or `python3`.

    Raises:
        EngineError: The one that the user names does not exist.
    """
    named = spec.python or os.environ.get("COMFYUI_PYTHON", "")
    if named:
        found = shutil.which(os.path.expanduser(named))
        if found is None:
            raise EngineError(f"there is no Python interpreter {shorten(named, 200)} to start the ComfyUI with")
        return os.path.abspath(found)
    candidates = [checkout / name for name in (*_OWN_PYTHON, _PORTABLE_PYTHON)]
    own = next((str(path) for path in candidates if path.is_file()), None)
    return own or shutil.which("python3") or sys.executable


def packs_of(spec: EngineSpec) -> list[Path]:
    """Return the folders of the packs that must be loaded."""
    return [Path(os.path.abspath(pack)) for pack in spec.packs] or [ROOT]


def prepare_folder(folder: Path, checkout: Path, packs: Iterable[Path]) -> None:
    """Create what the command line names: folders, and links to the packs that the checkout does not have itself."""
    for name in ("input", "output", "temp", "user", "custom_nodes"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for pack in packs:
        link = folder / "custom_nodes" / pack.name
        if not os.path.lexists(link) and not _is_installed(pack, checkout):
            _link(link, pack)
    paths = {"linked_packs": {"custom_nodes": str(folder / "custom_nodes")}}
    (folder / "extra_paths.yaml").write_text(json.dumps(paths), encoding="utf-8")  # JSON is YAML


def _is_installed(pack: Path, checkout: Path) -> bool:
    """Return whether the checkout has a pack already: the same folder, or one of the same project."""
    own = checkout / "custom_nodes"
    entries = [path for path in own.iterdir() if not path.name.endswith(".disabled")] if own.is_dir() else []
    name = _project_name(pack)
    return any(
        path.resolve() == pack.resolve() or (name is not None and path.is_dir() and _project_name(path) == name)
        for path in entries
    )


def _project_name(pack: Path) -> str | None:
    try:
        text = (pack / "pyproject.toml").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    match = _PROJECT_NAME.search(text)
    return match[1] if match else None


def _link(link: Path, pack: Path) -> None:
    try:
        link.symlink_to(pack, target_is_directory=pack.is_dir())
    except OSError:  # Windows allows links to administrators only
        if pack.is_dir():
            shutil.copytree(pack, link, ignore=shutil.ignore_patterns(*_NOT_COPIED))
        else:
            shutil.copyfile(pack, link)


def command_line(spec: EngineSpec, checkout: Path, folder: Path, port: int) -> list[str]:
    """Return the command that starts the checkout on a port of this machine alone."""
    known = (checkout / "comfy/cli_args.py").read_text(encoding="utf-8", errors="replace")
    optional = [part for option, parts in _OPTIONAL.items() if f'"{option}"' in known for part in parts]
    exact = ["--deterministic"] if spec.exact and '"--deterministic"' in known else []
    return [
        interpreter_of(spec, checkout),
        "main.py",
        *("--listen", "127.0.0.1", "--port", str(port), "--disable-auto-launch"),
        *("--input-directory", str(folder / "input")),
        *("--output-directory", str(folder / "output")),
        *("--temp-directory", str(folder)),  # it adds the folder temp itself
        *("--user-directory", str(folder / "user")),
        *("--extra-model-paths-config", str(folder / "extra_paths.yaml")),
        *optional,
        *exact,
        *spec.arguments,
    ]


def environment_variables(spec: EngineSpec) -> dict[str, str]:
    """Return the environment to start a ComfyUI in: this process's, with the number of threads.

    Which GPU it may use is inherited. Where this process finds its own packages is not: they are another interpreter's.
    """
    threads = str(max(1, spec.threads))
    inherited = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    exact = {"NVIDIA_TF32_OVERRIDE": "0"} if spec.exact else {}
    return {**inherited, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "PYTHONUNBUFFERED": "1", **exact}

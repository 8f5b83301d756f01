"""The archive that the registry of ComfyUI would get, made by ComfyUI's own client from a copy of the tracked files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMFY = shutil.which("comfy", path=str(Path(sys.executable).parent)) or shutil.which("comfy")


def copy_of_the_repository(folder: Path) -> Path:
    """A git repository with the files that git would track here."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    weights = {f"demo/weights/{model}.safetensors" for model in ("digits", "emoji")}  # also those that were just made
    for name in {*listed.stdout.splitlines(), *weights}:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    for command in (["init", "-q"], ["add", "--all", "--force"]):
        subprocess.run(["git", *command], cwd=folder, check=True, capture_output=True)
    return folder


def comfy_node(folder: Path, command: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Run ``comfy node COMMAND`` in a folder, without telemetry and with no settings of the user's."""
    assert COMFY, "comfy-cli is not installed"
    environment = {**os.environ, "HOME": str(home), "DO_NOT_TRACK": "1", "NO_COLOR": "1"}
    arguments = [COMFY, "--skip-prompt", "--no-enable-telemetry", "node", command]
    return subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def unpacked(folder: Path, home: Path, target: Path) -> Path:
    """Pack a folder and unpack the archive."""
    packed = comfy_node(folder, "pack", home)
    assert packed.returncode == 0, packed.stdout + packed.stderr
    with zipfile.ZipFile(folder / "node.zip") as archive:
        archive.extractall(target)
    return target

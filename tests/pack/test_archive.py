"""The archive of the registry: what is in it, that it loads in ComfyUI, and that no scanner finds anything to flag."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.architecture.test_layers import COMFYUI
from tests.pack.archive import ROOT, comfy_node, copy_of_the_repository, unpacked

HERE = Path(__file__).parent

# The top of the archive: exactly this.
CONTENTS = {
    "__init__.py", "ddim", "nodes", "web", "locales", "demo", "example_workflows", "pyproject.toml",
    "requirements.txt", "README.md", "LICENSE", "CHANGELOG.md",
}  # fmt: skip
OPTIONAL_CONTENTS = {"subgraphs"}
WEIGHTS = ("demo/weights/digits.safetensors", "demo/weights/emoji.safetensors")
PICTURES = {".png", ".jpg", ".webp", ".gif", ".svg"}

# What the code may import: the standard library, the list in requirements.txt, what ComfyUI itself has, and, only where
# one asks for it, the rest. The file of the other host is not loaded in ComfyUI.
OF_COMFYUI = COMFYUI | {"PIL", "aiohttp", "tqdm"}
ON_REQUEST = {
    "ddim/diffusers.py": {"diffusers"},
    "ddim/schedule/flow_sigmas.py": {"scipy"},
    "ddim/noise/triton_noise.py": {"triton"},
    "ddim/guidance/triton_rescale.py": {"triton"},
    "ddim/step/triton_step.py": {"triton"},
    "demo/data.py": {"sklearn"},
    "nodes/backend/embedded.py": {"host"},
}

# What scanners of packs flag, as words in Python; none of it is needed.
FLAGGED = {
    "environment": r"os\.environ|getenv|putenv",
    "processes": r"subprocess|os\.system|os\.popen|os\.exec|os\.spawn|pty\.spawn",
    "network": r"import socket|socket\.socket|urllib|http\.client|\brequests\b|httpx|ftplib|smtplib|websocket",
    "code from data": r"\beval\s*\(|\bexec\s*\(|(?<![.\w])compile\s*\(|__import__|marshal|\bcode\.interact",
    "pickle": r"import pickle|pickle\.load|torch\.load|joblib|\bdill\b|allow_pickle",
    "native code": r"ctypes|cffi|\.so\b|\.dll\b",
    "hidden": r"b64decode|base64|codecs\.decode|zlib\.decompress|fromhex",
    "removal": r"rm -rf|shutil\.rmtree|os\.removedirs",
    "installation": r"ensurepip|pip\.main|[\"']pip[\"']",
}
FLAGGED_IN_SCRIPTS = r"\beval\s*\(|new Function|document\.write|innerHTML|atob\s*\(|importScripts|XMLHttpRequest"
LONGEST_LINE = 200  # a line of minified code is longer


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_of_the_repository(tmp_path_factory.mktemp("copy"))


@pytest.fixture(scope="module")
def archive(copy: Path, home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked archive, in a folder whose name is no identifier."""
    return unpacked(copy, home, tmp_path_factory.mktemp("custom_nodes") / "ddim nodes - 0.1")


def files(archive: Path, *endings: str) -> Iterator[Path]:
    """Files of the archive, those with some endings or all."""
    yield from (
        path for path in sorted(archive.rglob("*")) if path.is_file() and (not endings or path.suffix in endings)
    )


def size(paths: Iterator[Path]) -> int:
    return sum(path.stat().st_size for path in paths)


def test_the_client_finds_the_node_valid(copy: Path, home: Path) -> None:
    checked = comfy_node(copy, "validate", home)
    said = checked.stdout + checked.stderr
    assert checked.returncode == 0 and "All validation checks passed" in said, said
    assert "Warning" not in said and "warnings" not in said


def test_it_holds_what_a_user_of_comfyui_needs_and_nothing_else(archive: Path) -> None:
    assert {path.name for path in archive.iterdir()} - OPTIONAL_CONTENTS == CONTENTS
    names = {path.relative_to(archive).as_posix() for path in files(archive)}
    assert names.issuperset(WEIGHTS) and "demo/train.py" not in names and "locales/make.py" not in names
    assert not [name for name in names if Path(name).name.startswith((".", "test_"))]
    for kind in ("web", "example_workflows", "ddim"):
        kept = {name for name in names if name.startswith(f"{kind}/")}
        there = {path.relative_to(ROOT).as_posix() for path in files(ROOT / kind) if "__pycache__" not in path.parts}
        assert kept == there


def test_it_is_small(archive: Path) -> None:
    pictures = size(files(archive / "example_workflows", *PICTURES)) + size(files(archive / "web", *PICTURES))
    weights = sum((archive / name).stat().st_size for name in WEIGHTS)
    assert size(files(archive)) - weights - pictures < 2_500_000
    assert pictures < 3_000_000 and weights < 18_000_000


def test_it_loads_as_comfyui_loads_it(archive: Path, pack: ModuleType) -> None:
    command = [sys.executable, "-W", "error", str(HERE / "import_as_comfyui.py"), str(archive)]
    done = subprocess.run(command, cwd=archive.parent, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["nodes"] == found["names"] == sorted(pack.NODE_CLASS_MAPPINGS)
    assert found["web"] and found["backend"] == "ComfyUIBackend"
    assert "POST /ddim/schedule" in found["routes"]
    assert found["from outside"] == []


def required(archive: Path) -> set[str]:
    lines = (archive / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return {re.split(r"[<>=!~ ;]", line)[0] for line in lines if line and not line.startswith("#")}


def resolved(archive: Path, path: Path, level: int, module: str) -> bool:
    """Whether a relative import leads to a file of the archive."""
    base = path.parents[level - 1].joinpath(*module.split(".")) if module else path.parents[level - 1]
    return base.with_suffix(".py").is_file() or (base / "__init__.py").is_file()


def test_every_import_leads_somewhere(archive: Path) -> None:
    everywhere = set(sys.stdlib_module_names) | required(archive) | OF_COMFYUI
    for path in files(archive, ".py"):
        name = path.relative_to(archive).as_posix()
        allowed = everywhere | ON_REQUEST.get(name, set())
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level:
                module = node.module or ""
                targets = [module] if module else [alias.name for alias in node.names]
                assert resolved(archive, path, node.level, module), f"{name}: from {'.' * node.level}{module}"
                assert module or all(
                    resolved(archive, path, node.level, each)
                    or (path.parents[node.level - 1] / "__init__.py").is_file()
                    for each in targets
                ), name
            elif isinstance(node, ast.ImportFrom):
                assert (node.module or "").split(".")[0] in allowed, f"{name} imports {node.module}"
            elif isinstance(node, ast.Import):
                assert {alias.name.split(".")[0] for alias in node.names} <= allowed, name


def test_every_script_that_a_script_imports_is_there(archive: Path) -> None:
    for path in files(archive / "web", ".js", ".mjs"):
        for target in re.findall(r"""(?:from|import\()\s*["'](\.[^"']+)["']""", path.read_text(encoding="utf-8")):
            assert (path.parent / target).is_file() or "/scripts/" in target, f"{path.name} imports {target}"


@pytest.mark.parametrize("kind", FLAGGED)
def test_scanners_find_nothing_to_flag_in_python(archive: Path, kind: str) -> None:
    for path in files(archive, ".py"):
        found = re.search(FLAGGED[kind], path.read_text(encoding="utf-8"))
        assert not found, f"{path.relative_to(archive)}: {found.group(0) if found else ''}"


def test_scanners_find_nothing_to_flag_in_scripts(archive: Path) -> None:
    scripts = list(files(archive / "web", ".js", ".mjs"))
    assert len(scripts) > 10
    for path in scripts:
        text = path.read_text(encoding="utf-8")
        found = re.search(FLAGGED_IN_SCRIPTS, text)
        assert not found, f"{path.relative_to(archive)}: {found.group(0) if found else ''}"
        assert max(map(len, text.splitlines())) <= LONGEST_LINE, f"{path.name} looks minified"


def test_there_is_no_blob_and_no_removal_in_the_text(archive: Path) -> None:
    flagged = re.compile(r"[A-Za-z0-9+/=]{200,}|rm -rf")
    for path in files(archive, ".py", ".js", ".mjs", ".json", ".css", ".md", ".toml"):
        assert not flagged.search(path.read_text(encoding="utf-8")), path.relative_to(archive)

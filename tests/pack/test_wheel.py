"""The wheel that PyPI would get: the scheduler core alone, and it works where it is installed."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import ddim
from tests.pack.archive import ROOT, copy_of_the_repository


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built without a download: with the setuptools that is here."""
    pytest.importorskip("setuptools", reason="the wheel is built with the setuptools that is installed")
    copy = copy_of_the_repository(tmp_path_factory.mktemp("copy"))
    target = tmp_path_factory.mktemp("wheel")
    options = ["--no-deps", "--no-build-isolation", "--quiet", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", str(target), "."]
    built = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=200)
    assert built.returncode == 0, built.stdout + built.stderr
    (found,) = target.glob("*.whl")
    return found


def test_it_holds_the_core_whole_and_alone(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    there = {path.relative_to(ROOT).as_posix() for path in (ROOT / "ddim").rglob("*.py")}
    assert {name for name in names if not name.split("/")[0].endswith(".dist-info")} == there | {"ddim/py.typed"}


def test_it_says_who_it_is_for(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [each for each in archive.namelist() if each.endswith(".dist-info/METADATA")]
        said = archive.read(name).decode()
    assert f"Version: {ddim.__version__}\n" in said and "Requires-Python: >=3.10\n" in said
    assert re.findall(r"^Requires-Dist: (\w+)>=[\d.]+$", said, re.MULTILINE) == ["torch", "numpy", "safetensors"]


def test_it_works_where_it_is_installed(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    options = ["--no-deps", "--quiet", "--disable-pip-version-check", "--target", str(site)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(wheel)], check=True, timeout=100)
    code = (
        f"import sys; sys.path.insert(0, {str(site)!r})\n"
        "import ddim, torch\n"
        "x = ddim.sample(lambda x, t: x * 0, torch.ones(1, 2), ddim.make_schedule(3).scheduler())\n"
        "print(ddim.__file__, bool(x.isfinite().all()))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert done.stdout.split() == [str(site / "ddim" / "__init__.py"), "True"], done.stderr

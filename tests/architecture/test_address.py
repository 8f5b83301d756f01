"""The address of the repository stands in one file, and what is derived from it leads to files that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import tomllib
from PIL import Image

from tasks.address import readdress, set_address
from tests.architecture.test_house import tracked_files

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
PROJECT = tomllib.loads(TEXT)
REPOSITORY = PROJECT["project"]["urls"]["Repository"]
NAME = REPOSITORY.removeprefix("https://github.com/")
RAW = f"https://raw.githubusercontent.com/{NAME}/main/"
COMFY = PROJECT["tool"]["comfy"]
MAY_HOLD_IT = {"pyproject.toml"}


def test_every_address_of_pyproject_is_derived_from_the_repository() -> None:
    addresses = re.findall(r"https://(?:raw\.githubusercontent|github)\.com/[^\s\"`]+", TEXT)
    placeholders = {"https://github.com/OWNER/NAME"}
    assert len(addresses) > 4
    assert [each for each in addresses if not each.startswith((REPOSITORY, RAW)) and each not in placeholders] == []


def test_no_other_file_holds_it() -> None:
    pattern = re.compile(re.escape(f"github.com/{NAME}") + r"|" + re.escape(f"githubusercontent.com/{NAME}"))
    holders = set()
    for path in tracked_files():
        if path.suffix not in {".png", ".jpg", ".safetensors", ".webp", ".gif"}:
            if pattern.search(path.read_text(encoding="utf-8", errors="ignore")):
                holders.add(path.relative_to(ROOT).as_posix())
    assert holders == MAY_HOLD_IT


def test_the_registry_gets_an_icon_and_a_banner_of_the_sizes_it_asks_for() -> None:
    with Image.open(ROOT / COMFY["Icon"].removeprefix(RAW)) as icon:
        assert icon.format == "PNG" and icon.width == icon.height <= 400
    with Image.open(ROOT / COMFY["Banner"].removeprefix(RAW)) as banner:
        assert banner.format == "PNG" and banner.width * 9 == banner.height * 21


def test_another_address_changes_every_line() -> None:
    changed = readdress(TEXT, "https://github.com/someone/a-fork.git")
    assert NAME not in changed.replace(f'name = "{NAME.split("/")[1]}"', "")
    urls = tomllib.loads(changed)
    assert urls["project"]["urls"]["Bug Tracker"] == "https://github.com/someone/a-fork/issues"
    assert urls["tool"]["comfy"]["Icon"].startswith("https://raw.githubusercontent.com/someone/a-fork/main/")
    assert readdress(changed, REPOSITORY) == TEXT
    assert urls["tool"]["comfy"]["PublisherId"] == COMFY["PublisherId"]


@pytest.mark.parametrize("address", ["someone/a-fork", "https://github.com/someone", 'https://github.com/a/b"c'])
def test_what_is_no_address_changes_nothing(tmp_path: Path, address: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pyproject.toml").write_text(TEXT, encoding="utf-8")
    assert set_address(tmp_path, [address]) == 2
    assert "https://github.com/OWNER/NAME" in capsys.readouterr().err
    assert (tmp_path / "pyproject.toml").read_text(encoding="utf-8") == TEXT

"""Names of files: none leads out of its folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from ddim import DDIMError
from host.folders import FOLDER_TYPES, FolderError, plain_file_name, requested_path
from host.stock_nodes import LoadImage
from tests.fuzz.values import paths, scalars
from tests.fuzz.workbench import Target, Workbench


def _is_inside(folder: Path, path: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _request(bench: Workbench, parts: list[str]) -> str:
    found = requested_path(bench.folders.output, *parts)
    assert _is_inside(bench.folders.output, found), found
    return "inside"


def _plain(bench: Workbench, name: str) -> str:
    found = plain_file_name(name)
    assert found == name and os.path.basename(found) == found not in ("", ".", "..")
    return "a file's name"


def _resolve(bench: Workbench, given: tuple[str, str]) -> str:
    found = bench.folders.resolve(*given)
    assert any(_is_inside(bench.folders.of_type(folder), found) for folder in FOLDER_TYPES), found
    return "inside"


def _save(bench: Workbench, given: tuple[str, int]) -> str:
    """Save a file under a prefix, as SaveImage does: what the host's file system refuses is an error of the node."""
    target = bench.folders.save_image_path(given[0], "output", *given[1:], 8)
    assert _is_inside(bench.folders.output, target.folder)
    path = target.folder / f"{target.name}_{target.counter:05}_.png"
    assert path.parent == target.folder and not path.exists()
    path.write_bytes(b"")
    try:
        shown = requested_path(bench.folders.output, target.subfolder, path.name)
    except FolderError:  # deeper or longer than a request may ask for
        return "saved, cannot be requested"
    finally:
        path.unlink()
    assert shown == Path(os.path.realpath(path.parent)) / path.name
    return "saved"


def _noise_file(bench: Workbench, name: str) -> str:
    bench.pack.NODE_CLASS_MAPPINGS  # noqa: B018  loads the nodes
    find: Callable[[str], Path] = sys.modules["pack.nodes.inversion.noise_files"]._resolve
    found = find(name)
    assert any(_is_inside(bench.folders.of_type(folder), found) for folder in ("input", "output")), found
    return "found"


def _load(bench: Workbench, name: Any) -> str:
    """What LoadImage accepts is a file in one of the folders."""
    if LoadImage.VALIDATE_INPUTS(name) is not True:
        return "refused"
    assert any(_is_inside(bench.folders.of_type(folder), bench.folders.resolve(name)) for folder in FOLDER_TYPES)
    return "accepted"


noise_names = st.builds(
    lambda name, end, mark: name + end + mark,
    paths,
    st.sampled_from(["", ".safetensors"]),
    st.sampled_from(["", " [output]", " [input]"]),
)
existing = st.builds(
    lambda folder, name, mark: folder + name + mark,
    st.sampled_from(["", "sub/", "out/", "up/input/", "sub/../", "./", "root/tmp/../"]),
    st.sampled_from(["noise.safetensors", "secret.safetensors", "secret.png"]),
    st.sampled_from(["", " [output]", " [input]", " [temp]"]),
)
TARGETS = [
    Target("names-requested", st.lists(paths, min_size=1, max_size=3), _request, (FolderError,), examples=150),
    Target("names-plain", paths, _plain, (FolderError,), examples=150),
    Target("names-resolved", st.tuples(paths, st.sampled_from(FOLDER_TYPES)), _resolve, (FolderError,), examples=150),
    Target("names-saved", st.tuples(paths, st.integers(1, 99)), _save, (FolderError,), examples=150),
    Target("names-noise-files", existing | noise_names, _noise_file, (DDIMError,), examples=150),
    Target("names-loaded", existing | paths | scalars, _load, examples=150),
]

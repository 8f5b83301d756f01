"""What the fuzzers work on: folders between canary files, node classes, a host, and the description of a target."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from hypothesis.strategies import SearchStrategy

from host import context
from host.folders import Folders, default_folders
from host.packs import Registry, load_pack
from tests.conftest import load_pack as load_this_pack
from tests.server.support import HostProcess, make_pack

MAX_MESSAGE = 2500  # characters of an error, whatever was sent
_TEMPORARY = (".tmp", ".upload")


@dataclass(frozen=True)
class Target:
    """One thing that takes untrusted input.

    Attributes:
        name: As `make fuzz TARGET=` takes it.
        inputs: What it is given.
        call: Gives one input to the target. Returns the kind of the answer, and raises for a wrong one.
        promised: What the target may raise. Anything else is a finding, and so is a message without limit.
        examples: How many inputs `make test` gives it.
    """

    name: str
    inputs: SearchStrategy[Any] = field(repr=False)
    call: Callable[[Workbench, Any], str]
    promised: tuple[type[Exception], ...] = ()
    examples: int = 100


@dataclass
class Workbench:
    """A data directory in the middle of files that nobody may read or change. `close()` removes all of it."""

    folder: Path
    _hosts: list[HostProcess] = field(default_factory=list)

    def __post_init__(self) -> None:
        outside = self.folder / "outside"
        (outside / "inner").mkdir(parents=True)
        for name in ("secret.txt", "secret.png", "secret.safetensors", "inner/secret.png"):
            (outside / name).write_bytes(b"canary " + name.encode())
        self._canaries = fingerprint(outside)
        self.folders = self._make_folders(self.folder / "data")
        self._folders_before = context.use_folders(self.folders)
        self._descriptors: int | None = None
        self._read_errors = 0  # characters of what the host said
        assert self.registry.nodes  # loaded before anything is drawn: hypothesis takes constants from loaded modules

    def _make_folders(self, data: Path) -> Folders:
        """Make a data directory with links that lead out of it."""
        folders = default_folders(data)
        for folder in (folders.input, folders.output, folders.temp):
            (folder / "sub").mkdir(parents=True)
            (folder / "out").symlink_to(self.folder / "outside")
            (folder / "root").symlink_to("/")
            (folder / "up").symlink_to("..")
            (folder / "loop").symlink_to("loop")
            for name in ("secret.png", "secret.safetensors"):
                (folder / name).symlink_to(self.folder / "outside" / name)
            for name in ("noise.safetensors", "sub/noise.safetensors"):
                (folder / name).write_bytes(b"noise")
        return folders

    @cached_property
    def pack(self) -> Any:
        """This project's pack."""
        return load_this_pack()

    @cached_property
    def registry(self) -> Registry:
        """The nodes of this project, toy nodes and the stock nodes."""
        toys = self.folder / "toys"
        toys.mkdir()
        shutil.copy(Path(__file__).parents[1] / "host" / "toy_nodes.py", toys / "__init__.py")
        registry = load_pack(toys)
        return Registry({**self.pack.NODE_CLASS_MAPPINGS, **registry.nodes}, registry.display_names, {}, {})

    @property
    def host(self) -> HostProcess:
        """A host that serves a toy pack."""
        if not self._hosts:
            data = self.folder / "host"
            self._make_folders(data)
            self._hosts.append(HostProcess(data, [make_pack(self.folder)]))
            self._hosts[0].get("/features")
            self._descriptors = len(self._open_files())
        return self._hosts[0]

    def _open_files(self) -> list[str]:
        return os.listdir(f"/proc/{self.host.process.pid}/fd")

    def check_untouched(self) -> None:
        """Check what no input may change: the files outside, and what must not be left behind.

        Raises:
            AssertionError: A target escaped from its folder, left a temporary file, or the host crashed or leaks.
        """
        assert fingerprint(self.folder / "outside") == self._canaries, "a file outside of the data directory changed"
        left = [
            path
            for top in ("data", "host")
            for path, _, names in os.walk(self.folder / top)
            for name in names
            if name.startswith(".") and name.endswith(_TEMPORARY)
        ]
        assert not left, f"temporary files are left in {left[:5]}"
        if self._hosts:
            self._check_host()

    def _check_host(self) -> None:
        assert self.host.process.poll() is None, "the host has ended"
        with self.host.errors.open(errors="replace") as file:
            file.seek(self._read_errors)
            said, self._read_errors = file.read(), file.tell()
        assert "Traceback" not in said, said[said.find("Traceback") - 300 :][:3000]
        self.host.wait(lambda: len(self._open_files()) <= (self._descriptors or 0) + 2, 30)  # a database's own, at most

    def close(self) -> None:
        """Stop the host, and remove everything."""
        for host in self._hosts:
            host.stop()
        context.use_folders(self._folders_before)
        shutil.rmtree(self.folder, ignore_errors=True)


def fingerprint(folder: Path) -> dict[str, str]:
    """The content of every file below a folder, by name."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

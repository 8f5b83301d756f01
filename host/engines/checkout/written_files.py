"""What a ComfyUI has written into its private folder: deleted when it has been fetched, or a long sweep fills the disk.

The newest files stay for a while, because ComfyUI names a file again where the node that wrote it is cached.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from host.execution.shown_files import ShownFile
from host.folders import FolderError, default_folders, requested_path, split_annotation

__all__ = ["WrittenFiles"]

_KEPT_JOBS = 100


class WrittenFiles:
    """The files of the jobs that ran last.

    Args:
        folder: The private folder, with `output` and `temp` in it.
    """

    def __init__(self, folder: Path) -> None:
        self._folders = default_folders(folder)
        self._kept: set[Path] = set()
        self._newest: dict[Path, int] = {}  # file: the last job that named it
        self._jobs = 0

    def keep(self, names: Iterable[str]) -> None:
        """Never delete these files: they are input, though they may lie among the output."""
        for name in names:
            plain, folder_type = split_annotation(name, "input")
            self._kept.update(self._paths(plain, "", folder_type))

    def add(self, files: Iterable[ShownFile]) -> None:
        """Note the files of a job that ended, and delete those that only older jobs named."""
        self._jobs += 1
        for file in files:
            for path in self._paths(file.filename, file.subfolder, file.type):
                self._newest[path] = self._jobs
        for path in [path for path, job in self._newest.items() if job <= self._jobs - _KEPT_JOBS]:
            del self._newest[path]
            if path not in self._kept:
                path.unlink(missing_ok=True)

    def _paths(self, name: str, subfolder: str, folder_type: str) -> list[Path]:
        try:
            return [requested_path(self._folders.of_type(folder_type), subfolder, name)]
        except FolderError:
            return []

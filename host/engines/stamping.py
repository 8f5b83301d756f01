"""What a run of this host leaves in its folders: each new picture says what it was made with."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from host import context
from host.atomic_files import flush_to_disk, temporary_file
from host.context import CancelFlag
from host.engines.digests import content_digest
from host.engines.environment import describe_process
from host.engines.output_files import NamedFile, made_with_facts, named_files
from host.engines.picture_metadata import MADE_WITH, is_png, replace_texts
from host.execution.events import Emit
from host.execution.executor import Executor, RunResult
from host.folders import FolderError, Folders, requested_path
from host.pictures import PictureError
from host.prompt_format import Prompt

__all__ = ["StampingExecutor", "stamp_files"]

log = logging.getLogger(__name__)


class StampingExecutor(Executor):
    """An executor whose saved pictures say what they were made with, before anybody learns that the run ended."""

    def run(
        self,
        prompt: Prompt,
        prompt_id: str,
        outputs: Sequence[str],
        extra_data: dict[str, Any],
        emit: Emit,
        cancel: CancelFlag,
        *,
        before_end: Callable[[RunResult], None] | None = None,
    ) -> RunResult:
        """Run a prompt, as `Executor.run` does."""

        def stamp_first(result: RunResult) -> None:
            stamp_files(result, prompt, context.folders(), self._environment)
            if before_end is not None:
                before_end(result)

        return super().run(prompt, prompt_id, outputs, extra_data, emit, cancel, before_end=stamp_first)

    @cached_property
    def _environment(self) -> dict[str, Any]:
        return describe_process(self.registry.pack_directories.values())


def stamp_files(result: RunResult, prompt: Prompt, folders: Folders, environment: Mapping[str, Any]) -> None:
    """Add the text chunk `made_with` to the PNG files that a run wrote into the output folder.

    A file is replaced atomically. One that cannot be stays as it is, which is logged. Files of nodes that were cached
    are of an earlier run, and stay too.

    Args:
        result: The run.
        prompt: What was run.
        folders: Where its files lie.
        environment: What they were made with; see `environment.describe`.
    """
    cached = {node_id for event, data in result.messages if event == "execution_cached" for node_id in data["nodes"]}
    stamped = set()
    for named in named_files(result.outputs, prompt, result.meta):
        if named.file.type == "output" and named.node_id not in cached and named.file not in stamped:
            stamped.add(named.file)
            try:
                _stamp(named, folders, environment)
            except (OSError, FolderError, PictureError) as error:
                log.warning("%s does not say what it was made with: %s", named.file.filename, error)


def _stamp(named: NamedFile, folders: Folders, environment: Mapping[str, Any]) -> None:
    path = requested_path(folders.output, named.file.subfolder, named.file.filename)
    data = path.read_bytes()
    if not is_png(data):
        return
    facts = made_with_facts(environment, named, content_digest(data))
    with temporary_file(path.parent) as temporary:
        temporary.write_bytes(replace_texts(data, {MADE_WITH: facts}))
        flush_to_disk(temporary)
        os.replace(temporary, path)

"""What a run of this host leaves in its folders: each new picture says what it was made with."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

from host.atomic_files import flush_to_disk, temporary_file
from host.engines.digests import content_digest
from host.engines.output_files import NamedFile, made_with_facts, named_files
from host.engines.picture_metadata import MADE_WITH, is_png, replace_texts
from host.execution import RunResult
from host.folders import FolderError, Folders, requested_path
from host.pictures import PictureError
from host.prompt_format import Prompt

__all__ = ["stamp_files"]

log = logging.getLogger(__name__)


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

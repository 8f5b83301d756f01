"""The files of a job: which ones its outputs name, in which order, and what is added to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from host.engines.contract import Job, OutputFile
from host.engines.digests import content_digest
from host.engines.picture_metadata import MADE_WITH, PROMPT, is_png, replace_texts
from host.execution.shown_files import ShownFile, shown_files
from host.pictures import PictureError

__all__ = ["NamedFile", "finished_file", "made_with_facts", "named_files"]

# Where files lie that a job made. Nodes that show a file of the input folder did not make it.
_MADE_TYPES = ("output", "temp")


class NamedFile(NamedTuple):
    """A file that a node's ui result names.

    Attributes:
        node_id: The node.
        position: The file's place among the node's files.
        file: The reference.
    """

    node_id: str
    position: int
    file: ShownFile


def named_files(
    outputs: Mapping[str, Mapping[str, Any]],
    prompt: Mapping[str, Any],
    meta: Mapping[str, Mapping[str, Any]] | None = None,
) -> Iterator[NamedFile]:
    """Yield the files that a run's outputs name and that it made, each once.

    The order is that of the prompt's nodes, whatever ran first or was cached. Nodes that a node of the prompt added
    follow it, by their ids.

    Args:
        outputs: {node id: ui result}: the history's "outputs".
        prompt: The prompt.
        meta: The history's "meta", which knows the nodes that were added.
    """
    places = {node_id: place for place, node_id in enumerate(prompt)}

    def place(node_id: str) -> tuple[int, bool, str]:
        real_id = ((meta or {}).get(node_id) or {}).get("real_node_id", node_id)
        return places.get(real_id, len(places)), node_id not in places, node_id

    seen: set[ShownFile] = set()
    for node_id in sorted(outputs, key=place):
        new = [file for file in shown_files(outputs[node_id]) if file.type in _MADE_TYPES]
        for position, file in enumerate(dict.fromkeys(new)):
            if file not in seen:
                seen.add(file)
                yield NamedFile(node_id, position, file)


def finished_file(named: NamedFile, data: bytes, job: Job, environment: Mapping[str, Any]) -> OutputFile:
    """Return a file of a job as it is handed on: with its digest, and a PNG with the job's prompt and what made it.

    A node that was cached may have stored the prompt of another job, and ComfyUI stores further keys with a prompt.

    Args:
        named: The file, and the node that wrote it ("" if none says so).
        data: Its content.
        job: The job.
        environment: What it was made with; see `environment.describe`.
    """
    digest = content_digest(data)
    if is_png(data):
        facts = made_with_facts(environment, named, digest)
        try:
            data = replace_texts(data, {PROMPT: job.prompt, MADE_WITH: facts})
        except PictureError:
            pass  # what a node wrote is handed on as it is
    name, file = PurePosixPath(named.file.filename), named.file
    return OutputFile(named.node_id, named.position, name.name, file.subfolder, file.type, data, digest)


def made_with_facts(environment: Mapping[str, Any], named: NamedFile, digest: str) -> dict[str, Any]:
    """Return the content of a picture's chunk `made_with`.

    Args:
        environment: What it was made with; see `environment.describe`.
        named: The node that wrote it, and its place among the node's files.
        digest: The picture's `content_digest`.
    """
    return {"environment": dict(environment), "node": named.node_id, "position": named.position, "digest": digest}

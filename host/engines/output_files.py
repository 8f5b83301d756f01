"""The files of a job: which ones its outputs name, in which order, under which names, and what is added to them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from host.engines.contract import Job, OutputFile
from host.engines.digests import content_digest
from host.engines.picture_metadata import MADE_WITH, PROMPT, is_png, replace_texts
from host.execution.shown_files import ShownFile, shown_files
from host.pictures import PictureError

__all__ = ["NamedFile", "finished_file", "made_with_facts", "named_files", "renumbered", "unnamed_files"]

# Where files lie that a job made. Nodes that show a file of the input folder did not make it.
_MADE_TYPES = ("output", "temp")
_NUMBERED = re.compile(r"(?P<before>.*_)\d{5,9}(?P<after>_?(?:\.[^.]*)?)", re.DOTALL)


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
    """Yield the files that a run's outputs name and that it made. Two equal nodes may name the same ones.

    The order is that of the prompt's nodes, whatever ran first or was cached. Nodes that a node of the prompt added
    follow it, by their ids.

    Args:
        outputs: {node id: ui result}: the history's "outputs".
        prompt: The prompt.
        meta: The history's "meta", which knows the nodes that were added.
    """
    places = {node_id: place for place, node_id in enumerate(prompt)}

    def place(node_id: str) -> tuple[int, bool, str]:
        real_id = str(((meta or {}).get(node_id) or {}).get("real_node_id", node_id))
        return places.get(real_id, len(places)), node_id not in places, node_id

    for node_id in sorted(outputs, key=place):
        new = [file for file in shown_files(outputs[node_id]) if file.type in _MADE_TYPES]
        for position, file in enumerate(dict.fromkeys(new)):
            yield NamedFile(node_id, position, file)


def unnamed_files(folder: Path, paths: Iterable[Path]) -> list[tuple[Path, NamedFile]]:
    """Return files that no node names, in an order that does not depend on the numbers that they got.

    Args:
        folder: The output folder.
        paths: The files, in it.
    """

    def place(path: Path) -> tuple[str, str, str]:
        match = _NUMBERED.fullmatch(path.name)
        series = f"{match['before']}{match['after']}" if match else path.name
        return path.parent.as_posix(), series, content_digest(path.read_bytes())

    found = []
    for position, path in enumerate(sorted(paths, key=place)):
        subfolder = path.parent.relative_to(folder)
        shown = ShownFile(path.name, "" if subfolder == Path() else subfolder.as_posix(), "output")
        found.append((path, NamedFile("", position, shown)))
    return found


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
    return OutputFile(named.node_id, named.position, *named.file, data, digest)


def made_with_facts(environment: Mapping[str, Any], named: NamedFile, digest: str) -> dict[str, Any]:
    """Return the content of a picture's chunk `made_with`.

    Args:
        environment: What it was made with; see `environment.describe`.
        named: The node that wrote it, and its place among the node's files.
        digest: The picture's `content_digest`.
    """
    return {"environment": dict(environment), "node": named.node_id, "position": named.position, "digest": digest}


def renumbered(
    files: Sequence[OutputFile], outputs: Mapping[str, Mapping[str, Any]]
) -> tuple[tuple[OutputFile, ...], dict[str, dict[str, list[Any]]]]:
    """Number the kept files of a job from 1 on, in their order.

    The numbers that the nodes took depend on which node ran first, so on what was cached, and on the files that were
    there before.

    Args:
        files: The files, in the order of `named_files`; then those of `unnamed_files`.
        outputs: The history's "outputs", which name them.

    Returns:
        The files, and outputs that name them so.
    """
    taken: Counter[tuple[str, ...]] = Counter()
    renamed: list[OutputFile] = []
    names: dict[ShownFile, str] = {}
    for file in files:
        match = _NUMBERED.fullmatch(file.filename)
        if match is None or file.type != "output":
            renamed.append(file)
            continue
        old, series = ShownFile(file.filename, file.subfolder, file.type), (file.subfolder, *match.groups())
        if old not in names:
            taken[series] += 1
            names[old] = f"{match['before']}{taken[series]:05}{match['after']}"
        renamed.append(replace(file, filename=names[old]))
    return tuple(renamed), {
        node_id: {key: _with_names(value, names) for key, value in ui.items()} for node_id, ui in outputs.items()
    }


def _with_names(values: Any, names: Mapping[ShownFile, str]) -> Any:
    """Return one list of a ui result with other file names."""
    if not isinstance(values, (list, tuple)):
        return values
    changed = []
    for value in values:
        found = [names[file] for file in shown_files({"": [value]}) if file in names]
        changed.append({**value, "filename": found[0]} if found else value)
    return changed

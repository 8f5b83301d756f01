"""Compares a saved picture with the files of the run that should make it again."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from host.engines.contract import OutputFile
from host.engines.picture_metadata import made_with, read_texts
from host.error_format import show
from host.pictures import PictureError
from host.verify.differences import Fact, IncomparableError, PixelDifference, compare_pixels, differing_facts
from host.verify.saved_picture import SavedPicture, UnverifiableError

__all__ = ["Verdict", "judge"]

_MAX_FACTS = 20
_DIGEST = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Verdict:
    """What is known of a picture.

    Attributes:
        picture: The file, as the user named it.
        status: "identical", "different", or "unverified" if it could not be compared.
        finding: What was found, in one sentence.
        details: Further sentences.
    """

    picture: str
    status: Literal["identical", "different", "unverified"]
    finding: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Match:
    """The file of the run that a picture is compared with, and how they differ: None if they do not."""

    file: OutputFile
    difference: PixelDifference | None


def judge(picture: SavedPicture, files: Sequence[OutputFile], environment: dict[str, Any]) -> Verdict:
    """Compare a picture with what a run of its prompt gave.

    Args:
        picture: The picture.
        files: The files of the run.
        environment: What the run was made with, for files that do not say it.
    """
    origin, details = picture.origin, list[str]()
    exact = [file for file in files if origin and (file.node_id, file.position) == (origin.node, origin.position)]
    try:
        match = _nearest(picture, exact or files)
    except (IncomparableError, UnverifiableError) as error:
        status: Literal["different", "unverified"] = (
            "different" if isinstance(error, IncomparableError) else "unverified"
        )
        return Verdict(str(picture.path), status, str(error), _changed(picture, None))
    if not exact:
        where = f"node {match.file.node_id}, file {match.file.position + 1}"
        reason = (
            "it does not say what it was made with"
            if origin is None
            else f"the run has no file {origin.position + 1} of node {show(origin.node)}, as which it was saved"
        )
        details.append(f"{reason}, so it was compared with the nearest of the {len(files)} files of the run ({where})")
    details += _changed(picture, match.file)
    if origin is not None:
        details += _facts(differing_facts(origin.environment, _environment_of(match.file) or environment))
    finding = "identical" if match.difference is None else str(match.difference)
    return Verdict(str(picture.path), "identical" if match.difference is None else "different", finding, tuple(details))


def _nearest(picture: SavedPicture, files: Sequence[OutputFile]) -> _Match:
    """Return the file that is most like the picture.

    Raises:
        IncomparableError: All have another shape.
        UnverifiableError: There are none, or the picture cannot be read any more.
    """
    for file in files:
        if file.digest == picture.digest:
            return _Match(file, None)
    if not files:
        raise UnverifiableError("the run gives no files")
    data, refusal = picture.read(), IncomparableError("the run gives no pictures")
    found: list[tuple[PixelDifference, OutputFile]] = []
    for file in files:
        try:
            found.append((compare_pixels(data, file.data), file))
        except IncomparableError as error:
            refusal = error
    if not found:
        raise refusal
    difference, file = min(found, key=lambda pair: pair[0])
    return _Match(file, difference)


def _changed(picture: SavedPicture, file: OutputFile | None) -> tuple[str, ...]:
    """Say that a picture was edited after it was made, and whether the run gives what it was then."""
    if picture.origin is None or not picture.was_changed:
        return ()
    again = file is not None and file.digest == picture.origin.digest
    return (
        "it was changed since it was made: its pixels are not those that it was saved with"
        + ("; the run gives those again" if again else ""),
    )


def _environment_of(file: OutputFile) -> dict[str, Any] | None:
    try:
        facts = made_with(read_texts(file.data))
    except PictureError:
        return None
    environment = (facts or {}).get("environment")
    return environment if isinstance(environment, dict) else None


def _facts(facts: Sequence[Fact]) -> list[str]:
    """Say what was different when the picture was made. A picture's own words are quoted, and few."""
    lines = [f"{_plain(fact.name)}: made with {_value(fact.old)}, now {_value(fact.new)}" for fact in facts]
    rest = len(lines) - _MAX_FACTS
    return lines if rest <= 0 else [*lines[:_MAX_FACTS], f"and {rest} more"]


def _value(value: Any) -> str:
    if isinstance(value, str):
        return f"{value[:12]}..." if _DIGEST.fullmatch(value) else _plain(value)
    return "none" if value is None else show(value)


def _plain(text: str) -> str:
    """Return a text as it is if a terminal can show it, else as Python writes it: it may hold control characters."""
    return text if text.isascii() and text.isprintable() and len(text) <= 100 else show(text)

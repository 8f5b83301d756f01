"""What a saved picture says of itself: its prompt, and what it was made with. A picture is untrusted input."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from host.engines.digests import content_digest
from host.engines.picture_metadata import CONTACT_SHEET, PROMPT, is_png, made_with, read_texts
from host.limits import MAX_WORKFLOW_BYTES
from host.pictures import PictureError
from host.prompt_format import Prompt
from host.strict_json import dumps, parse_untrusted

__all__ = ["ContactSheetError", "Origin", "SavedPicture", "UnverifiableError", "read_picture"]


class UnverifiableError(Exception):
    """A picture cannot be verified. The message says why, and what would help."""


class ContactSheetError(Exception):
    """A picture is the contact sheet of a sweep: there is no prompt that made it."""


@dataclass(frozen=True)
class Origin:
    """The chunk `made_with` of a picture.

    Attributes:
        environment: What it was made with; see `environment.describe`. Only that it is a JSON object is known.
        node: The node that wrote it.
        position: Its place among the node's files.
        digest: Its digest when it was made.
    """

    environment: dict[str, Any]
    node: str
    position: int
    digest: str


@dataclass(frozen=True)
class SavedPicture:
    """A picture to verify.

    Attributes:
        path: The file, as the user named it.
        digest: The digest of its pixels as they are now.
        prompt: The prompt inside, not validated.
        origin: What it says it was made with, or None.
    """

    path: Path
    digest: str
    prompt: Prompt
    origin: Origin | None

    @property
    def was_changed(self) -> bool:
        """Whether its pixels are not those that it was made with."""
        return self.origin is not None and self.origin.digest != self.digest

    def read(self) -> bytes:
        """Return the file's content. Raises UnverifiableError."""
        return _read(self.path)

    def group(self) -> str:
        """Return what is equal for pictures that one run makes: the prompt, without what plays no role in a run."""
        nodes = {
            node_id: [node.get("class_type"), node.get("inputs")] if isinstance(node, dict) else node
            for node_id, node in self.prompt.items()
        }
        return dumps(nodes)


def read_picture(path: Path) -> SavedPicture:
    """Read a picture and what it says of itself.

    Raises:
        UnverifiableError: There is no such file, it is no PNG picture, or it has no prompt.
        ContactSheetError: It shows other pictures.
    """
    data = _read(path)
    if not is_png(data):
        raise UnverifiableError("it is not a PNG; only PNG pictures carry the prompt that made them")
    try:
        texts = read_texts(data)
    except PictureError as error:
        raise UnverifiableError(f"it cannot be read: {error}") from error
    if CONTACT_SHEET in texts and PROMPT not in texts:
        raise ContactSheetError
    return SavedPicture(path, content_digest(data), _prompt(texts), _origin(made_with(texts)))


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_WORKFLOW_BYTES + 1)
    except FileNotFoundError:
        raise UnverifiableError("there is no such file") from None
    except (OSError, ValueError) as error:
        raise UnverifiableError(f"it cannot be read: {error}") from error
    if len(data) > MAX_WORKFLOW_BYTES:
        raise UnverifiableError(f"it is larger than {MAX_WORKFLOW_BYTES >> 20} MiB")
    return data


def _prompt(texts: dict[str, str]) -> Prompt:
    if PROMPT not in texts:
        hint = (
            "it has the editor's graph only: `python -m host run` runs that"
            if "workflow" in texts
            else "whoever saved or sent it removed it, or it was never there"
        )
        raise UnverifiableError(f"it contains no prompt; {hint}")
    try:
        prompt = parse_untrusted(texts[PROMPT].encode())
    except ValueError as error:
        raise UnverifiableError(f"the prompt inside cannot be read: {error}") from error
    if not isinstance(prompt, dict):
        raise UnverifiableError(f"the prompt inside is no object of nodes by id, but {type(prompt).__name__}")
    return prompt


def _origin(facts: dict[str, Any] | None) -> Origin | None:
    """Return the content of `made_with`, or None if it is not what this host writes."""
    if facts is None:
        return None
    environment, node = facts.get("environment"), facts.get("node")
    position, digest = facts.get("position"), facts.get("digest")
    if not (isinstance(environment, dict) and isinstance(node, str) and isinstance(digest, str)):
        return None
    if not isinstance(position, int) or isinstance(position, bool):
        return None
    return Origin(environment, node, position, digest)

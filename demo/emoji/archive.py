"""The npm package with the pictures: fetched once, checked, and kept beside the build.

Nothing is unpacked to disk: the pictures are read from the archive in memory.
"""

from __future__ import annotations

import base64
import hashlib
import os
import urllib.request
from pathlib import Path

__all__ = ["INTEGRITY", "PACKAGE", "fetch_archive"]

PACKAGE = "@lobehub/fluent-emoji-3d 1.1.0"
ADDRESS = "@lobehub/fluent-emoji-3d/-/fluent-emoji-3d-1.1.0.tgz"
REGISTRY = "https://registry.npmjs.org/"
INTEGRITY = "sha512-Wlq2lVStTnr8BDpIJ0pEnTKO4LuDxxqTEhTvRtD1DLRF0me7ogeRQjKoehDHXuVJ2Qaecgl5wRBv60lUAG3h7g=="
KEPT = Path(__file__).parents[2] / "build" / "fluent-emoji-3d-1.1.0.tgz"
PATIENCE_S = 60.0


def fetch_archive(archive: Path | None = None) -> bytes:
    """Return the content of the package.

    Args:
        archive: The package's .tgz file; None to use the copy kept in build/, or to fetch it from the npm registry
            (the one that NPM_CONFIG_REGISTRY names, if it is set) and keep it.

    Raises:
        ValueError: The content is not that of the package.
        OSError: The file cannot be read, or the registry not reached.
    """
    kept = KEPT if archive is None else archive
    if archive is not None or KEPT.exists():
        return _checked(kept.read_bytes(), str(kept))
    address = os.environ.get("NPM_CONFIG_REGISTRY", REGISTRY).rstrip("/") + "/" + ADDRESS
    if not address.startswith("https://"):
        raise ValueError(f"NPM_CONFIG_REGISTRY must be an https address, got {address!r:.80}")
    with urllib.request.urlopen(address, timeout=PATIENCE_S) as answer:
        content = _checked(answer.read(), address)
    kept.parent.mkdir(parents=True, exist_ok=True)
    temporary = kept.with_name(f".{kept.name}.{os.getpid()}.tmp")
    temporary.write_bytes(content)
    os.replace(temporary, kept)
    return content


def _checked(content: bytes, source: str) -> bytes:
    """Compare the content with the package's entry in the registry."""
    found = "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()
    if found != INTEGRITY:
        raise ValueError(f"{source} must be {PACKAGE} with {INTEGRITY}, got {found}; remove it to fetch it again")
    return content

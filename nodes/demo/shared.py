"""What the demo nodes share."""

from __future__ import annotations

from ...ddim import DDIMError

__all__ = ["CATEGORY", "SEPARATORS", "SIZE", "digits_of", "lines_of"]

CATEGORY = "DDIM/demo"
SIZE = 32  # pixels per side
MOST_LINES = 4096
SEPARATORS = "spaces and commas are ignored"


def digits_of(digits: str) -> list[int]:
    """Return the digits of a text.

    Raises:
        DDIMError: For anything but digits, spaces and commas.
    """
    characters = "".join(digits.replace(",", " ").split())
    bad = sorted(set(characters) - set("0123456789"))
    if bad:
        raise DDIMError(f"digits must be 0 to 9, spaces or commas, got {bad[0]!r} in {digits!r:.60}")
    return [int(digit) for digit in characters]


def lines_of(prompts: str) -> list[str]:
    """Return the lines of a text that say something.

    Raises:
        DDIMError: There are too many.
    """
    lines = [line.strip() for line in prompts.splitlines() if line.strip()]
    if len(lines) > MOST_LINES:
        raise DDIMError(f"prompts must have at most {MOST_LINES} lines, one per image, got {len(lines)}")
    return lines

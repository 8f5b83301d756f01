"""Markdown of the page: tables, and sentences that are true of what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["joined", "table", "verdict"]


def table(head: Sequence[object], rows: Mapping[str, Sequence[str]]) -> str:
    """Format a table: the head names all columns, a row is its first cell and the others."""
    lines = ["| " + " | ".join(map(str, head)) + " |", "|---" * len(head) + "|"]
    lines += ["| " + " | ".join((name, *cells)) + " |" for name, cells in rows.items()]
    return "\n".join(lines)


def joined(parts: Sequence[object]) -> str:
    """Join with commas and "and"."""
    words = [str(part) for part in parts]
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def verdict(claim: str, held: Sequence[object], missed: Sequence[object], what: str = "S =") -> str:
    """Say where a claim of the paper holds here, and where it does not.

    Args:
        claim: As a clause: "eta 0 is best".
        held: The columns in which it does.
        missed: Those in which it does not.
        what: What the columns are.
    """
    if not missed:
        return f"**Holds**: {claim}, at {what} {joined(held)}."
    if not held:
        return f"**Does not hold** here: {claim}. It fails at {what} {joined(missed)}."
    return f"**Holds in part**: {claim} at {what} {joined(held)}, but not at {what} {joined(missed)}."

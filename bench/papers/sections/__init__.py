"""The tables, in the order of the page."""

from bench.papers.cells import Section

from . import brightness, consistency, edits, fitted, quality, quality_exact, reconstruction, wall_clock

__all__ = ["SECTIONS"]

SECTIONS: tuple[Section, ...] = (
    quality.SECTION,
    quality_exact.SECTION,
    consistency.SECTION,
    reconstruction.SECTION,
    wall_clock.SECTION,
    brightness.SECTION,
    edits.SECTION,
    fitted.SECTION,
)

"""Examples with the demo model: edits of inverted pictures."""

from __future__ import annotations

from collections.abc import Mapping

from bench.templates.demo_inversion import EIGHT, NOTHING, THREE, before_and_after, inverted, sampled, scans
from bench.templates.described import PURPLE, YELLOW, Box, Template, group

__all__ = ["TEMPLATES"]


def edit(
    name: str,
    prefix: str,
    invert: Mapping[str, object],
    sample: Mapping[str, object],
    wires: Mapping[str, str] | None = None,
) -> Template:
    """Return an example that turns 3s into 8s."""
    return Template(
        name,
        (
            group(
                "1  Picture and prompts", (Box("model", "DDIMDemoModel"), *scans("33333333")), (THREE, EIGHT, NOTHING)
            ),
            group(
                "2  Invert",
                (inverted("invert", "encode_scans", "source", invert),),
                color=YELLOW,
            ),
            group("3  Sample", (sampled("sample", "invert", "edited", sample, wires=wires),), color=PURPLE),
            before_and_after(prefix, "sample.latent"),
        ),
        (
            ("scans", "digits", "Digits to edit"),
            ("source", "digits", "What they show"),
            ("edited", "digits", "What they become"),
            ("sample", "cfg", "How firmly the new prompt is followed"),
        ),
        ("before", "after"),
    )


EDIT = edit(
    "Edit a picture - a 3 becomes an 8",
    "edit",
    {"method": "variance_noise", "seed": 1, "noise_path": "edit_friendly", "steps": 30},
    {"cfg": 2.0},
)

PROXIMAL = edit(
    "Edit a picture - keep the background",
    "proximal",
    {"method": "ddim", "steps": 30},
    {"cfg": 2.0, "proximal": "soft", "proximal_quantile": 0.7},
    {"source": "source"},
)

TWO_EDITS = Template(
    "Edit a picture - add and remove",
    (
        group(
            "1  Picture and edits",
            (Box("model", "DDIMDemoModel"), *scans("33333333"), NOTHING),
            (
                Box("away", "DDIMDemoPrompt", {"digits": "3"}, title="What is taken away"),
                Box("there", "DDIMDemoPrompt", {"digits": "8"}, title="What is put there"),
                Box(
                    "remove",
                    "DDIMEditGuidance",
                    {"edit_weight": -3.0},
                    {"model": "model", "edit": "away"},
                    "Take the 3 away",
                ),
                Box(
                    "add",
                    "DDIMEditGuidance",
                    {"edit_weight": 3.0},
                    {"model": "remove", "edit": "there"},
                    "Put an 8 there",
                ),
            ),
        ),
        group(
            "2  Invert",
            (
                inverted(
                    "invert",
                    "encode_scans",
                    "nothing",
                    {"method": "variance_noise", "seed": 1, "noise_path": "edit_friendly", "steps": 30},
                ),
            ),
            color=YELLOW,
        ),
        group(
            "3  Sample", (sampled("sample", "invert", "nothing", {"cfg": 1.0}, wires={"model": "add"}),), color=PURPLE
        ),
        before_and_after("edit_guidance", "sample.latent"),
    ),
    (
        ("scans", "digits", "Digits to edit"),
        ("away", "digits", "What is taken away"),
        ("there", "digits", "What is put there"),
        ("add", "edit_weight", "How strongly it is put there"),
    ),
    ("before", "after"),
)

TEMPLATES = (EDIT, PROXIMAL, TWO_EDITS)

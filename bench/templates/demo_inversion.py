"""Examples with the demo model: inversion and edits, which two wires lead from DDIM Invert to DDIM KSampler."""

from __future__ import annotations

from collections.abc import Mapping

from bench.templates.demo_basics import shown
from bench.templates.described import GREEN, PURPLE, YELLOW, Box, Group, Template, group

__all__ = [
    "EIGHT",
    "NOTHING",
    "TEMPLATES",
    "THREE",
    "before_and_after",
    "frames_between",
    "inverted",
    "sampled",
    "scans",
]

NOTHING = Box("nothing", "DDIMDemoPrompt", {"digits": ""}, title="No prompt")
EIGHT = Box("edited", "DDIMDemoPrompt", {"digits": "8"}, title="What it becomes")
THREE = Box("source", "DDIMDemoPrompt", {"digits": "3"}, title="What it shows")


def scans(digits: str, key: str = "scans", title: str = "", scan: int = 0) -> tuple[Box, ...]:
    """Return held-out scans and their latents, ``encode_<key>``."""
    return (
        Box(key, "DDIMDemoPicture", {"digits": digits, "scan": scan}, title=title),
        Box(f"encode_{key}", "DDIMDemoEncode", {}, {"image": key}),
    )


def inverted(
    key: str, latent: str, positive: str, values: Mapping[str, object], title: str = "", negative: str = "nothing"
) -> Box:
    """Return a DDIM Invert."""
    wires = {"model": "model", "positive": positive, "negative": negative, "latent_image": latent}
    return Box(key, "DDIMInvert", {"steps": 20, **values}, wires, title)


def sampled(
    key: str,
    invert: str,
    positive: str,
    values: Mapping[str, object],
    title: str = "",
    wires: Mapping[str, str] | None = None,
) -> Box:
    """Return a DDIM KSampler on an inversion: two wires, and the inversion brings its steps and eta."""
    from_inversion = {"latent_image": f"{invert}.latent", "variance_noise": f"{invert}.variance_noise"}
    prompts = {"model": "model", "positive": positive, "negative": "nothing"}
    return Box(key, "DDIMSample", values, {**prompts, **from_inversion, **(wires or {})}, title)


def before_and_after(prefix: str, latent: str, columns: int = 8, source: str = "encode_scans") -> Group:
    """Return the group that compares the pictures with a result."""
    return group(
        "4  Compare",
        (
            *shown("before", source, f"{prefix}/before", columns, "Before"),
            *shown("after", latent, f"{prefix}/after", columns, "After"),
        ),
        color=GREEN,
    )


def _two_methods() -> tuple[Group, ...]:
    values = {"cfg": 1.0}
    results = {
        "original": ("Original", "encode_scans"),
        "plain": ("Plain DDIM inversion", "sample_plain.latent"),
        "exact": ("Recorded noise", "sample_exact.latent"),
    }
    pictures = {
        name: shown(name, latent, f"inversion/{name}", 10, title, folded=True)
        for name, (title, latent) in results.items()
    }
    return (
        group(
            "1  Picture",
            (
                Box("model", "DDIMDemoModel"),
                *scans("0123456789"),
                Box("source", "DDIMDemoPrompt", {"digits": "0123456789"}, title="What they show"),
                NOTHING,
            ),
        ),
        group(
            "2  Invert",
            (
                inverted("invert_plain", "encode_scans", "source", {"method": "ddim"}, "Plain: each step backwards"),
                inverted(
                    "invert_exact",
                    "encode_scans",
                    "source",
                    {"method": "variance_noise", "seed": 1},
                    "Recorded: the noise of each step",
                ),
            ),
            color=YELLOW,
        ),
        group(
            "3  Sample",
            (
                sampled("sample_plain", "invert_plain", "source", values),
                sampled("sample_exact", "invert_exact", "source", values),
            ),
            color=PURPLE,
        ),
        group("4  Compare", (*pictures["original"], *pictures["plain"], *pictures["exact"]), color=GREEN),
    )


ROUND_TRIP = Template(
    "Invert and reconstruct",
    _two_methods(),
    (
        ("scans", "digits", "Digits to invert"),
        ("source", "digits", "What they show"),
        ("invert_plain", "method", "Method of the first"),
    ),
    ("original", "plain", "exact"),
)


def frames_between() -> Group:
    """Return the group that samples what lies between ``invert_from`` and ``invert_to``."""
    ends = {"latent_a": "invert_from.latent", "latent_b": "invert_to.latent"}
    wires = {"model": "model", "positive": "nothing", "negative": "nothing", "latent_image": "path"}
    boxes = (Box("path", "DDIMInterpolate", {"frames": 9}, ends), Box("sample", "DDIMSample", {"cfg": 1.0}, wires))
    return group("3  Between them", boxes, color=PURPLE)


def _between() -> tuple[Group, ...]:
    values = {"method": "fixed_point", "refinements": 2}
    return (
        group(
            "1  Two pictures",
            (Box("model", "DDIMDemoModel"), NOTHING),
            (*scans("307", "from", "From", 3), *scans("852", "to", "To", 2)),
        ),
        group(
            "2  Invert",
            (
                inverted("invert_from", "encode_from", "nothing", values),
                inverted("invert_to", "encode_to", "nothing", values),
            ),
            color=YELLOW,
        ),
        frames_between(),
        group(
            "4  Frames", shown("frames", "sample.latent", "interpolation/frames", 9, "From left to right"), color=GREEN
        ),
    )


INTERPOLATE = Template(
    "Interpolate between pictures",
    _between(),
    (
        ("from", "digits", "From these digits"),
        ("to", "digits", "to these"),
        ("path", "frames", "Frames"),
    ),
    ("frames",),
)

SHARE = Template(
    "Share an inverted picture",
    (
        group(
            "1  Picture",
            (Box("model", "DDIMDemoModel"), *scans("27", scan=1)),
            (
                Box("source", "DDIMDemoPrompt", {"digits": "27"}, title="What they show"),
                NOTHING,
            ),
        ),
        group(
            "2  Invert and save",
            (
                inverted("invert", "encode_scans", "source", {"method": "variance_noise", "seed": 1}),
                Box(
                    "save",
                    "DDIMSaveNoise",
                    {"filename_prefix": "noise/digits"},
                    {"variance_noise": "invert.variance_noise"},
                ),
            ),
            color=YELLOW,
        ),
        group(
            "3  Load and sample",
            (
                Box("load", "DDIMLoadNoise", {}, {"file_name": "save"}),
                sampled("sample", "load", "source", {"cfg": 1.0}),
            ),
            color=PURPLE,
        ),
        group("4  Picture", shown("picture", "sample.latent", "shared/digits", 2, "From the file"), color=GREEN),
    ),
    (("scans", "digits", "Digits to invert"), ("source", "digits", "What they show")),
    ("picture",),
)

FLOW = Template(
    "Flow model - sample and edit",
    (
        group(
            "1  Model, picture, prompts",
            (Box("model", "DDIMDemoModel", {"sampled_as": "flow"}), *scans("33333333"), NOTHING),
            (
                THREE,
                EIGHT,
                Box("positive", "DDIMDemoPrompt", {"digits": "01234567"}, title="What to sample"),
                Box("latent", "DDIMDemoLatent", {"batch_size": 8}),
            ),
        ),
        group(
            "2  Invert",
            (
                inverted(
                    "invert",
                    "encode_scans",
                    "source",
                    {"method": "variance_noise", "seed": 1, "noise_path": "edit_friendly", "steps": 20},
                ),
            ),
            color=YELLOW,
        ),
        group(
            "3  Sample",
            (
                sampled("edit", "invert", "edited", {"cfg": 2.0}, "Sample the 8 from the noise of the 3"),
                Box(
                    "sample",
                    "DDIMSample",
                    {"seed": 3, "cfg": 3.0},
                    {"model": "model", "positive": "positive", "negative": "nothing", "latent_image": "latent"},
                    "Sample from noise",
                ),
            ),
            color=PURPLE,
        ),
        group(
            "4  Compare",
            (
                *shown("before", "encode_scans", "flow/before", 8, "Before", folded=True),
                *shown("after", "edit.latent", "flow/after", 8, "After", folded=True),
                *shown("sampled", "sample.latent", "flow/sampled", 8, "Sampled", folded=True),
            ),
            color=GREEN,
        ),
    ),
    (
        ("scans", "digits", "Digits to edit"),
        ("source", "digits", "What they show"),
        ("edited", "digits", "What they become"),
        ("positive", "digits", "Digits to sample"),
    ),
    ("before", "after", "sampled"),
)

TEMPLATES = (ROUND_TRIP, INTERPOLATE, SHARE, FLOW)

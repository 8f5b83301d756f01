"""Examples with the demo model of emoji: words to pictures, edits by words, and what lies between two pictures."""

from __future__ import annotations

from bench.templates.demo_basics import sampler, shown
from bench.templates.demo_inversion import before_and_after, frames_between, inverted, sampled
from bench.templates.described import GREEN, PURPLE, YELLOW, Box, Template, group

__all__ = ["TEMPLATES"]

GUIDANCE = 2.0
EDIT_GUIDANCE = 1.5
NOTHING = Box("negative", "DDIMDemoTextPrompt", {"prompts": ""}, title="Nothing (for guidance)")
MODEL = Box("model", "DDIMDemoModel", {"draws": "emoji"})
WORDS = (
    "tiger face", "tiger face in blue", "octopus", "octopus in green",
    "rocket", "rocket in pink", "strawberry", "strawberry in purple",
    "robot face", "robot face in yellow", "sauropod", "sauropod in red",
    "any smiling face", "any heart", "any heart in orange", "any book in pink",
)  # fmt: skip
HELD_OUT = ("cow face", "orange heart", "green book", "rabbit face")
EDITED = ("cow face in blue", "orange heart in purple", "green book in red", "rabbit face in pink")


def words(key: str, lines: tuple[str, ...], title: str) -> Box:
    """Return a prompt with one line per picture."""
    return Box(key, "DDIMDemoTextPrompt", {"prompts": "\n".join(lines)}, title=title)


def emoji(key: str, lines: tuple[str, ...], title: str) -> tuple[Box, ...]:
    """Return held-out emoji and their latents, ``encode_<key>``."""
    return (
        Box(key, "DDIMDemoEmoji", {"prompts": "\n".join(lines)}, title=title),
        Box(f"encode_{key}", "DDIMDemoEncode", {}, {"image": key}),
    )


FROM_WORDS = Template(
    "Emoji - from words",
    (
        group(
            "1  Model and prompt",
            (MODEL, words("positive", WORDS, "What to draw"), NOTHING),
            (Box("latent", "DDIMDemoLatent", {"batch_size": len(WORDS)}),),
        ),
        group("2  Steps", (Box("schedule", "DDIMSchedule", {}, {"model": "model"}),), color=YELLOW),
        group(
            "3  Sample",
            (sampler("sample", "latent", {"seed": 5, "cfg": GUIDANCE}, schedule="schedule.schedule"),),
            color=PURPLE,
        ),
        group("4  Picture", shown("picture", "sample.latent", "emoji", 4), color=GREEN),
    ),
    (
        ("positive", "prompts", "Emoji to draw, one per line"),
        ("latent", "batch_size", "How many pictures"),
        ("sample", "seed", "Seed"),
        ("sample", "cfg", "How firmly the prompt is followed"),
    ),
    ("picture",),
)

EDIT = Template(
    "Emoji - edit by words",
    (
        group(
            "1  Pictures and prompts",
            (MODEL, *emoji("emoji", HELD_OUT, "Pictures that the model has not seen")),
            (words("source", HELD_OUT, "What they show"), words("edited", EDITED, "What they become")),
        ),
        group(
            "2  Invert",
            (
                inverted(
                    "invert",
                    "encode_emoji",
                    "source",
                    {"method": "variance_noise", "seed": 1, "steps": 30},
                    negative="source",
                ),
            ),
            color=YELLOW,
        ),
        group(
            "3  Sample",
            (sampled("sample", "invert", "edited", {"cfg": EDIT_GUIDANCE}, wires={"negative": "source"}),),
            color=PURPLE,
        ),
        before_and_after("emoji_edit", "sample.latent", len(HELD_OUT), source="encode_emoji"),
    ),
    (
        ("emoji", "prompts", "Pictures to edit"),
        ("source", "prompts", "What they show"),
        ("edited", "prompts", "What they become"),
        ("sample", "cfg", "How firmly the new prompt is followed"),
    ),
    ("before", "after"),
)

ENDS = (("cow face", "rabbit face"), ("grinning face with star eyes", "smiling cat face with heart-shaped eyes"))

INTERPOLATE = Template(
    "Emoji - interpolate",
    (
        group(
            "1  Two pairs of pictures",
            (MODEL, words("nothing", ("any face",), "What lies between")),
            (
                *emoji("from", tuple(pair[0] for pair in ENDS), "From"),
                *emoji("to", tuple(pair[1] for pair in ENDS), "To"),
            ),
        ),
        group(
            "2  Invert",
            (
                inverted("invert_from", "encode_from", "nothing", {"method": "fixed_point"}),
                inverted("invert_to", "encode_to", "nothing", {"method": "fixed_point"}),
            ),
            color=YELLOW,
        ),
        frames_between(),
        group("4  Frames", shown("frames", "sample.latent", "emoji_interpolate", 9, "From left to right"), color=GREEN),
    ),
    (
        ("from", "prompts", "From these pictures"),
        ("to", "prompts", "to these"),
        ("nothing", "prompts", "What lies between"),
        ("path", "frames", "Frames"),
    ),
    ("frames",),
)

TEMPLATES = (FROM_WORDS, EDIT, INTERPOLATE)

"""Examples with the demo model: inversion and edits, which two wires lead from DDIM Invert to DDIM KSampler."""

from __future__ import annotations

from bench.templates.demo_basics import shown
from bench.templates.described import GREEN, PURPLE, YELLOW, Box, Group, Template, group

__all__ = ["TEMPLATES"]

LEVELS = {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction", "steps": 30}
NOTHING = Box("nothing", "DDIMDemoPrompt", {"digits": ""}, title="No prompt")
EIGHT = Box("edited", "DDIMDemoPrompt", {"digits": "8"}, title="What it becomes")
THREE = Box("source", "DDIMDemoPrompt", {"digits": "3"}, title="What it shows")


def scans(digits: str, key: str = "scans", title: str = "", scan: int = 0) -> tuple[Box, ...]:
    """Return held-out scans and their latents, ``encode_<key>``."""
    return (
        Box(key, "DDIMDemoPicture", {"digits": digits, "scan": scan}, title=title),
        Box(f"encode_{key}", "DDIMDemoEncode", {}, {"image": key}),
    )


def inverted(key: str, latent: str, positive: str, values: dict[str, object], title: str = "", schedule: str = "") -> Box:
    """Return a DDIM Invert."""
    wires = {"model": "model", "positive": positive, "negative": "nothing", "latent_image": latent}
    return Box(key, "DDIMInvert", values, {**wires, **({"schedule": schedule} if schedule else {})}, title)


def sampled(key: str, invert: str, positive: str, values: dict[str, object], title: str = "", **wires: str) -> Box:
    """Return a DDIM KSampler on an inversion: two wires, and the inversion brings its steps and eta."""
    from_inversion = {"latent_image": f"{invert}.latent", "variance_noise": f"{invert}.variance_noise"}
    prompts = {"model": "model", "positive": positive, "negative": "nothing"}
    return Box(key, "DDIMSample", values, {**prompts, **from_inversion, **wires}, title)


def before_and_after(prefix: str, latent: str, columns: int = 8) -> Group:
    """Return the group that compares the scans with a result."""
    return group(
        "4  Compare",
        (
            *shown("before", "encode_scans", f"{prefix}/before", columns, "Before"),
            *shown("after", latent, f"{prefix}/after", columns, "After"),
        ),
        color=GREEN,
    )


def edit(name: str, note: str, prefix: str, invert: dict[str, object], sample: dict[str, object], **wires: str) -> Template:
    """Return an example that turns 3s into 8s."""
    schedule = Box("schedule", "DDIMSchedule", LEVELS, {"model": "model"})
    return Template(
        name,
        note,
        (
            group("1  Picture and prompts", (Box("model", "DDIMDemoModel"), *scans("33333333")), (THREE, EIGHT, NOTHING)),
            group(
                "2  Invert",
                (schedule,),
                (inverted("invert", "encode_scans", "source", invert, schedule="schedule.schedule"),),
                color=YELLOW,
            ),
            group("3  Sample", (sampled("sample", "invert", "edited", sample, **wires),), color=PURPLE),
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
    "# Turn a 3 into an 8\n\n"
    "**DDIM Invert** takes the 3 apart and records the noise of every step. **DDIM KSampler** uses that noise again and "
    "puts an 8 together. What the prompts do not speak of stays: paper, ink, slant.\n\n"
    "* Two wires belong together: `latent` and `inversion`. The inversion brings its steps and its `eta`.\n"
    "* `cfg` of DDIM KSampler: how firmly the new prompt is followed. 2 is enough; 4 begins to change the tones.\n"
    "* `noise_path` of DDIM Invert: *edit_friendly* holds on to the structure, *cycle* leaves more freedom.\n"
    "* `denoise` below 1 on DDIM Schedule keeps more of the picture.\n"
    "* With the prompt left at 3 and cfg 1, the picture comes back exactly.",
    "edit",
    {"method": "variance_noise", "seed": 1, "noise_path": "edit_friendly"},
    {"cfg": 2.0},
)

PROXIMAL = edit(
    "Edit a picture - keep the background",
    "# Edit and keep the background\n\n"
    "Plain DDIM inversion with the prompt 3, then sampling with the prompt 8.\n\n"
    "* `source` is the prompt of the inversion. It takes the place of negative (negative-prompt inversion), so guidance "
    "pushes only where the two prompts disagree.\n"
    "* `proximal` ignores small disagreements, so the paper keeps its colour (ProxNPI). Set it to *off* and see the "
    "paper change.\n"
    "* `proximal_quantile`: the share of each picture that is left alone, 0.6 to 0.7.\n"
    "* `cfg`: higher follows the 8 more firmly.\n\n"
    "DDIM Invert may use any method. *variance_noise* keeps more at the same cost: *Edit a picture - a 3 becomes an 8*.",
    "proximal",
    {"method": "ddim", "seed": 1},
    {"cfg": 2.0, "proximal": "soft", "proximal_quantile": 0.7},
    source="source",
)

TWO_EDITS = Template(
    "Edit a picture - add and remove",
    "# Several edits at once\n\n"
    "The picture is inverted with recorded noise and **no prompt**: nobody has to describe it.\n\n"
    "* Each **DDIM Edit Guidance** adds what its prompt says, or removes it with a weight below 0. It acts only where it "
    "changes the prediction most (LEDITS++).\n"
    "* `edit_weight`: how strongly. 0 gives the picture back.\n"
    "* `edit_threshold`: the share of the picture that stays. 0.7 leaves room for a digit.\n"
    "* `warm_up`: edits begin later and keep more of the composition.\n"
    "* `cfg` stays at 1. Each edit costs one more model call in every step.",
    (
        group("1  Picture and edits", (Box("model", "DDIMDemoModel"), *scans("33333333"), NOTHING), (
            Box("away", "DDIMDemoPrompt", {"digits": "3"}, title="What is taken away"),
            Box("there", "DDIMDemoPrompt", {"digits": "8"}, title="What is put there"),
            Box("remove", "DDIMEditGuidance", {"edit_weight": -3.0}, {"model": "model", "edit": "away"}, "Take the 3 away"),
            Box("add", "DDIMEditGuidance", {"edit_weight": 3.0}, {"model": "remove", "edit": "there"}, "Put an 8 there"),
        )),
        group(
            "2  Invert",
            (Box("schedule", "DDIMSchedule", LEVELS, {"model": "model"}),),
            (
                inverted(
                    "invert",
                    "encode_scans",
                    "nothing",
                    {"method": "variance_noise", "seed": 1, "noise_path": "edit_friendly"},
                    schedule="schedule.schedule",
                ),
            ),
            color=YELLOW,
        ),
        group("3  Sample", (sampled("sample", "invert", "nothing", {"cfg": 1.0}, model="add"),), color=PURPLE),
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


def _two_methods() -> tuple[Group, ...]:
    values = {"cfg": 1.0}
    results = {
        "original": ("Original", "encode_scans"),
        "plain": ("Plain DDIM inversion", "sample_plain.latent"),
        "exact": ("Recorded noise", "sample_exact.latent"),
    }
    pictures = {name: shown(name, latent, f"inversion/{name}", 10, title) for name, (title, latent) in results.items()}
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
            (Box("schedule", "DDIMSchedule", {**LEVELS, "steps": 20}, {"model": "model"}),),
            (
                inverted("invert_plain", "encode_scans", "source", {"method": "ddim"}, "Plain: each step backwards", "schedule.schedule"),
                inverted(
                    "invert_exact",
                    "encode_scans",
                    "source",
                    {"method": "variance_noise", "seed": 1},
                    "Recorded: the noise of each step",
                    "schedule.schedule",
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
        Group("4  Compare", (pictures["original"], (*pictures["plain"], *pictures["exact"])), GREEN),
    )


ROUND_TRIP = Template(
    "Invert and reconstruct",
    "# A picture, its noise, and back\n\n"
    "Ten real scans that the model has never seen become noise and come back, in two ways.\n\n"
    "* **ddim** walks the steps backwards. Each step is a little wrong, and 20 steps show it: the panel lists the error "
    "of each picture.\n"
    "* **variance_noise** records the noise of every step, at the same cost. The picture comes back to rounding.\n"
    "* Two wires lead to DDIM KSampler, `latent` and `inversion`. The steps, `eta` and *add_noise* follow by themselves.\n"
    "* Try `fixed_point`, `edict` and `bdia` in the upper DDIM Invert.\n\n"
    "Your own pictures come in through *Load Image* and *DDIM Demo Encode*; with a checkpoint, through its VAE.",
    _two_methods(),
    (
        ("scans", "digits", "Digits to invert"),
        ("source", "digits", "What they show"),
        ("invert_plain", "method", "Method of the first"),
        ("schedule", "steps", "Steps"),
    ),
    ("original", "plain", "exact"),
)


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
            (Box("schedule", "DDIMSchedule", {**LEVELS, "steps": 20}, {"model": "model"}),),
            (
                inverted("invert_from", "encode_from", "nothing", values, schedule="schedule.schedule"),
                inverted("invert_to", "encode_to", "nothing", values, schedule="schedule.schedule"),
            ),
            color=YELLOW,
        ),
        group(
            "3  Between them",
            (
                Box("path", "DDIMInterpolate", {"frames": 9}, {"latent_a": "invert_from.latent", "latent_b": "invert_to.latent"}),
                Box(
                    "sample",
                    "DDIMSample",
                    {"cfg": 1.0},
                    {
                        "model": "model",
                        "positive": "nothing",
                        "negative": "nothing",
                        "latent_image": "path",
                        "schedule": "schedule.schedule",
                    },
                ),
            ),
            color=PURPLE,
        ),
        group("4  Frames", shown("frames", "sample.latent", "interpolation/frames", 9, "From left to right"), color=GREEN),
    )


INTERPOLATE = Template(
    "Interpolate between pictures",
    "# From one real digit to another\n\n"
    "Two scans are inverted, and the frames between their noises are sampled: figure 6 of the DDIM paper (2010.02502), "
    "with pictures that are not the model's own.\n\n"
    "* **DDIM Interpolate** goes along the arc between two noises (slerp), so every frame is a digit and none is a "
    "double exposure.\n"
    "* *fixed_point* inversion brings the ends back. `eta` stays 0, because the whole picture is in the latent.\n"
    "* Without `latent_b`, the path leads through all pictures of one batch; `loop` closes it.",
    _between(),
    (
        ("from", "digits", "From these digits"),
        ("to", "digits", "to these"),
        ("path", "frames", "Frames"),
        ("schedule", "steps", "Steps"),
    ),
    ("frames",),
)

SHARE = Template(
    "Share an inverted picture",
    "# A picture as a file of noise\n\n"
    "**DDIM Save Noise** writes the latent, the noise of every step and the schedule into one safetensors file in the "
    "output folder. **DDIM Load Noise** reads it and hands on the same two wires as DDIM Invert.\n\n"
    "To share: send the file with the workflow. Whoever gets it puts it into the input folder, chooses it in DDIM Load "
    "Noise, and removes the link to `file_name`. The file can run no code, and all of it is checked.\n\n"
    "`half` halves the size. The picture still comes back exactly, because the inversion rounds its noise in the same "
    "way (`noise_precision`).",
    (
        group("1  Picture", (Box("model", "DDIMDemoModel"), *scans("27", scan=1)), (
            Box("source", "DDIMDemoPrompt", {"digits": "27"}, title="What they show"),
            NOTHING,
        )),
        group(
            "2  Invert and save",
            (
                inverted("invert", "encode_scans", "source", {"method": "variance_noise", "seed": 1, "steps": 20}),
                Box("save", "DDIMSaveNoise", {"filename_prefix": "noise/digits"}, {"variance_noise": "invert.variance_noise"}),
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
    "# DDIM on a flow model\n\n"
    "Flux, SD3, Qwen-Image, Z-Image, Wan and AuraFlow are flow models. Here the demo network stands in for one: "
    "`sampled_as` is *flow*.\n\n"
    "* **DDIM KSampler** and **DDIM Invert** take the noise levels and the shift from the MODEL. ModelSamplingSD3 before "
    "them changes the shift.\n"
    "* Below: digits from noise at `eta` 0. That is the stock *euler*, step for step.\n"
    "* Above: the noise of every step of eight 3s is recorded, and an 8 is sampled with it.\n"
    "* `eta` means the same as for other models. ComfyUI counts eta in another way for flow models: its 1 is 0.86 to "
    "0.99 here, its 0.5 is 0.69 to 0.76.",
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
        Group(
            "4  Compare",
            (
                (
                    *shown("before", "encode_scans", "flow/before", 8, "Before"),
                    *shown("after", "edit.latent", "flow/after", 8, "After"),
                ),
                shown("sampled", "sample.latent", "flow/sampled", 8, "Sampled"),
            ),
            GREEN,
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

TEMPLATES = (EDIT, PROXIMAL, TWO_EDITS, ROUND_TRIP, INTERPOLATE, SHARE, FLOW)

"""Examples with the demo model: sampling. They run on every machine."""

from __future__ import annotations

from collections.abc import Mapping

from bench.templates.described import GREEN, PURPLE, YELLOW, Box, Group, Template, group

__all__ = ["TEMPLATES", "model_and_prompts", "shown"]

NOTHING = "No digit (for guidance)"


def model_and_prompts(positive: str, title: str = "Which digits", sampled_as: str = "v_prediction") -> tuple[Box, ...]:
    """Return the demo model, a prompt ``positive`` and the empty one, ``negative``."""
    return (
        Box("model", "DDIMDemoModel", {"sampled_as": sampled_as}),
        Box("positive", "DDIMDemoPrompt", {"digits": positive}, title=title),
        Box("negative", "DDIMDemoPrompt", {"digits": ""}, title=NOTHING),
    )


def sampler(key: str, latent: str, values: Mapping[str, object], title: str = "", schedule: str = "") -> Box:
    """Return a DDIM KSampler on the usual boxes."""
    wires = {"model": "model", "positive": "positive", "negative": "negative", "latent_image": latent}
    return Box(key, "DDIMSample", values, {**wires, **({"schedule": schedule} if schedule else {})}, title)


def shown(key: str, latent: str, prefix: str, columns: int, title: str = "", folded: bool = False) -> tuple[Box, ...]:
    """Return the boxes that turn a latent into a picture of ``columns`` digits a row, and save it."""
    values = {"columns": columns, "scale": 3}
    return (
        Box(f"decode_{key}", "DDIMDemoDecode", values, {"latent": latent}, folded=folded),
        Box(key, "SaveImage", {"filename_prefix": prefix}, {"images": f"decode_{key}"}, title),
    )


START = Template(
    "Start here - digits",
    (
        group(
            "1  Model and prompt",
            (*model_and_prompts("0123456789"), Box("latent", "DDIMDemoLatent", {"batch_size": 40})),
        ),
        group(
            "2  Steps",
            (Box("schedule", "DDIMSchedule", {}, {"model": "model"}),),
            color=YELLOW,
        ),
        group(
            "3  Sample",
            (
                sampler(
                    "sample",
                    "latent",
                    {"seed": 7, "cfg": 1.5, "guidance_rescale": 0.7},
                    schedule="schedule.schedule",
                ),
            ),
            color=PURPLE,
        ),
        group("4  Picture", shown("picture", "sample.latent", "digits", 10), color=GREEN),
    ),
    (
        ("positive", "digits", "Digits to draw, one per picture"),
        ("latent", "batch_size", "How many pictures"),
        ("schedule", "steps", "Steps"),
        ("sample", "seed", "Seed"),
        ("sample", "cfg", "How firmly the prompt is followed"),
        ("sample", "eta", "Noise in each step: 0 is DDIM, 1 is DDPM"),
    ),
    ("picture",),
)

ZERO_SNR = Template(
    "Zero SNR - a v-prediction model",
    (
        group(
            "1  Model and prompt",
            (*model_and_prompts("0123456789"), Box("latent", "DDIMDemoLatent", {"batch_size": 20})),
        ),
        group(
            "2  Two schedules",
            (
                Box(
                    "ordinary",
                    "DDIMSchedule",
                    {"steps": 10, "timestep_spacing": "leading", "prediction_type": "epsilon"},
                    {},
                    "Usual",
                ),
                Box("trained", "DDIMSchedule", {"steps": 10, "rescale_betas_zero_snr": True}, {}, "As it was trained"),
            ),
            color=YELLOW,
        ),
        group(
            "3  Sample",
            (sampler("wrong", "latent", {"seed": 7, "cfg": 1.5}, "Read as an ordinary model", "ordinary.schedule"),),
            (sampler("right", "latent", {"seed": 7, "cfg": 1.5}, "Read as it was trained", "trained.schedule"),),
            color=PURPLE,
        ),
        group(
            "4  Compare",
            (
                *shown("before", "wrong.latent", "zero_snr/before", 10, "Read as an ordinary model"),
                *shown("after", "right.latent", "zero_snr/after", 10, "Read as it was trained"),
            ),
            color=GREEN,
        ),
    ),
    (
        ("positive", "digits", "Digits to draw"),
        ("wrong", "seed", "Seed of the first"),
        ("right", "seed", "Seed of the second"),
    ),
    ("before", "after"),
)

IMAGE_TO_IMAGE = Template(
    "Image to image - digits",
    (
        group(
            "1  Model and prompt",
            model_and_prompts("5", "What it should show"),
        ),
        group(
            "2  Picture",
            (
                Box("scans", "DDIMDemoPicture", {"digits": "33333333"}),
                Box("encode", "DDIMDemoEncode", {}, {"image": "scans"}),
            ),
        ),
        group("3  Sample", (sampler("sample", "encode", {"seed": 5, "cfg": 2.0, "denoise": 0.7}),), color=PURPLE),
        group(
            "4  Compare",
            (
                *shown("before", "encode", "image_to_image/before", 8, "Before"),
                *shown("after", "sample.latent", "image_to_image/after", 8, "After"),
            ),
            color=GREEN,
        ),
    ),
    (
        ("scans", "digits", "The digits to start from"),
        ("positive", "digits", "What they become"),
        ("sample", "denoise", "How much changes"),
        ("sample", "seed", "Seed"),
    ),
    ("before", "after"),
)

INPAINT = Template(
    "Inpaint - digits",
    (
        group("1  Model and prompt", model_and_prompts("8", "What it should show")),
        group(
            "2  Picture and mask",
            (
                Box("scans", "DDIMDemoPicture", {"digits": "99999999"}),
                Box("encode", "DDIMDemoEncode", {"repaint": "lower half"}, {"image": "scans"}),
            ),
        ),
        group(
            "3  Sample", (sampler("sample", "encode", {"seed": 5, "cfg": 2.0, "eta": 0.5, "steps": 30}),), color=PURPLE
        ),
        group(
            "4  Compare",
            (
                *shown("before", "encode", "inpaint/before", 8, "Before"),
                *shown("after", "sample.latent", "inpaint/after", 8, "After"),
            ),
            color=GREEN,
        ),
    ),
    (
        ("scans", "digits", "The digits to start from"),
        ("encode", "repaint", "Which part is painted again"),
        ("positive", "digits", "What it should show"),
        ("sample", "seed", "Seed"),
    ),
    ("before", "after"),
)

CONFIG = """{
  "_class_name": "DDIMScheduler",
  "beta_end": 0.012,
  "beta_schedule": "scaled_linear",
  "beta_start": 0.00085,
  "clip_sample": false,
  "num_train_timesteps": 1000,
  "prediction_type": "v_prediction",
  "rescale_betas_zero_snr": true,
  "set_alpha_to_one": false,
  "timestep_spacing": "trailing"
}"""

FROM_CONFIG = Template(
    "Schedule from a config file - digits",
    (
        group(
            "1  Model and prompt",
            (*model_and_prompts("0123456789"), Box("latent", "DDIMDemoLatent", {"batch_size": 20})),
        ),
        group(
            "2  Steps",
            (Box("schedule", "DDIMScheduleFromConfig", {"config": CONFIG}, {}),),
            color=YELLOW,
        ),
        group(
            "3  Sample",
            (sampler("sample", "latent", {"seed": 7, "cfg": 1.5}, schedule="schedule.schedule"),),
            color=PURPLE,
        ),
        group("4  Picture", shown("picture", "sample.latent", "from_config", 10), color=GREEN),
    ),
    (("positive", "digits", "Digits to draw"), ("schedule", "steps", "Steps"), ("sample", "seed", "Seed")),
    ("picture",),
)


def _three_ways() -> tuple[Group, ...]:
    ways: dict[str, tuple[str, dict[str, object]]] = {
        "cfg": ("cfg 7.5 in every step", {"cfg": 7.5}),
        "cfg_plus_plus": ("CFG++ at 0.6", {"cfg": 0.6, "guidance_mode": "cfg++"}),
        "interval": ("cfg 7.5, only from 20 to 60 %", {"cfg": 7.5, "guidance_start": 0.2, "guidance_end": 0.6}),
    }
    samplers: tuple[Box, ...] = ()
    pictures: tuple[Box, ...] = ()
    for name, (title, values) in ways.items():
        samplers += (sampler(f"sample_{name}", "latent", {"seed": 7, **values}, title),)
        pictures += shown(name, f"sample_{name}.latent", f"guidance/{name}", 10, title, folded=True)
    check = {"model": "model", "positive": "positive", "latent_image": "latent"}
    return (
        group(
            "1  Model and prompt",
            (
                *model_and_prompts("0123456789"),
                Box("latent", "DDIMDemoLatent", {"batch_size": 10}),
                Box("check", "DDIMCheckModel", {}, check, "What does it predict?"),
            ),
        ),
        Group("2  Sample, three ways", (samplers[:2], samplers[2:]), PURPLE),
        group("3  Compare", pictures, color=GREEN),
    )


GUIDANCE = Template(
    "Guidance - CFG, CFG++, interval",
    _three_ways(),
    (
        ("positive", "digits", "Digits to draw"),
        ("sample_cfg", "cfg", "cfg of the first"),
        ("sample_cfg_plus_plus", "cfg", "lambda of CFG++"),
    ),
    ("cfg", "cfg_plus_plus", "interval"),
)


def _fitted() -> tuple[Group, ...]:
    fit = {"model": "model", "positive": "positive", "negative": "negative", "latent_image": "latent"}
    values = {"seed": 7, "cfg": 1.5}
    samplers = (
        sampler("sample_trailing_5", "latent", {**values, "steps": 5}, "5 steps, trailing"),
        sampler("sample_fitted_5", "latent", values, "5 steps, fitted", "fit.schedule"),
        sampler("sample_trailing_20", "latent", {**values, "steps": 20}, "20 steps, trailing"),
    )
    titles = {"trailing_5": "5 steps, trailing", "fitted_5": "5 steps, fitted", "trailing_20": "20 steps, trailing"}
    pictures = [shown(name, f"sample_{name}.latent", f"fitted/{name}", 8, text, True) for name, text in titles.items()]
    return (
        group(
            "1  Model and prompt",
            (*model_and_prompts("01234567"), Box("latent", "DDIMDemoLatent", {"batch_size": 8})),
        ),
        group(
            "2  Fit 5 steps",
            (
                Box("long", "DDIMSchedule", {"steps": 20}, {"model": "model"}, "The run to fit"),
                Box(
                    "fit",
                    "DDIMFitSteps",
                    {"steps": 5, "cfg": 1.5, "seed": 1, "grid": 40},
                    {**fit, "schedule": "long.schedule"},
                    "5 steps, fitted",
                ),
            ),
            color=YELLOW,
        ),
        Group("3  Sample", (samplers[:2], samplers[2:]), PURPLE),
        group("4  Compare", (*pictures[0], *pictures[1], *pictures[2]), color=GREEN),
    )


FITTED = Template(
    "Few steps - fitted to the model",
    _fitted(),
    (("positive", "digits", "Digits to draw"), ("fit", "steps", "Steps to fit"), ("sample_fitted_5", "seed", "Seed")),
    ("trailing_5", "fitted_5", "trailing_20"),
)

TEMPLATES = (START, ZERO_SNR, IMAGE_TO_IMAGE, INPAINT, FROM_CONFIG, GUIDANCE, FITTED)

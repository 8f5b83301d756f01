"""The demo models as a MODEL."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ...ddim import SchedulerConfig, make_schedule
from ..backend import current
from ..inputs import MODEL, InputTypes, choice
from ..values import Model
from .shared import CATEGORY

if TYPE_CHECKING:
    from ...demo import DemoModel, EmojiModel

__all__ = ["DDIMDemoModel"]

SAMPLED_AS = ("v_prediction", "flow")
DRAWS = ("digits", "emoji")


class DDIMDemoModel:
    """Loads one of the small diffusion models that come with the pack."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Loads one of the two small models that come with these nodes, of handwritten digits or of emoji: 32x32 "
        "pixels, v-prediction, zero terminal SNR. Runs in seconds without a GPU; every sampler can use it. As a flow "
        "model it shows how Flux or SD3 behave."
    )
    SEARCH_ALIASES = ["ddim demo", "digits", "emoji", "example model", "mnist"]
    RETURN_TYPES = (MODEL,)
    RETURN_NAMES = ("model",)
    OUTPUT_TOOLTIPS = (
        "The demo model. Its prompts come from DDIM Demo Prompt (digits) or DDIM Demo Text Prompt (emoji), its latents "
        "from DDIM Demo Latent.",
    )
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:
        sampled_as = (
            "v_prediction: as it was trained. flow: the same network behind a change of time and scale, as a flow "
            "model with the levels of SD3 at shift 1."
        )
        draws = (
            "digits: handwritten digits in tones from black to white; prompts from DDIM Demo Prompt. emoji: little "
            "pictures from words; prompts from DDIM Demo Text Prompt."
        )
        return {
            "required": {},
            "optional": {
                "sampled_as": choice(SAMPLED_AS, SAMPLED_AS[0], sampled_as),
                "draws": choice(DRAWS, DRAWS[0], draws),
            },
        }

    def load(self, sampled_as: str = SAMPLED_AS[0], draws: str = DRAWS[0]) -> tuple[Model]:
        from ...demo import FlowNetwork, load_demo_model, load_emoji_model  # here, so that importing the pack is fast

        loaders: dict[str, Callable[[], DemoModel | EmojiModel]] = {
            "digits": load_demo_model,
            "emoji": load_emoji_model,
        }
        demo = loaders[draws]()
        config = SchedulerConfig(**demo.scheduler_config)
        if sampled_as == "flow":
            alpha_bar = make_schedule(1, config).noise.alpha_bar
            return (current().flow_model_from_network(FlowNetwork(demo.network, alpha_bar)),)
        return (current().model_from_network(demo.network, config),)

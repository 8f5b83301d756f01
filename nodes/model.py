"""Nodes that change a MODEL, and one that looks at it: DDIM CFG Rescale, DDIM Model Sampling, DDIM Check Model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..ddim import (
    FLOW,
    VARIANCE_EXPLODING,
    VARIANCE_PRESERVING,
    DDIMError,
    PredictionCheck,
    Schedule,
    SchedulerConfig,
    SigmaConfig,
    edit_guide,
    find_prediction_type,
    make_schedule,
    output_from_x0,
    rescale_noise_cfg,
)
from .backend import (
    ModelFacts,
    Run,
    SamplingRequest,
    current,
    decided_output,
    guided_x0,
    remember_measured,
    timestep_reader,
)
from .inputs import LATENT, MODEL, InputTypes, inputs, socket
from .schedules import with_model_levels
from .values import Conditioning, Latent, Model

__all__ = ["DDIMCFGRescale", "DDIMEditGuidance", "DDIMCheckModel", "DDIMModelSampling"]

UNDECIDED = "undecided"


class DDIMCFGRescale:
    """Classifier-free guidance rescale, for any sampler."""

    CATEGORY = "DDIM/models"
    DESCRIPTION = (
        "Reduces the contrast that guidance adds (Lin et al. 2024, section 3.4), in the model's own output space. "
        "Works with every sampler and stacks with other patches. With it, leave guidance_rescale of DDIM KSampler at 0."
    )
    SEARCH_ALIASES = ["cfg rescale", "rescale cfg", "guidance rescale", "over-exposure", "zero snr", "ztsnr", "ddim"]
    RETURN_TYPES = (MODEL,)
    RETURN_NAMES = ("model",)
    OUTPUT_TOOLTIPS = ("A copy of the MODEL with the rescale.",)
    FUNCTION = "patch"

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:
        kind, options = inputs("guidance_rescale")["guidance_rescale"]
        return {"required": inputs("model"), "optional": {"guidance_rescale": (kind, {**options, "default": 0.7})}}

    def patch(self, model: Model, guidance_rescale: float = 0.7) -> tuple[Model]:
        return (current().with_output_patch(model, partial(rescale_noise_cfg, guidance_rescale=guidance_rescale)),)


class DDIMEditGuidance:
    """One edit prompt of LEDITS++, for any sampler."""

    CATEGORY = "DDIM/models"
    DESCRIPTION = (
        "Adds or removes what an edit prompt describes, only where it changes the prediction most (LEDITS++, Brack et "
        "al. 2023). Chain several for several edits at once. Made for images from DDIM Invert with recorded noise: "
        "invert and sample with an empty positive prompt at cfg 1. Works with every sampler and with DDIM CFG Rescale."
    )
    SEARCH_ALIASES = ["ledits", "ledits++", "edit", "semantic guidance", "sega", "edit guidance", "ddim"]
    RETURN_TYPES = (MODEL,)
    RETURN_NAMES = ("model",)
    OUTPUT_TOOLTIPS = ("A copy of the MODEL with the edit. It costs one more model evaluation in every step.",)
    FUNCTION = "patch"

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:
        return {"required": inputs("model", "edit"), "optional": inputs("edit_weight", "edit_threshold", "warm_up")}

    def patch(
        self,
        model: Model,
        edit: Conditioning,
        edit_weight: float = 5.0,
        edit_threshold: float = 0.9,
        warm_up: float = 0.0,
    ) -> tuple[Model]:
        guide = partial(edit_guide, weight=edit_weight, threshold=edit_threshold)
        return (current().with_edit(model, edit, guide, warm_up),)


class DDIMModelSampling:
    """Gives a MODEL the noise levels and the prediction type of a schedule."""

    CATEGORY = "DDIM/models"
    DESCRIPTION = (
        "Puts a schedule's noise levels (betas, zero SNR) and prediction type into the MODEL, so that stock samplers "
        "and schedulers use them too. Use it if a checkpoint was loaded as the wrong type. Not for flow models, whose "
        "shift ModelSamplingSD3 and ModelSamplingFlux set."
    )
    SEARCH_ALIASES = ["model sampling", "zero snr", "ztsnr", "v-pred", "v prediction", "betas", "ddim"]
    RETURN_TYPES = (MODEL,)
    RETURN_NAMES = ("model",)
    OUTPUT_TOOLTIPS = ("A copy of the MODEL with the schedule's noise levels.",)
    FUNCTION = "patch"

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:
        return {"required": inputs("model", "schedule")}

    def patch(self, model: Model, schedule: Schedule) -> tuple[Model]:
        backend = current()
        facts = backend.model_facts(model)
        prediction_type = decided_output(facts.prediction_type, schedule)
        if prediction_type is None and facts.kind == VARIANCE_PRESERVING:
            raise DDIMError(
                "the MODEL predicts neither epsilon, v nor x_0, so its noise levels cannot be replaced; use it as it is"
            )
        return (backend.with_levels(model, schedule.noise, prediction_type or "epsilon"),)


class DDIMCheckModel:
    """Which kind of checkpoint is it? Two model calls, and the settings that follow."""

    CATEGORY = "DDIM/models"
    DESCRIPTION = (
        "Finds out what a MODEL predicts (epsilon, v, x0 or flow) from two calls, says whether its noise levels reach "
        "zero SNR, and which settings of DDIM Schedule follow. Use it if pictures come out as noise or as grey mush: a "
        "v-prediction checkpoint that was loaded as epsilon does that."
    )
    SEARCH_ALIASES = [
        "check model",
        "prediction type",
        "v-pred",
        "v prediction",
        "epsilon",
        "zero snr",
        "ztsnr",
        "ddim",
    ]
    RETURN_TYPES = ("STRING", "STRING")
    RETURN_NAMES = ("report", "prediction_type")
    OUTPUT_TOOLTIPS = (
        "What was measured and what to set, in words.",
        "epsilon, v_prediction, sample, flow_prediction, inverted_flow_prediction, or undecided.",
    )
    FUNCTION = "check"
    OUTPUT_NODE = True  # it can be run with nothing connected to it

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:
        latent = socket(LATENT, "The size to check at, for instance an empty latent; what it shows does not matter.")
        return {"required": {**inputs("model", "positive"), "latent_image": latent}, "optional": inputs("seed")}

    def check(self, model: Model, positive: Conditioning, latent_image: Latent, seed: int = 0) -> dict[str, Any]:
        backend = current()
        facts = backend.model_facts(model)
        if facts.kind == VARIANCE_EXPLODING:
            report, found = "An EDM model: all of them predict the same, and there is nothing to set.", UNDECIDED
        else:
            keep: list[PredictionCheck] = []
            request = SamplingRequest(
                model, positive, positive, _pair(latent_image), _raw_schedule(facts), cfg=1.0, seed=seed
            )
            backend.run(request, partial(_measure, facts=facts, seed=seed, keep=keep.append))
            report, found = _advice(keep[0], facts), keep[0].prediction_type or UNDECIDED
            remember_measured(facts, keep[0].prediction_type)  # the plot of DDIM Schedule warns by it
        return {
            "ui": {"text": [report], "ddim_model_check": [{"lines": report.splitlines()}]},
            "result": (report, found),
        }


def _pair(latent: Latent) -> Latent:
    """Return two empty latents of the size of a LATENT: a bright and a dark picture are shown to the network."""
    samples = latent.get("samples")
    if not isinstance(samples, Tensor) or getattr(samples, "is_nested", False):
        return latent  # SamplingRequest refuses it
    sizes = {key: value for key, value in latent.items() if key not in ("noise_mask", "batch_index")}
    return {**sizes, "samples": torch.zeros_like(samples[:1]).repeat(2, *[1] * (samples.ndim - 1))}


def _raw_schedule(facts: ModelFacts) -> Schedule:
    """Return a schedule of two steps at the MODEL's own levels, by which a variance preserving output is not converted.

    A sample prediction is x_0 as it comes.
    """
    config: SchedulerConfig | SigmaConfig = with_model_levels(SchedulerConfig(clip_sample=False), facts)
    if facts.kind == VARIANCE_PRESERVING:
        config = replace(config, prediction_type="sample")
    return make_schedule(2, config)


def _measure(run: Run, facts: ModelFacts, seed: int, keep: Callable[[PredictionCheck], None]) -> Tensor:
    """Call the run's model twice, pass on what was found, and return the start of the run."""
    config, noise, timestep = facts.sigma_config, run.schedule.noise, timestep_reader(run.schedule)
    steps = iter(range(len(run.schedule.plan)))

    def network(x_t: Tensor, t: Tensor) -> Tensor:
        x0 = guided_x0(run.denoise(x_t, t))
        run.report(next(steps), x_t, x0)
        return x0 if config is None else output_from_x0(x0, x_t, noise.level_at(timestep(t)), config.prediction_type)

    keep(find_prediction_type(network, run.start, noise, seed=seed))
    return run.start


_WORDS = {
    "epsilon": "epsilon, the noise (epsilon)",
    "sample": "x0, the picture (sample)",
    "v_prediction": "v (v_prediction)",
    "flow_prediction": "the velocity of a flow, noise minus picture (flow_prediction)",
    "inverted_flow_prediction": "the velocity of a flow, picture minus noise (inverted_flow_prediction)",
}
_FLOWS = ("flow_prediction", "inverted_flow_prediction")


def _advice(found: PredictionCheck, facts: ModelFacts) -> str:
    kind = found.prediction_type
    says = f"The MODEL predicts {_WORDS[kind]}." if kind else f"Undecided: {found.reason}."
    measured = (
        f"Measured: for pure noise at the last timestep {found.last_noise_weight:.2f} of the noise is in the output "
        f"(correlation {found.correlation:.2f}); at alpha_bar {found.alpha_bar:.2f} the output is "
        f"{found.noise_weight:.2f} noise {found.picture_weight:+.2f} picture ({max(found.explained, 0):.0%} explained)."
    )
    levels = (
        "Its noise levels reach zero SNR: alpha_bar is 0 at the last timestep."
        if found.zero_snr
        else f"Its noise levels do not reach zero SNR: alpha_bar is {found.last_alpha_bar:.4g} at the last timestep."
    )
    return "\n".join([says, measured, levels, *_settings(found, facts)])


def _settings(found: PredictionCheck, facts: ModelFacts) -> list[str]:
    """Say what to set, one sentence each."""
    kind, declared = found.prediction_type, _declared(facts)
    if kind is None:
        return ["DDIM Schedule: leave prediction_type as the maker of the MODEL says, and compare two pictures."]
    if facts.kind == FLOW or kind in _FLOWS:
        if kind == declared:
            return ["DDIM Schedule: connect the MODEL; its settings for other models have no effect."]
        return [f"It is loaded as {declared}, which is another kind: load it with the loader that its maker names."]
    lines = []
    if kind == declared:
        lines.append("DDIM Schedule: connect the MODEL and leave prediction_type at 'from model'.")
    else:
        lines.append(f"It is loaded as {declared}: set prediction_type of DDIM Schedule to {kind}.")
    if kind == "epsilon":
        reached = "turn zero SNR off where the MODEL is loaded; from pure noise epsilon says nothing"
        return [*lines, f"rescale_betas_zero_snr: {reached if found.zero_snr else 'off'}."]
    on = "nothing to set, with timestep_spacing trailing"
    off = "on only if its maker says zero terminal SNR (ztsnr), which no call can tell"
    return [*lines, f"rescale_betas_zero_snr: {on if found.zero_snr else off}."]


def _declared(facts: ModelFacts) -> str | None:
    return facts.prediction_type if facts.sigma_config is None else facts.sigma_config.prediction_type

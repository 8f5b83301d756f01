"""In the place of diffusers' scheduler: Stable Diffusion pipelines with small, randomly initialised networks."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
import torch

from ddim import DDIMScheduler

diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own deprecations

SD = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "steps_offset": 1,
    "clip_sample": False,
    "set_alpha_to_one": False,
    "prediction_type": "v_prediction",
}


def tokenizer(folder):
    letters = [chr(code) for code in range(97, 123)]
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return transformers.CLIPTokenizer.from_pretrained(folder, model_max_length=16)


@pytest.fixture(scope="module")
def networks(tmp_path_factory) -> dict:
    """The parts of a pipeline but the scheduler, the same numbers every time and on every machine."""
    state = torch.get_rng_state()
    torch.manual_seed(0)
    try:
        parts = build_networks(tmp_path_factory.mktemp("tokenizer"))
    finally:
        torch.set_rng_state(state)
    return parts


def build_networks(folder) -> dict:
    words = tokenizer(folder)
    text = transformers.CLIPTextConfig(
        vocab_size=len(words), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=16, bos_token_id=52, eos_token_id=53, pad_token_id=53,
    )  # fmt: skip
    return {
        "vae": diffusers.AutoencoderKL(
            block_out_channels=(8, 8), norm_num_groups=4, latent_channels=4,
            down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        ).eval(),
        "text_encoder": transformers.CLIPTextModel(text).eval(),
        "tokenizer": words,
        "unet": diffusers.UNet2DConditionModel(
            sample_size=8, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, attention_head_dim=4,
            cross_attention_dim=16, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        ).eval(),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }  # fmt: skip


def make_pipe(networks: dict, kind: str = "StableDiffusionPipeline", scheduler=None):
    pipe = getattr(diffusers, kind)(**networks, scheduler=scheduler or diffusers.DDIMScheduler(**SD))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def picture(pipe, **arguments) -> np.ndarray:
    generator = torch.Generator().manual_seed(0)
    defaults = {"prompt": "a lion", "num_inference_steps": 10, "guidance_scale": 5.0, "output_type": "np"}
    return pipe(**{**defaults, **arguments}, generator=generator).images


def test_the_readme_example_of_diffusers_ddim_page_runs_with_our_class(networks) -> None:
    """Zero SNR, trailing spacing, guidance_rescale 0.7; 10 divides 1000, so both mean the same."""
    pictures = {}
    for name, scheduler_class in (("theirs", diffusers.DDIMScheduler), ("ours", DDIMScheduler)):
        pipe = make_pipe(networks)
        pipe.scheduler = scheduler_class.from_config(
            pipe.scheduler.config, rescale_betas_zero_snr=True, timestep_spacing="trailing"
        )
        assert type(pipe.scheduler) is scheduler_class
        pictures[name] = picture(pipe, prompt="a lion in galaxies", guidance_rescale=0.7)
    assert pictures["ours"].std() > 0.01
    assert np.abs(pictures["ours"] - pictures["theirs"]).max() < 2e-4


@pytest.mark.parametrize("parity", ["exact", "diffusers"])
@pytest.mark.parametrize("eta", [0.0, 0.8])
def test_text_to_image_gives_diffusers_picture(networks, parity: str, eta: float) -> None:
    theirs = picture(make_pipe(networks), eta=eta)
    ours = picture(make_pipe(networks, scheduler=DDIMScheduler(**SD, parity=parity)), eta=eta)
    assert np.abs(ours - theirs).max() < 2e-4


def test_where_the_rules_differ_parity_tells_which_is_followed(networks) -> None:
    settings = {**SD, "timestep_spacing": "linspace"}
    theirs = picture(make_pipe(networks, scheduler=diffusers.DDIMScheduler(**settings)), num_inference_steps=7)
    same = picture(make_pipe(networks, scheduler=DDIMScheduler(**settings, parity="diffusers")), num_inference_steps=7)
    exact = picture(make_pipe(networks, scheduler=DDIMScheduler(**settings)), num_inference_steps=7)
    assert np.abs(same - theirs).max() < 2e-4 < 10 * 2e-4 < np.abs(exact - theirs).max()


def test_image_to_image_gives_diffusers_picture(networks) -> None:
    arguments = {"image": torch.linspace(0, 1, 3 * 16 * 16).reshape(1, 3, 16, 16), "strength": 0.6}
    kind = "StableDiffusionImg2ImgPipeline"
    theirs = picture(make_pipe(networks, kind), **arguments)
    ours = picture(make_pipe(networks, kind, DDIMScheduler(**SD)), **arguments)
    assert np.abs(ours - theirs).max() < 2e-4


def test_inpainting_gives_diffusers_picture(networks) -> None:
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., :8] = 1
    arguments = {
        "image": torch.linspace(0, 1, 3 * 16 * 16).reshape(1, 3, 16, 16), "mask_image": mask, "height": 16, "width": 16,
    }  # fmt: skip
    kind = "StableDiffusionInpaintPipeline"
    theirs = picture(make_pipe(networks, kind), **arguments, strength=0.8)
    ours = picture(make_pipe(networks, kind, DDIMScheduler(**SD)), **arguments, strength=0.8)
    assert np.abs(ours - theirs).max() < 2e-4


def test_custom_timesteps_work_where_diffusers_ddim_has_none(networks) -> None:
    listed = [999, 750, 400, 90]
    pipe = make_pipe(networks, scheduler=DDIMScheduler(**SD))
    assert np.isfinite(picture(pipe, timesteps=listed, num_inference_steps=None)).all()
    assert pipe.scheduler.timesteps.tolist() == listed


def test_outdated_settings_are_mended_by_the_pipeline_as_in_diffusers(networks) -> None:
    """Pipelines replace steps_offset 0 and clip_sample True by assigning ``_internal_dict``."""
    outdated = {**SD, "steps_offset": 0, "clip_sample": True}
    pipe = make_pipe(networks, scheduler=DDIMScheduler(**outdated))
    assert pipe.scheduler.config.steps_offset == 1 and pipe.scheduler.config.clip_sample is False
    assert pipe.scheduler.settings.clip_sample is False
    theirs = picture(make_pipe(networks, scheduler=diffusers.DDIMScheduler(**outdated)))
    assert np.abs(picture(pipe) - theirs).max() < 2e-4


def test_other_schedulers_can_be_made_from_our_config_and_back(networks, caplog) -> None:
    pipe = make_pipe(networks, scheduler=DDIMScheduler(**SD, timestep_spacing="trailing"))
    with caplog.at_level(logging.WARNING):
        pipe.scheduler = diffusers.EulerDiscreteScheduler.from_config(pipe.scheduler.config, use_karras_sigmas=True)
        assert pipe.scheduler.config.timestep_spacing == "trailing"
        pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    assert "not expected" not in caplog.text and "unknown settings" not in caplog.text
    assert pipe.scheduler.settings == DDIMScheduler(**SD, timestep_spacing="trailing").settings
    assert pipe.scheduler.config["use_karras_sigmas"] is True  # kept for the way back


def test_callbacks_see_every_step(networks) -> None:
    seen = []

    def watch(pipe, index, timestep, values):
        seen.append((index, int(timestep), values["latents"].dtype))
        return values

    pipe = make_pipe(networks, scheduler=DDIMScheduler(**SD))
    picture(pipe, callback_on_step_end=watch, output_type="latent", num_inference_steps=3)
    assert [index for index, _, _ in seen] == [0, 1, 2]
    assert [t for _, t, _ in seen] == pipe.scheduler.timesteps.tolist()


def test_a_saved_pipeline_leaves_our_scheduler_to_its_own_file(networks, tmp_path) -> None:
    """diffusers saves subclasses of its own classes only; it says so and goes on."""
    scheduler = DDIMScheduler(**SD, timestep_spacing="trailing")
    make_pipe(networks, scheduler=scheduler).save_pretrained(tmp_path)
    assert not (tmp_path / "scheduler").exists()
    scheduler.save_pretrained(tmp_path / "scheduler")
    theirs = diffusers.DDIMScheduler.from_pretrained(tmp_path, subfolder="scheduler")
    assert theirs.config.timestep_spacing == "trailing"

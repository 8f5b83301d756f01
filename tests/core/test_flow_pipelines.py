"""In the place of diffusers' scheduler: Stable Diffusion 3 and Flux pipelines with small random networks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ddim import DDIMFlowScheduler

diffusers = pytest.importorskip("diffusers")
attention = pytest.importorskip("torch.nn.attention")  # diffusers needs it as well

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own deprecations

TO_ROUNDING = 5e-6  # of pictures in [0, 1]; 4e-7 to 7e-7 were measured

SD3 = {"shift": 3.0}
FLUX = {"shift": 3.0, "use_dynamic_shifting": True}
KINDS = {"StableDiffusion3Pipeline": SD3, "FluxPipeline": FLUX}


def autoencoder(channels: int) -> Any:
    return diffusers.AutoencoderKL(
        block_out_channels=(8, 8), norm_num_groups=4, latent_channels=channels, shift_factor=0.06, scaling_factor=1.5,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        use_quant_conv=False, use_post_quant_conv=False,
    ).eval()  # fmt: skip


def sd3_networks() -> dict[str, Any]:
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=8, patch_size=1, in_channels=4, out_channels=4, num_layers=1, attention_head_dim=8,
        num_attention_heads=2, caption_projection_dim=16, joint_attention_dim=32, pooled_projection_dim=16,
        pos_embed_max_size=16,
    ).eval()  # fmt: skip
    no_text = dict.fromkeys(("text_encoder", "text_encoder_2", "text_encoder_3"))
    no_words = dict.fromkeys(("tokenizer", "tokenizer_2", "tokenizer_3"))
    return {"transformer": transformer, "vae": autoencoder(4), **no_text, **no_words}


def flux_networks() -> dict[str, Any]:
    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1, in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, pooled_projection_dim=16, axes_dims_rope=[4, 4, 8],
    ).eval()  # fmt: skip
    nothing = dict.fromkeys(("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"))
    return {"transformer": transformer, "vae": autoencoder(1), **nothing}


@pytest.fixture(scope="module")
def networks() -> dict[str, dict[str, Any]]:
    """The parts of the pipelines but the scheduler, the same numbers every time."""
    state = torch.get_rng_state()
    torch.manual_seed(0)
    try:
        return {"StableDiffusion3Pipeline": sd3_networks(), "FluxPipeline": flux_networks()}
    finally:
        torch.set_rng_state(state)


def make_pipe(networks: dict, kind: str, settings: dict | None = None) -> Any:
    text_to_image = next(name for name in networks if kind.startswith(name.removesuffix("Pipeline")))
    settings = KINDS[text_to_image] if settings is None else settings
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(**settings)
    pipe = getattr(diffusers, kind)(**networks[text_to_image], scheduler=scheduler)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def with_ours(pipe: Any, **overrides) -> Any:
    pipe.scheduler = DDIMFlowScheduler.from_config(pipe.scheduler.config, **overrides)
    return pipe


def picture(pipe: Any, seed: int = 0, **arguments) -> np.ndarray:
    draw = torch.Generator().manual_seed(1)
    dtype = pipe.transformer.dtype
    names = ["prompt_embeds", "pooled_prompt_embeds"]
    if "3" in type(pipe).__name__:
        names += ["negative_prompt_embeds", "negative_pooled_prompt_embeds"]
    shapes = {name: (1, 16) if "pooled" in name else (1, 5, 32) for name in names}
    prompts = {name: torch.randn(shape, generator=draw).to(dtype) for name, shape in shapes.items()}
    defaults = {"num_inference_steps": 6, "output_type": "np", "height": 16, "width": 16}
    return pipe(**prompts, **{**defaults, **arguments}, generator=torch.Generator().manual_seed(seed)).images


def image() -> torch.Tensor:
    return torch.linspace(0, 1, 3 * 16 * 16).reshape(1, 3, 16, 16)


def left_half() -> torch.Tensor:
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., :8] = 1
    return mask


SETTINGS = (
    {},
    {"use_karras_sigmas": True},
    {"use_exponential_sigmas": True},
    {"use_beta_sigmas": True},
    {"shift_terminal": 0.1},
    {"use_dynamic_shifting": True, "time_shift_type": "linear"},
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: "-".join(settings) or "default")
def test_text_to_image_gives_diffusers_picture(networks, kind: str, settings: dict) -> None:
    settings = {**KINDS[kind], **settings}
    theirs = picture(make_pipe(networks, kind, settings))
    ours = picture(with_ours(make_pipe(networks, kind, settings)))
    assert theirs.std() > 0.01
    assert np.abs(ours - theirs).max() < TO_ROUNDING


@pytest.mark.parametrize("kind", KINDS)
def test_noise_makes_another_picture_the_same_for_the_same_generator(networks, kind: str) -> None:
    """Pipelines of flow models pass the scheduler no eta and no generator."""
    plain = picture(make_pipe(networks, kind))
    pipe = with_ours(make_pipe(networks, kind), eta=1.0)
    first, again, other = picture(pipe), picture(pipe), picture(pipe, seed=1)
    assert np.isfinite(first).all() and np.abs(first - plain).max() > 0.05
    assert np.array_equal(first, again) and np.abs(first - other).max() > 0.05
    assert np.array_equal(first, picture(with_ours(make_pipe(networks, kind), eta=1.0)))


@pytest.mark.parametrize("kind", ["StableDiffusion3Img2ImgPipeline", "FluxImg2ImgPipeline"])
def test_image_to_image_gives_diffusers_picture(networks, kind: str) -> None:
    arguments = {"image": image(), "strength": 0.6}
    pipe = make_pipe(networks, kind)
    theirs = picture(pipe, **arguments)
    positions = pipe.scheduler.begin_index, pipe.scheduler.step_index
    assert np.abs(picture(with_ours(pipe), **arguments) - theirs).max() < TO_ROUNDING
    assert (pipe.scheduler.begin_index, pipe.scheduler.step_index) == positions


def test_inpainting_gives_diffusers_picture(networks) -> None:
    kind = "FluxInpaintPipeline"
    arguments = {"image": image(), "mask_image": left_half(), "strength": 0.8, "num_inference_steps": 5}
    theirs = picture(make_pipe(networks, kind), **arguments)
    assert np.abs(picture(with_ours(make_pipe(networks, kind)), **arguments) - theirs).max() < TO_ROUNDING


@pytest.mark.parametrize("kind", KINDS)
def test_custom_sigmas(networks, kind: str) -> None:
    arguments = {"sigmas": [1.0, 0.8, 0.3], "num_inference_steps": 3}
    theirs = picture(make_pipe(networks, kind), **arguments)
    assert np.abs(picture(with_ours(make_pipe(networks, kind)), **arguments) - theirs).max() < TO_ROUNDING


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_half_precision_latents_stay_in_their_dtype(networks, dtype: torch.dtype, eta: float) -> None:
    parts = {"FluxPipeline": flux_networks()}
    pipe = with_ours(make_pipe(parts, "FluxPipeline"), eta=eta).to(dtype)
    seen = []

    def watch(pipe, index, timestep, values):
        seen.append((timestep.dtype, values["latents"].dtype))
        return values

    # With ATEN_CPU_CAPABILITY=default on a processor with bfloat16 units, torch's fused attention fails.
    with attention.sdpa_kernel(attention.SDPBackend.MATH):
        result = picture(pipe, callback_on_step_end=watch)
    assert seen == [(torch.float32, dtype)] * 6
    assert np.isfinite(result).all()


def test_a_pipeline_can_be_made_from_another_one(networks) -> None:
    pipe = with_ours(make_pipe(networks, "FluxPipeline"), eta=0.5)
    other = diffusers.FluxImg2ImgPipeline.from_pipe(pipe)
    assert other.scheduler is pipe.scheduler
    assert np.isfinite(picture(other, image=image(), strength=0.5)).all()

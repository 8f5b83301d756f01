"""``ddim.diffusers``: schedulers that diffusers' pipelines load and save as their own."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ddim

diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")
ours = pytest.importorskip("ddim.diffusers")

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own deprecations

PAIRS = {
    "DDIMScheduler": diffusers.DDIMScheduler,
    "DDIMInverseScheduler": diffusers.DDIMInverseScheduler,
    "DDIMFlowScheduler": diffusers.FlowMatchEulerDiscreteScheduler,
}
UNET_SETTINGS = {"clip_sample": False, "beta_end": 0.03}
FLUX_SETTINGS = {"shift": 3.0, "use_dynamic_shifting": True}


def text_parts() -> dict[str, Any]:
    """Flux insists on saving these, and is given embeddings instead of a prompt."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "vocab.json").write_text(json.dumps({"a": 0, "<|startoftext|>": 1, "<|endoftext|>": 2}))
        (Path(folder) / "merges.txt").write_text("#version: 0.2\n")
        tokenizer = transformers.CLIPTokenizer.from_pretrained(folder, model_max_length=16)
    config = transformers.CLIPTextConfig(
        vocab_size=3, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
    )
    encoder = transformers.CLIPTextModel(config).eval()
    return {"text_encoder": encoder, "text_encoder_2": encoder, "tokenizer": tokenizer, "tokenizer_2": tokenizer}


def flux(scheduler: Any) -> Any:
    torch.manual_seed(0)
    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1, in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, pooled_projection_dim=16, axes_dims_rope=[4, 4, 8],
    ).eval()  # fmt: skip
    vae = diffusers.AutoencoderKL(
        block_out_channels=(8, 8), norm_num_groups=4, latent_channels=1, shift_factor=0.06, scaling_factor=1.5,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        use_quant_conv=False, use_post_quant_conv=False,
    ).eval()  # fmt: skip
    return diffusers.FluxPipeline(transformer=transformer, vae=vae, scheduler=scheduler, **text_parts())


def unconditional(scheduler: Any) -> Any:
    torch.manual_seed(0)
    unet = diffusers.UNet2DModel(
        sample_size=8, in_channels=3, out_channels=3, layers_per_block=1, block_out_channels=(8, 8), norm_num_groups=4,
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
    ).eval()  # fmt: skip
    return diffusers.DDPMPipeline(unet=unet, scheduler=scheduler)


PIPELINES = {
    "flux": (flux, "DDIMFlowScheduler", FLUX_SETTINGS),
    "unconditional": (unconditional, "DDIMScheduler", UNET_SETTINGS),
}


def picture(pipe: Any) -> np.ndarray:
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    if isinstance(pipe, diffusers.DDPMPipeline):
        return pipe(num_inference_steps=4, generator=generator, output_type="np").images
    draw = torch.Generator().manual_seed(1)
    prompts = {
        "prompt_embeds": torch.randn(1, 5, 32, generator=draw),
        "pooled_prompt_embeds": torch.randn(1, 16, generator=draw),
    }
    size = {"height": 16, "width": 16}
    return pipe(**prompts, **size, num_inference_steps=4, generator=generator, output_type="np").images


@pytest.mark.parametrize("name", PAIRS)
def test_each_is_our_class_and_diffusers(name: str) -> None:
    scheduler = getattr(ours, name)()
    for base in (getattr(ddim, name), PAIRS[name], diffusers.SchedulerMixin, diffusers.ConfigMixin):
        assert isinstance(scheduler, base)
    assert type(scheduler).step is getattr(ddim, name).step
    assert repr(scheduler) == f"{name}()"
    assert scheduler.config == getattr(ddim, name)().config


@pytest.mark.parametrize("name", PAIRS)
def test_copies_and_pickles_are_of_the_same_class(name: str) -> None:
    scheduler = getattr(ours, name)()
    scheduler.set_timesteps(4)
    for copied in (copy.deepcopy(scheduler), pickle.loads(pickle.dumps(scheduler))):
        assert type(copied) is getattr(ours, name) and torch.equal(copied.timesteps, scheduler.timesteps)


@pytest.mark.parametrize("kind", PIPELINES)
@pytest.mark.parametrize("assigned", [False, True])
def test_a_saved_pipeline_names_diffusers_own_class(tmp_path: Path, kind: str, assigned: bool) -> None:
    make, name, settings = PIPELINES[kind]
    scheduler = getattr(ours, name)(**settings)
    pipe = make(PAIRS[name](**settings) if assigned else scheduler)
    pipe.scheduler = scheduler
    expected = picture(pipe)
    pipe.save_pretrained(tmp_path / "ours")
    make(PAIRS[name](**settings)).save_pretrained(tmp_path / "theirs")
    for file in ("model_index.json", "scheduler/scheduler_config.json"):
        contents = [json.loads((tmp_path / folder / file).read_text()) for folder in ("ours", "theirs")]
        assert contents[0] == contents[1]
    opened = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "ours")
    assert type(opened.scheduler) is PAIRS[name]
    if kind == "flux":
        assert np.abs(picture(opened) - expected).max() < 2e-5


@pytest.mark.parametrize("kind", PIPELINES)
def test_a_pipeline_is_loaded_with_our_scheduler(tmp_path: Path, kind: str, caplog) -> None:
    make, name, settings = PIPELINES[kind]
    theirs = make(PAIRS[name](**settings))
    theirs.save_pretrained(tmp_path)
    scheduler = getattr(ours, name).from_pretrained(tmp_path, subfolder="scheduler")
    logging.getLogger("diffusers").propagate = True
    with caplog.at_level(logging.WARNING):
        pipe = type(theirs).from_pretrained(tmp_path, scheduler=scheduler)
    assert pipe.scheduler is scheduler
    assert kind != "flux" or "Expected types for scheduler" not in caplog.text
    assert np.isfinite(picture(pipe)).all()
    other = diffusers.DiffusionPipeline.from_pretrained(tmp_path, scheduler=scheduler)
    assert type(other) is type(theirs) and other.scheduler is scheduler


def test_eta_survives_a_pipeline_saved_and_opened(tmp_path: Path) -> None:
    flux(ours.DDIMFlowScheduler(**FLUX_SETTINGS, eta=0.5)).save_pretrained(tmp_path)
    pipe = diffusers.DiffusionPipeline.from_pretrained(tmp_path)
    assert ours.DDIMFlowScheduler.from_config(pipe.scheduler.config).config.eta == 0.5


OPEN_WITHOUT_DDIM = """
import sys, warnings
warnings.simplefilter("ignore")
sys.modules["ddim"] = None
import diffusers
pipe = diffusers.DiffusionPipeline.from_pretrained(sys.argv[1])
print(type(pipe).__name__, type(pipe.scheduler).__module__, type(pipe.scheduler).__name__, pipe.scheduler.config.shift)
"""


def python(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=240).stdout


def test_a_pipeline_saved_with_ours_opens_where_this_package_is_missing(tmp_path: Path) -> None:
    flux(ours.DDIMFlowScheduler(**FLUX_SETTINGS, eta=1.0)).save_pretrained(tmp_path)
    printed = python(OPEN_WITHOUT_DDIM, str(tmp_path)).split()
    module = "diffusers.schedulers.scheduling_flow_match_euler_discrete"
    assert printed == ["FluxPipeline", module, "FlowMatchEulerDiscreteScheduler", "3.0"]


def test_the_package_alone_loads_neither_diffusers_nor_scipy(repo_root: Path) -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); import ddim; print({'diffusers', 'scipy'} & set(sys.modules))"
    assert python(code, str(repo_root)).strip() == "set()"

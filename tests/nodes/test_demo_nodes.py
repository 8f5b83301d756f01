"""The demo nodes: prompts, latents, pictures in and out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ddim import DDIMError


@pytest.mark.parametrize("text", ["0123456789", "0 1 2,3,4 5 6 7 8 9", " 01234\n56789 "])
def test_a_prompt_is_one_row_per_digit(call: Any, text: str) -> None:
    ((rows, _),) = call("DDIMDemoPrompt", digits=text)[0]
    assert torch.equal(rows, torch.eye(11)[:10, None])


def test_an_empty_prompt_is_no_class(call: Any) -> None:
    ((rows, _),) = call("DDIMDemoPrompt", digits=" ")[0]
    assert torch.equal(rows, torch.eye(11)[10:, None])


@pytest.mark.parametrize("text", ["12a", "-1", "٣"])
def test_anything_but_digits_is_refused(call: Any, text: str) -> None:
    with pytest.raises(DDIMError, match="digits must be 0 to 9"):
        call("DDIMDemoPrompt", digits=text)


def test_a_text_prompt_is_one_row_per_line(call: Any) -> None:
    ((rows, _),) = call("DDIMDemoTextPrompt", prompts="tiger face in blue\n\n  any face \nRocket")[0]
    assert rows.shape == (3, 1, 640) and not rows.is_inference()
    ((alone, _),) = call("DDIMDemoTextPrompt", prompts="rocket")[0]
    assert torch.allclose(rows[2], alone[0], atol=1e-5)


def test_an_empty_text_prompt_is_nothing_in_particular(call: Any) -> None:
    ((rows, _),) = call("DDIMDemoTextPrompt", prompts=" \n ")[0]
    ((words, _),) = call("DDIMDemoTextPrompt", prompts="rocket")[0]
    assert rows.shape == (1, 1, 640) and not torch.allclose(rows, words)


@pytest.mark.parametrize(
    ("node", "prompts", "message"),
    [
        (
            "DDIMDemoTextPrompt",
            "rocket\ntigre face",
            "does not know the word 'tigre' in 'tigre face'; did you mean .*tiger",
        ),
        ("DDIMDemoTextPrompt", "rocket\n" * 4097, "at most 4096 lines, one per image, got 4097"),
        ("DDIMDemoEmoji", "", "must name at least one emoji"),
        ("DDIMDemoEmoji", "cow face\ntiger face", "must be one of closed umbrella, .* got 'tiger face'"),
    ],
)
def test_words_that_mean_nothing_are_refused(call: Any, node: str, prompts: str, message: str) -> None:
    with pytest.raises(DDIMError, match=message):
        call(node, prompts=prompts)


def test_held_out_emoji_come_one_per_line_and_in_tints(call: Any) -> None:
    (images,) = call("DDIMDemoEmoji", prompts="cow face\norange heart in blue\n")
    assert images.shape == (2, 32, 32, 3)
    assert torch.equal(images[:1], call("DDIMDemoEmoji")[0])
    red, _, blue = images[1].mean(dim=(0, 1))
    assert blue > red + 0.1


def test_a_prompt_of_the_other_demo_model_is_refused_with_the_node_that_makes_the_right_one(call: Any) -> None:
    digits, words = call("DDIMDemoPrompt", digits="3")[0], call("DDIMDemoTextPrompt")[0]
    latent = call("DDIMDemoLatent", batch_size=1)[0]
    for draws, prompt, maker in (("emoji", digits, "DDIM Demo Text Prompt"), ("digits", words, "DDIM Demo Prompt")):
        model = call("DDIMDemoModel", draws=draws)[0]
        with pytest.raises(ValueError, match=f"as {maker} gives them"):
            call("DDIMSample", model=model, positive=prompt, negative=prompt, latent_image=latent, steps=1)


@pytest.mark.parametrize("sampled_as", ["v_prediction", "flow"])
def test_the_emoji_model_draws_what_the_words_say(call: Any, sampled_as: str) -> None:
    model = call("DDIMDemoModel", sampled_as=sampled_as, draws="emoji")[0]
    positive = call("DDIMDemoTextPrompt", prompts="large red circle\nlarge red circle in blue")[0]
    negative = call("DDIMDemoTextPrompt", prompts="")[0]
    latent = call("DDIMDemoLatent", batch_size=2)[0]
    found = call(
        "DDIMSample", model=model, positive=positive, negative=negative, latent_image=latent, steps=10, cfg=2.0
    )
    red, blue = call("DDIMDemoDecode", latent=found[0], scale=1)[0][:, 8:24, 8:24].mean(dim=(1, 2))
    assert red[0] > red[2] + 0.4 and blue[2] > blue[0] + 0.2


def test_an_empty_latent_has_the_models_size(call: Any) -> None:
    (latent,) = call("DDIMDemoLatent", batch_size=3)
    assert torch.equal(latent["samples"], torch.zeros(3, 3, 32, 32))


def test_encode_and_decode_are_inverse(call: Any) -> None:
    image = torch.rand(4, 32, 32, 3)
    (latent,) = call("DDIMDemoEncode", image=image)
    assert latent["samples"].shape == (4, 3, 32, 32) and latent["samples"].min() >= -1
    assert torch.allclose(call("DDIMDemoDecode", latent=latent, scale=1)[0], image, atol=1e-6)


@pytest.mark.parametrize("size", [(8, 8), (100, 60), (512, 512)])
def test_encode_takes_any_size(call: Any, size: tuple[int, int]) -> None:
    image = torch.full((1, *size, 4), 0.25)
    (latent,) = call("DDIMDemoEncode", image=image)
    assert torch.allclose(latent["samples"], torch.full((1, 3, 32, 32), -0.5), atol=1e-5)


def test_a_grid_is_laid_row_by_row(call: Any) -> None:
    pictures = torch.linspace(-1, 1, 5)[:, None, None, None].expand(5, 3, 32, 32)
    (grid,) = call("DDIMDemoDecode", latent={"samples": pictures}, columns=3, scale=2)
    assert grid.shape == (1, 128, 192, 3)
    cells = grid[0, ::64, ::64, 0]
    assert torch.allclose(cells, torch.tensor([[0.0, 0.25, 0.5], [0.75, 1.0, 0.0]]), atol=1e-6)
    wide = call("DDIMDemoDecode", latent={"samples": pictures}, columns=100, scale=2)[0]
    assert torch.equal(wide, call("DDIMDemoDecode", latent={"samples": pictures}, columns=len(pictures), scale=2)[0])
    single = call("DDIMDemoDecode", latent={"samples": pictures}, columns=0, scale=2)[0]
    assert single.shape == (5, 64, 64, 3)


def test_latents_of_other_models_are_refused(call: Any) -> None:
    with pytest.raises(DDIMError, match="VAE Decode"):
        call("DDIMDemoDecode", latent={"samples": torch.zeros(1, 4, 64, 64)})
    with pytest.raises(DDIMError, match="3 colours"):
        call("DDIMDemoEncode", image=torch.zeros(64, 64, 3))


@pytest.mark.parametrize(("size", "shown"), [((32, 32), (256, 256)), ((24, 60), (96, 240)), ((300, 200), (300, 200))])
def test_a_small_live_preview_is_enlarged_and_stays_sharp(
    pack: Any, size: tuple[int, int], shown: tuple[int, int]
) -> None:
    from pack.nodes.backend.embedded_model import live_preview

    x0 = torch.rand(2, 3, *size) * 2 - 1
    image = live_preview(x0)[1]
    assert (image.height, image.width) == shown
    factor = shown[0] // size[0]
    pixels = torch.from_numpy(np.asarray(image).copy()).float()
    given = ((x0[0].permute(1, 2, 0) + 1) * 127.5).round()
    assert torch.equal(pixels, given.repeat_interleave(factor, 0).repeat_interleave(factor, 1))

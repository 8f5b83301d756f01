"""The demo model's data: real scans, in tones from dark to bright, always the same."""

import pytest
import torch

from demo.data import (
    CLASS_NAMES,
    MIN_CONTRAST,
    TINT,
    data_hash,
    draw_tones,
    load_scans,
    random_pictures,
    render,
    stroke_masks,
)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_no_scan_is_in_both_splits_and_none_is_lost() -> None:
    train, held_out = load_scans("train"), load_scans("held_out")
    assert not set(train.indices.tolist()) & set(held_out.indices.tolist())
    assert len(train.labels) + len(held_out.labels) == 1797
    assert len(held_out.labels) > 300


def test_every_class_is_in_both_splits() -> None:
    for split in ("train", "held_out"):
        counts = load_scans(split).labels.bincount(minlength=len(CLASS_NAMES))
        assert len(counts) == 10 and counts.min() > 20


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(ValueError, match='"train" or "held_out", got \'test\''):
        load_scans("test")


def test_pictures_are_in_range_and_have_a_margin_of_paper() -> None:
    pictures, _ = random_pictures(load_scans("train"), 200, seeded(3))
    assert pictures.shape == (200, 3, 32, 32) and pictures.dtype == torch.float32
    assert pictures.min() >= -1 and pictures.max() <= 1
    assert torch.equal(pictures[:, :, :3], pictures[:, :, :1, :1].expand(-1, -1, 3, 32))


def test_the_same_seed_gives_the_same_pictures_and_another_seed_others() -> None:
    scans = load_scans("train")
    first, again, other = (random_pictures(scans, 16, seeded(seed))[0] for seed in (5, 5, 6))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_drawing_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    random_pictures(load_scans("held_out"), 4, seeded(0))
    assert torch.equal(before, torch.get_rng_state())


def test_rendering_puts_the_paper_where_no_ink_is_and_ink_where_it_is_full() -> None:
    masks = torch.zeros(1, 1, 32, 32)
    masks[..., 10:20, 10:20] = 1.0
    tones = torch.tensor([[[0.2, 0.4, 0.6], [1.0, 0.0, 0.5]]])
    picture = render(masks, tones)[0]
    assert torch.allclose(picture[:, 0, 0], torch.tensor([-0.6, -0.2, 0.2]))
    assert torch.allclose(picture[:, 15, 15], torch.tensor([1.0, -1.0, 0.0]))


def test_ink_stands_out_from_paper_by_the_contrast_promised() -> None:
    tones = draw_tones(20_000, seeded(1))
    grey = tones.mean(dim=2)
    assert ((grey[:, 0] - grey[:, 1]).abs() > MIN_CONTRAST - 2 * TINT).all()
    assert tones.min() >= 0 and tones.max() <= 1
    assert 0.45 < (grey[:, 1] > grey[:, 0]).float().mean() < 0.55  # light on dark as often as dark on light


def test_brightness_is_spread_from_very_dark_to_very_bright_in_every_class() -> None:
    pictures, labels = random_pictures(load_scans("train"), 6000, seeded(2))
    brightness = pictures.mean(dim=(1, 2, 3))
    assert brightness.std() > 0.25 and brightness.min() < -0.7 and brightness.max() > 0.7
    assert brightness.mean().abs() < 0.02
    for label in range(10):
        assert brightness[labels == label].std() > 0.22


def test_strokes_keep_the_scan() -> None:
    """Averaging the enlarged stroke over the cells of the scan gives the scan's order of darkness back."""
    scans = load_scans("held_out").scans[:50]
    strokes = stroke_masks(scans)[:, :, 3:-3, 3:-3]
    shrunk = torch.nn.functional.adaptive_avg_pool2d(strokes, 8)[:, 0]
    together = torch.corrcoef(torch.stack([scans.flatten(), shrunk.flatten()]))[0, 1]
    assert together > 0.97


def test_the_hash_tells_data_apart() -> None:
    train, held_out = load_scans("train"), load_scans("held_out")
    assert data_hash(train) == data_hash(load_scans("train")) != data_hash(held_out)
    assert len(data_hash(train)) == 64

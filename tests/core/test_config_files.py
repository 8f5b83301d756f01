"""The frozen configuration, and ``scheduler_config.json`` byte for byte as diffusers writes it."""

from __future__ import annotations

import copy
import json
import logging
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from ddim import DDIMError, DDIMInverseScheduler, DDIMScheduler

diffusers = pytest.importorskip("diffusers")

SETTINGS = [
    {},
    {
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "clip_sample": False,
        "steps_offset": 1,
    },
    {"clip_sample_range": 2, "thresholding": True, "sample_max_value": 3, "dynamic_thresholding_ratio": 0.9},
    {"trained_betas": [0.1, 0.2, 0.3], "num_train_timesteps": 3, "timestep_spacing": "trailing"},
    {"trained_betas": np.array([0.1, 0.2, 0.3]), "num_train_timesteps": 3, "rescale_betas_zero_snr": True},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_files_equal_diffusers_byte_for_byte_and_are_read_by_both(tmp_path: Path, settings: dict) -> None:
    ours, theirs = DDIMScheduler(**settings), diffusers.DDIMScheduler(**settings)
    ours.save_pretrained(tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs")
    name = "scheduler_config.json"
    assert (tmp_path / "ours" / name).read_bytes() == (tmp_path / "theirs" / name).read_bytes()
    assert DDIMScheduler.from_pretrained(tmp_path / "theirs").settings == ours.settings
    again = diffusers.DDIMScheduler.from_pretrained(tmp_path / "ours")
    assert torch.equal(again.betas, theirs.betas) and again.config.timestep_spacing == theirs.config.timestep_spacing


def test_the_inverse_schedulers_file_is_read_by_diffusers(tmp_path: Path, caplog) -> None:
    DDIMInverseScheduler(clip_sample=False, steps_offset=1).save_config(tmp_path)
    with caplog.at_level(logging.WARNING):
        theirs = diffusers.DDIMInverseScheduler.from_pretrained(tmp_path)
    assert theirs.config.steps_offset == 1 and theirs.config.clip_sample is False
    assert json.loads((tmp_path / "scheduler_config.json").read_text())["_class_name"] == "DDIMInverseScheduler"


def test_parity_is_kept_in_the_file_and_diffusers_does_not_mind(tmp_path: Path, caplog) -> None:
    scheduler = DDIMScheduler(parity="diffusers")
    scheduler.save_config(tmp_path)
    assert DDIMScheduler.from_pretrained(tmp_path).settings.parity == "diffusers"
    assert DDIMScheduler.from_config(scheduler.config).config.parity == "diffusers"
    logging.getLogger("diffusers").propagate = True
    with caplog.at_level(logging.WARNING):
        diffusers.DDIMScheduler.from_pretrained(tmp_path)
        diffusers.EulerDiscreteScheduler.from_config(scheduler.config)
    assert "not expected" not in caplog.text


def test_where_a_file_may_be(tmp_path: Path) -> None:
    scheduler = DDIMScheduler(beta_end=0.03)
    scheduler.save_config(tmp_path / "model" / "scheduler")
    for folder, subfolder in (
        (tmp_path / "model", "scheduler"),
        (tmp_path / "model", None),
        (tmp_path / "model" / "scheduler", None),
        (tmp_path / "model" / "scheduler", "nowhere"),
        (str(tmp_path / "model" / "scheduler" / "scheduler_config.json"), None),
    ):
        assert DDIMScheduler.from_pretrained(folder, subfolder).settings == scheduler.settings
    other = DDIMScheduler.from_pretrained(tmp_path / "model", timestep_spacing="trailing", parity="diffusers")
    assert other.config.timestep_spacing == "trailing" and other.config.beta_end == 0.03


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "must be a JSON object"),
        (b"[]", "got a list"),
        (b"\xff\xfe", "must be a JSON object"),
        (b"[" * 100000, "must be a JSON object"),
        (b'{"beta_start": NaN}', "beta_start must be a finite number"),
        (b'{"beta_start": 1e999}', "beta_start must be a finite number"),
        (b'{"num_train_timesteps": ' + b"9" * 5000 + b"}", "must be a JSON object|cannot be printed"),
    ],
)
def test_broken_files_are_refused_with_a_sentence(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "scheduler_config.json").write_bytes(content)
    with pytest.raises(DDIMError, match=message):
        DDIMScheduler.from_pretrained(tmp_path)


def test_missing_files_and_hub_names_are_refused_with_advice(tmp_path: Path) -> None:
    for name in (tmp_path, "stabilityai/stable-diffusion-2-1"):
        with pytest.raises(DDIMError, match="local folders only"):
            DDIMScheduler.from_pretrained(name, subfolder="scheduler")


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "scheduler_config.json", "wb") as file:
        file.truncate(64 * 2**20)
    with pytest.raises(DDIMError, match="is larger than"):
        DDIMScheduler.from_pretrained(tmp_path)


def test_saving_is_whole_or_not_at_all(tmp_path: Path, monkeypatch) -> None:
    DDIMScheduler(beta_end=0.03).save_config(tmp_path)
    before = (tmp_path / "scheduler_config.json").read_bytes()

    def fail(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        DDIMScheduler(beta_end=0.04).save_config(tmp_path)
    assert (tmp_path / "scheduler_config.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["scheduler_config.json"]


def test_saving_over_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    with pytest.raises(DDIMError, match="needs a folder"):
        DDIMScheduler().save_config(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "precious"


def test_the_configuration_reads_as_attributes_and_mapping() -> None:
    config = DDIMScheduler(beta_end=0.03).config
    assert config.beta_end == config["beta_end"] == config.get("beta_end") == dict(config)["beta_end"] == 0.03
    assert config.parity == config["parity"] == config.get("parity") == "exact"
    assert config.get("nothing", 7) == 7 and not hasattr(config, "nothing") and "beta_end" in config
    assert isinstance(config, dict)  # diffusers' from_config takes nothing else
    with pytest.raises(KeyError):
        config["nothing"]
    for copied in (copy.deepcopy(config), pickle.loads(pickle.dumps(config))):
        assert copied == config and copied.beta_end == 0.03


def test_the_configuration_cannot_be_changed() -> None:
    config = DDIMScheduler().config
    attempts = [
        lambda: config.__setitem__("beta_end", 1),
        lambda: setattr(config, "beta_end", 1),
        lambda: config.update(beta_end=1),
        lambda: config.pop("beta_end"),
        lambda: config.popitem(),
        lambda: config.clear(),
        lambda: config.setdefault("a", 1),
        lambda: config.__delitem__("beta_end"),
        lambda: config.__ior__({"beta_end": 1}),
    ]
    for attempt in attempts:
        with pytest.raises(DDIMError, match="frozen; make a new scheduler"):
            attempt()
    with pytest.raises(AttributeError):
        DDIMScheduler().config = {}  # type: ignore[misc]


def test_unknown_keys_are_named_once_in_one_warning(caplog) -> None:
    with caplog.at_level(logging.WARNING):
        DDIMScheduler.from_config({"beta_ends": 0.1, "colour": "red", "skip_prk_steps": True})
    assert len(caplog.records) == 1
    assert "'beta_ends', 'colour'" in caplog.text and "skip_prk_steps" not in caplog.text


def test_a_setting_that_nobody_gave_can_be_replaced_as_well() -> None:
    """Pipelines replace outdated settings in the configuration, and leave them in the list of defaults."""
    scheduler = DDIMScheduler(beta_end=0.03)
    scheduler.register_to_config(clip_sample=False)
    assert scheduler.config.clip_sample is False and scheduler.settings.clip_sample is False
    assert "clip_sample" not in scheduler.config["_use_default_values"]
    assert "steps_offset" in scheduler.config["_use_default_values"] and scheduler.config.beta_end == 0.03


def test_an_override_that_is_no_setting_is_refused() -> None:
    with pytest.raises(DDIMError, match="did you mean 'timestep_spacing'"):
        DDIMScheduler.from_config({}, timesteps_spacing="trailing")


def test_another_class_gets_its_own_defaults_for_what_was_not_given() -> None:
    """diffusers' rule: what the caller gave is handed on, also where it equals our default."""
    euler = diffusers.EulerDiscreteScheduler
    assert euler.from_config(DDIMScheduler().config).config.timestep_spacing == "linspace"
    assert euler.from_config(DDIMScheduler(timestep_spacing="leading").config).config.timestep_spacing == "leading"


@pytest.mark.parametrize(
    "name", ["PNDMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler", "DDPMScheduler"]
)
def test_what_diffusers_ddim_takes_from_another_class_ours_takes_too(name: str) -> None:
    other = getattr(diffusers, name)(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    ours, theirs = DDIMScheduler.from_config(other.config), diffusers.DDIMScheduler.from_config(other.config)
    for key in DDIMScheduler().settings:
        if key not in ("parity", "trained_betas"):
            assert ours.config[key] == theirs.config[key], key


def test_a_subclass_is_built_through_its_own_constructor() -> None:
    class Mine(DDIMScheduler):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **{"timestep_spacing": "trailing", **kwargs})

    made = Mine.from_config({"beta_end": 0.03})
    assert type(made) is Mine and made.config.timestep_spacing == "trailing" and made.config._class_name == "Mine"


def test_reading_a_setting_from_the_scheduler_itself_works_with_a_warning() -> None:
    with pytest.warns(FutureWarning, match="scheduler.config.beta_end"):
        assert DDIMScheduler().beta_end == 0.02
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = DDIMScheduler().nothing


def test_repr_names_what_differs_from_the_defaults() -> None:
    assert repr(DDIMScheduler()) == "DDIMScheduler()"
    assert repr(DDIMScheduler(beta_end=0.03, parity="diffusers")) == "DDIMScheduler(beta_end=0.03, parity='diffusers')"
    assert len(repr(DDIMScheduler(trained_betas=[0.1] * 1000))) < 300

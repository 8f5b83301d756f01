"""Inversion, noise files and interpolation as nodes, run in the embedded host."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ddim import INVERSION_METHODS, DDIMError, SchedulerConfig, invert, slerp

CONFIG = SchedulerConfig(
    beta_schedule="scaled_linear",
    beta_start=0.00085,
    beta_end=0.012,
    clip_sample=False,
    prediction_type="v_prediction",
    rescale_betas_zero_snr=True,
    timestep_spacing="trailing",
)


class Soft(torch.nn.Module):
    """A smooth velocity that depends on the prompt: a Gaussian's, bent."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor, timestep: Tensor, rows: Tensor) -> Tensor:
        self.calls += 1
        shift = (rows * torch.linspace(-0.5, 0.5, rows.shape[1])).sum(1)[:, None, None, None]
        return 0.3 * torch.sin(x + shift) - 0.4 * (timestep[:, None, None, None] / 1000) * torch.tanh(
            x.flip(-1) - shift
        )


@pytest.fixture
def network() -> Soft:
    return Soft()


@pytest.fixture
def model(backend: Any, network: Soft) -> Any:
    return backend.current().model_from_network(network, CONFIG)


@pytest.fixture
def picture() -> dict[str, Any]:
    return {"samples": torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(5)) * 2 - 1}


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[Path]:
    """The host's input and output folders, empty."""
    import host.context
    from host.folders import default_folders

    before = host.context.use_folders(default_folders(tmp_path))
    for name in ("input", "output"):
        (tmp_path / name).mkdir(exist_ok=True)
    yield tmp_path
    host.context.use_folders(before)


@pytest.fixture
def world(call: Any, model: Any) -> Any:
    """``invert(...)`` and ``sample(...)`` with a schedule and prompts in place."""

    class World:
        schedule, _ = call("DDIMSchedule", steps=6, model=model)
        negative = call("DDIMDemoPrompt", digits="")[0]

        def prompt(self, digits: str = "3") -> dict[str, Any]:
            return {"positive": call("DDIMDemoPrompt", digits=digits)[0], "negative": self.negative}

        def invert(self, latent: Any, digits: str = "3", **given: Any) -> Any:
            given = {"schedule": self.schedule, **given}
            return call("DDIMInvert", model=model, **self.prompt(digits), latent_image=latent, **given)

        def sample(self, latent: Any, digits: str = "3", **given: Any) -> Tensor:
            return self.sampled(latent, digits, **{"schedule": self.schedule, **given})["samples"]

        def sampled(self, latent: Any, digits: str = "3", **given: Any) -> dict[str, Any]:
            given = {"cfg": 1.0, **given}
            return call("DDIMSample", model=model, **self.prompt(digits), latent_image=latent, **given)[0]

    return World()


METHOD_LIMITS = {"ddim": 0.1, "fixed_point": 1e-3, "edict": 1e-9, "variance_noise": 1e-9, "bdia": 1e-9}
IN_THE_LATENT_ALONE = ("ddim", "fixed_point")


def apart(a: Tensor, b: Tensor) -> float:
    """Largest mean squared difference of an image."""
    return float((a - b).square().mean(dim=(1, 2, 3)).max())


@pytest.mark.parametrize("cfg", [1.0, 3.0])
@pytest.mark.parametrize("method", INVERSION_METHODS)
def test_the_picture_comes_back_by_two_wires(world: Any, picture: Any, method: str, cfg: float) -> None:
    """Schedule, eta and that no noise is added follow from the inversion, whatever the widgets say."""
    latent, noise, error = world.invert(picture, method=method, cfg=cfg, seed=4, eta=0.7)
    assert (noise.method, noise.eta) == (method, 0.7 if method == "variance_noise" else 0.0)
    assert noise.latent is not None and torch.equal(noise.latent, latent["samples"])
    unused = {"steps": 3, "timestep_spacing": "leading", "denoise": 0.4, "eta": 0.3, "add_noise": True}
    back = world.sampled(latent, variance_noise=noise, cfg=cfg, **unused)["samples"]
    moved = apart(back, picture["samples"])
    assert moved < METHOD_LIMITS[method]
    assert error == pytest.approx(moved**0.5, rel=0.01, abs=2e-6)
    assert torch.equal(back, world.sample(latent, variance_noise=noise, cfg=cfg))  # the same schedule, connected


@pytest.mark.parametrize("method", IN_THE_LATENT_ALONE)
def test_a_latent_that_holds_the_whole_picture_needs_one_wire(
    world: Any, picture: Any, network: Soft, method: str
) -> None:
    latent, _, _ = world.invert(picture, method=method)
    for change in ({}, {"add_noise": True}, {"add_noise": False}):
        assert apart(world.sample(latent, **change), picture["samples"]) < METHOD_LIMITS[method]
    calls = network.calls
    with pytest.raises(DDIMError, match=f"inverted with {method}.*eta 0 only, and eta is 0.5"):
        world.sample(latent, eta=0.5)
    assert network.calls == calls


@pytest.mark.parametrize("method", sorted(set(INVERSION_METHODS) - set(IN_THE_LATENT_ALONE)))
def test_a_latent_that_holds_a_part_of_the_picture_is_refused_alone(
    world: Any, picture: Any, network: Soft, method: str
) -> None:
    latent, noise, _ = world.invert(picture, method=method)
    calls = network.calls
    masked = {**latent, "noise_mask": torch.ones(1, 8, 8)}
    second = {**latent, "samples": latent["samples"][1:2].clone(), "batch_index": [1]}  # as LatentFromBatch does
    for given in (latent, masked, second):
        for change in ({}, {"add_noise": False}, {"eta": 1.0}):
            with pytest.raises(DDIMError, match=f"inverted with {method}.*is not connected; connect it"):
                world.sample(given, **change)
    assert network.calls == calls
    unmarked = {"samples": latent["samples"]}
    assert apart(world.sample(unmarked, add_noise=False), picture["samples"]) > 1e-9  # what the refusal spares
    assert apart(world.sample(unmarked, add_noise=False, variance_noise=noise), picture["samples"]) < 1e-9


def test_the_mark_is_about_these_latents_alone(world: Any, picture: Any, values: Any) -> None:
    latent, noise, _ = world.invert(picture)
    assert values.inverted_with(latent) == "variance_noise" and values.inverted_with(picture) is None
    assert values.inverted_with({**latent, "samples": latent["samples"][2:]}) == "variance_noise"
    # A stock sampler keeps the keys of a LATENT on its result, which is an image.
    assert values.inverted_with({**latent, "samples": latent["samples"] + 0.1}) is None
    result = world.sampled(latent, variance_noise=noise)
    assert not [key for key in result if key.startswith("ddim")]
    again, _, _ = world.invert({**latent, "samples": picture["samples"]}, method="ddim")
    assert values.inverted_with(again) == "ddim"


def test_latent_and_noise_of_two_inversions_are_refused(world: Any, picture: Any) -> None:
    latent, _, _ = world.invert(picture, method="ddim")
    _, noise, _ = world.invert(picture, method="bdia")
    with pytest.raises(DDIMError, match="inverted with ddim and .* one with bdia; connect both"):
        world.sample(latent, variance_noise=noise)


def test_without_a_schedule_the_inversion_plans_over_the_models_levels(
    world: Any, picture: Any, call: Any, model: Any
) -> None:
    schedule = call("DDIMSchedule", steps=5, timestep_spacing="linspace", model=model)[0]
    planned, told = (
        world.invert(picture, method="ddim", **given)
        for given in ({"schedule": schedule}, {"schedule": None, "steps": 5, "timestep_spacing": "linspace"})
    )
    assert torch.equal(planned[0]["samples"], told[0]["samples"])
    assert told[1].schedule.alpha_bars == pytest.approx(schedule.alpha_bars)


def test_only_the_noise_knows_the_picture(world: Any, picture: Any) -> None:
    latent, noise, _ = world.invert(picture, seed=4)
    lost = world.sample({"samples": latent["samples"]}, eta=1.0, add_noise=False)
    assert float((lost - picture["samples"]).square().mean()) > 1e-2
    edited = world.sample(latent, "8", variance_noise=noise)
    moved = float((edited - picture["samples"]).square().mean())
    assert 1e-4 < moved < float((lost - picture["samples"]).square().mean())


@pytest.mark.parametrize("method", ["edict", "bdia"])
def test_two_samples_need_more_than_a_sampler(world: Any, picture: Any, call: Any, method: str) -> None:
    _, noise, _ = world.invert(picture, method=method)
    with pytest.raises(DDIMError, match="DDIM KSampler"):
        call("DDIMSampler", variance_noise=noise)


def test_a_sampler_takes_eta_from_the_inversion(world: Any, picture: Any, call: Any) -> None:
    _, noise, _ = world.invert(picture, eta=0.4)
    (sampler,) = call("DDIMSampler", variance_noise=noise, eta=0.9)
    assert sampler.keywords["settings"].eta == 0.4


def test_an_image_of_a_batch_gets_its_own_noise(world: Any, picture: Any) -> None:
    whole, _, _ = world.invert(picture, seed=4)
    alone, _, _ = world.invert({"samples": picture["samples"][2:], "batch_index": [2]}, seed=4)
    assert torch.allclose(whole["samples"][2:], alone["samples"], atol=1e-5)
    assert alone["batch_index"] == [2]


def test_the_editor_is_told_the_error_of_each_image(nodes: Any, world: Any, model: Any, picture: Any) -> None:
    given = {"model": model, **world.prompt(), "latent_image": picture, "schedule": world.schedule}
    told = nodes["DDIMInvert"]().invert(**given, method="ddim")["ui"]
    (report,) = told["ddim_inversion"]
    assert report["images"] == 3 and len(report["round_trip_error"]) == 3 and min(report["round_trip_error"]) > 0
    assert told["text"][0].startswith("ddim: round-trip error")


@pytest.mark.parametrize("method", INVERSION_METHODS)
def test_progress_goes_forward_to_the_end_and_cancel_is_heard(
    world: Any, picture: Any, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import host.context

    told: list[tuple[int, int]] = []
    monkeypatch.setattr(host.context, "progress", lambda value, total, preview=None: told.append((value, total)))
    world.invert(picture, method=method)
    values = [value for value, _ in told]
    assert values == sorted(set(values)) and {total for _, total in told} == {6}
    assert values[0] == 1 and values[-1] == 6

    def cancelled() -> None:
        raise InterruptedError

    monkeypatch.setattr(host.context, "check_cancelled", cancelled)
    with pytest.raises(InterruptedError):
        world.invert(picture, method=method)


def test_a_mask_is_refused_with_a_way_out(world: Any, picture: Any, network: Soft) -> None:
    with pytest.raises(DDIMError, match="Set Latent Noise Mask after DDIM Invert"):
        world.invert({**picture, "noise_mask": torch.ones(1, 8, 8)})
    assert network.calls == 0


def test_a_run_that_the_noise_does_not_fit_is_refused(world: Any, picture: Any, call: Any, model: Any) -> None:
    latent, noise, _ = world.invert(picture)
    other = {"samples": latent["samples"][:2]}
    fewer = call("DDIMSchedule", steps=5, model=model)[0]
    leading = call("DDIMSchedule", steps=6, timestep_spacing="leading", prediction_type="v_prediction")[0]
    wrong = [
        ("for 6 steps and the run has 5", {"schedule": fewer}),
        ("another schedule", {"schedule": leading}),
    ]
    for message, change in wrong:
        with pytest.raises(DDIMError, match=message):
            world.sample(latent, variance_noise=noise, **change)
    with pytest.raises(DDIMError, match=r"\(3, 3, 8, 8\) and the run has \(2, 3, 8, 8\)"):
        world.sample(other, variance_noise=noise)


@pytest.mark.parametrize("eta", ["sigma_hat", (0.5, 1.0, 0.5, 1.0, 0.5, 1.0)])
def test_noise_with_an_eta_that_no_node_has_is_refused(
    world: Any, picture: Any, model: Any, values: Any, eta: Any
) -> None:
    """A file may hold an inversion that the core made; sampling it at another eta would lose the picture."""
    found = invert(
        lambda x, t: 0.1 * x, picture["samples"], world.schedule.scheduler(), method="variance_noise", eta=eta
    )
    noise = values.RecordedNoise.from_inversion(found)
    with pytest.raises(DDIMError, match="eta that no node can set"):
        world.sample({"samples": found.latent}, variance_noise=noise)


# -- files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", INVERSION_METHODS)
@pytest.mark.parametrize("precision", ["half", "full"])
def test_a_shared_file_gives_the_picture_back(
    world: Any, picture: Any, call: Any, folders: Path, method: str, precision: str
) -> None:
    _, noise, error = world.invert(picture, method=method)
    (name,) = call("DDIMSaveNoise", variance_noise=noise, precision=precision)
    assert name == "noise/ddim_00001.safetensors [output]"
    for choice in ({"noise_file": name}, {"file_name": name}):
        latent, noise, schedule, eta = call("DDIMLoadNoise", **choice)
        back = world.sampled(latent, variance_noise=noise)["samples"]
        assert apart(back, picture["samples"]) ** 0.5 < error * 1.01 + 2e-6
        assert torch.equal(back, world.sample(latent, variance_noise=noise, schedule=schedule, eta=eta))
        if method not in IN_THE_LATENT_ALONE:
            with pytest.raises(DDIMError, match=f"inverted with {method}"):
                world.sample(latent, schedule=schedule)
    os.rename(folders / "output" / "noise" / "ddim_00001.safetensors", folders / "input" / "theirs.safetensors")
    again = call("DDIMLoadNoise", noise_file="theirs.safetensors")
    assert torch.equal(again[0]["samples"], latent["samples"])


def test_files_are_numbered_and_listed(world: Any, picture: Any, call: Any, nodes: Any, folders: Path) -> None:
    _, noise, _ = world.invert(picture)
    names = [call("DDIMSaveNoise", variance_noise=noise, filename_prefix="my [noise]")[0] for _ in range(3)]
    assert names == [f"my [noise]_{i:05}.safetensors [output]" for i in (1, 2, 3)]
    (folders / "input" / "sub").mkdir()
    (folders / "input" / "sub" / "a.safetensors").write_bytes(b"")
    (folders / "input" / ".hidden.safetensors").write_bytes(b"")
    listed = nodes["DDIMLoadNoise"].INPUT_TYPES()["optional"]["noise_file"][0]
    assert listed == ["(choose a noise file)", "sub/a.safetensors", *names]


def test_a_changed_file_is_read_again(world: Any, picture: Any, call: Any, nodes: Any, folders: Path) -> None:
    _, noise, _ = world.invert(picture)
    (name,) = call("DDIMSaveNoise", variance_noise=noise)
    changed = nodes["DDIMLoadNoise"].IS_CHANGED
    before = changed(name)
    assert changed(name) == before
    os.utime(folders / "output" / "noise" / "ddim_00001.safetensors", (1, 1))
    assert changed(name) != before
    assert changed("nothing.safetensors") == "missing"


@pytest.mark.parametrize(
    "name",
    [
        "../secret.safetensors",
        "../secret.safetensors [output]",
        "/etc/passwd",
        "link.safetensors",
        "loop",
        "notes.txt",
        "",
        ".",
        "(choose a noise file)",
        "a\0b.safetensors",
        "x" * 5000 + ".safetensors",
    ],
)
def test_no_name_leads_out_of_the_folder(call: Any, folders: Path, name: str) -> None:
    (folders / "secret.safetensors").write_bytes(b"secret")
    (folders / "input" / "notes.txt").write_bytes(b"")
    (folders / "input" / "link.safetensors").symlink_to(folders / "secret.safetensors")
    (folders / "input" / "loop").symlink_to("loop")
    with pytest.raises(DDIMError, match="there is no noise file"):
        call("DDIMLoadNoise", noise_file=name)


def test_a_prefix_does_not_lead_out_either(world: Any, picture: Any, call: Any, folders: Path) -> None:
    _, noise, _ = world.invert(picture)
    with pytest.raises(Exception, match="output"):
        call("DDIMSaveNoise", variance_noise=noise, filename_prefix="../../escaped")
    assert not list(folders.glob("*.safetensors")) and not list(folders.parent.glob("*.safetensors"))


def test_noise_without_a_picture_is_not_saved(call: Any, values: Any, world: Any, folders: Path) -> None:
    noise = values.RecordedNoise(torch.zeros(6, 1, 3, 8, 8), world.schedule, 1.0)
    with pytest.raises(DDIMError, match="use DDIM Invert"):
        call("DDIMSaveNoise", variance_noise=noise)


# -- interpolation ---------------------------------------------------------------------------------------------


def test_pairs_are_gone_through_one_after_the_other(call: Any) -> None:
    a, b = ({"samples": torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(i))} for i in (1, 2))
    (frames,) = call("DDIMInterpolate", latent_a=a, latent_b=b, frames=5)
    assert frames["samples"].shape == (10, 3, 8, 8)
    for i in range(2):
        one = frames["samples"][5 * i : 5 * i + 5]
        assert torch.equal(one[0], a["samples"][i]) and torch.equal(one[-1], b["samples"][i])
        assert torch.allclose(one[1], slerp(a["samples"][i : i + 1], b["samples"][i : i + 1], 0.25)[0])


def test_a_batch_is_a_path_and_may_be_a_loop(call: Any) -> None:
    a = {"samples": torch.randn(3, 3, 2, 8, 8), "batch_index": [0, 1, 2]}  # video latents are of rank 5
    (path,) = call("DDIMInterpolate", latent_a=a, frames=5)
    assert torch.equal(path["samples"][::2], a["samples"]) and "batch_index" not in path
    (loop,) = call("DDIMInterpolate", latent_a=a, frames=6, loop=True)
    assert torch.equal(loop["samples"][::2], a["samples"])


def test_one_picture_may_go_to_many(call: Any) -> None:
    one, many = {"samples": torch.randn(1, 3, 8, 8)}, {"samples": torch.randn(2, 3, 8, 8)}
    (frames,) = call("DDIMInterpolate", latent_a=one, latent_b=many, frames=2)
    assert torch.equal(frames["samples"][1::2], many["samples"])


@pytest.mark.parametrize(("a", "b", "message"), [(1, None, "at least two"), (2, 3, "as many"), (1, 0, "same size")])
def test_what_has_no_path_is_refused(call: Any, a: int, b: int | None, message: str) -> None:
    other = None if b is None else {"samples": torch.zeros(b or 1, 3, 8, 8 if b else 9)}
    with pytest.raises(DDIMError, match=message):
        call("DDIMInterpolate", latent_a={"samples": torch.zeros(a, 3, 8, 8)}, latent_b=other)


@pytest.mark.parametrize("method", INVERSION_METHODS)
def test_frames_between_inverted_pictures_are_sampled_as_they_are(
    world: Any, picture: Any, call: Any, method: str
) -> None:
    one, other = ({"samples": picture["samples"][i : i + 1]} for i in (0, 1))
    a, b = (world.invert(each, method=method)[0] for each in (one, other))
    if method not in IN_THE_LATENT_ALONE:
        for path in ({"latent_a": a, "latent_b": b}, {"latent_a": other, "latent_b": b}):
            with pytest.raises(DDIMError, match=f"inverted with {method}.*invert with fixed_point"):
                call("DDIMInterpolate", **path)
        return
    (frames,) = call("DDIMInterpolate", latent_a=a, latent_b=b, frames=3)
    back = world.sample(frames)
    assert apart(back[:1], one["samples"]) < METHOD_LIMITS[method]
    assert apart(back[-1:], other["samples"]) < METHOD_LIMITS[method]
    with pytest.raises(DDIMError, match="eta 0 only"):
        world.sample(frames, eta=1.0)


# -- what the editor knows of widgets ------------------------------------------------------------------------------


def test_widgets_say_when_they_have_an_effect(nodes: Any) -> None:
    declared = nodes["DDIMInvert"].INPUT_TYPES()["optional"]
    recorded = {name for name in declared if declared[name][1].get("ddim_applies") == {"method": ["variance_noise"]}}
    assert recorded == {"seed", "eta", "noise_path", "noise_precision"}
    assert declared["refinements"][1]["ddim_applies"] == {"method": ["fixed_point"]}
    assert {name for name in declared if declared[name][1].get("ddim_unless_linked")} == {"steps", "timestep_spacing"}
    assert declared["seed"][1]["control_after_generate"] is False  # each new seed would invert again
    sample = nodes["DDIMSample"].INPUT_TYPES()["optional"]
    told = {name: options.get("ddim_unless_linked") for name, (_, options) in sample.items()}
    linked = {name: links for name, links in told.items() if links}
    plan = dict.fromkeys(("steps", "timestep_spacing", "denoise"), ["schedule", "variance_noise"])
    assert linked == {**plan, "eta": ["variance_noise"], "add_noise": ["variance_noise"]}


def test_conditions_name_inputs_of_their_node_and_choices_of_theirs(nodes: Any) -> None:
    for node_id, node in nodes.items():
        every = {name: spec for group in node.INPUT_TYPES().values() for name, spec in group.items()}
        for name, (_, options) in every.items():
            for other, choices in options.get("ddim_applies", {}).items():
                assert set(choices) <= set(every[other][0]), f"{node_id}.{name}"
            for link in options.get("ddim_unless_linked", []):
                assert "default" not in every[link][1], f"{node_id}.{name}"


# -- pictures --------------------------------------------------------------------------------------------------


def test_the_demo_has_real_digits(call: Any) -> None:
    (images,) = call("DDIMDemoPicture", digits="3, 8", scan=2)
    assert images.shape == (2, 32, 32, 3) and float(images.std(dim=(1, 2)).min()) > 0.03
    assert torch.equal(images[1:], call("DDIMDemoPicture", digits="8", scan=2)[0])
    assert torch.equal(call("DDIMDemoPicture", digits="88", scan=7)[0][1:], call("DDIMDemoPicture", digits="8")[0])
    assert not torch.equal(images[:1], call("DDIMDemoPicture", digits="3", scan=3)[0])
    for wrong in ("", "x"):
        with pytest.raises(DDIMError, match="digits must"):
            call("DDIMDemoPicture", digits=wrong)

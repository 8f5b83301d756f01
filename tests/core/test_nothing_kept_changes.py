"""What a callback or a model keeps stays what it was, and what the caller passed in is never written to.

People keep samples in many ways: the tensor itself, a detached alias, a numpy array, one image, a list of images. All
but the first are views that hold no reference to the tensor object, so a loop that reuses its buffers cannot see them.
Each test keeps an object together with a copy made at the same moment, and compares the two after the run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ddim import (
    INVERSION_METHODS,
    CFGPlusPlus,
    DDIMScheduler,
    Guided,
    Inversion,
    invert,
    keyed_noise,
    reconstruct,
    sample,
    sample_parallel,
)

STEPS = 6
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
SMALL = (2, 3, 4, 4)
MODES: dict[str, Callable[[], contextlib.AbstractContextManager[Any]]] = {
    "grad": contextlib.nullcontext,
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
}
WAYS_TO_KEEP: dict[str, Callable[[Tensor], Any]] = {
    "x": lambda x: x,
    "x.detach()": lambda x: x.detach(),
    "x.cpu()": lambda x: x.detach().cpu(),
    "x.numpy()": lambda x: x.detach().numpy(),
    "x[0]": lambda x: x[0],
    "x[:, 1:]": lambda x: x[:, 1:],
    "list(x)": list,
    "x.view(-1)": lambda x: x.view(-1),
    "x.mT": lambda x: x.mT,
    "from_dlpack(x)": lambda x: torch.from_dlpack(x.detach()),
}


def can_keep(way: str, dtype: torch.dtype) -> bool:
    return not (way == "x.numpy()" and dtype == torch.bfloat16)  # numpy has no bfloat16


def copied(kept: Any) -> list[Tensor]:
    """The numbers in a kept object, in memory of their own."""
    if isinstance(kept, np.ndarray):
        return [torch.from_numpy(kept.copy())]
    return [part.detach().clone() for part in (kept if isinstance(kept, list) else [kept])]


@dataclass
class Album:
    """Objects that somebody kept, each with a copy of what it was."""

    keep: Callable[[Tensor], Any]
    pages: list[tuple[str, Any, list[Tensor]]] = field(default_factory=list)

    def add(self, name: str, tensor: Tensor) -> None:
        kept = self.keep(tensor)
        self.pages.append((name, kept, copied(kept)))

    def changed(self) -> list[str]:
        """Names of the kept objects that are no longer what they were, bit for bit."""
        return [name for name, kept, before in self.pages if not _same_bits(copied(kept), before)]


def _same_bits(now: list[Tensor], before: list[Tensor]) -> bool:
    pairs = zip(now, before, strict=True)
    return all(torch.equal(a.contiguous().view(torch.uint8), b.contiguous().view(torch.uint8)) for a, b in pairs)


# -- models ----------------------------------------------------------------------------------------------------------


def new_tensor() -> Callable[[Tensor, Tensor], Any]:
    return lambda x, t: 0.3 * torch.tanh(x)


def its_input() -> Callable[[Tensor, Tensor], Any]:
    return lambda x, t: x


def a_view_of_its_input() -> Callable[[Tensor, Tensor], Any]:
    return lambda x, t: x.view(-1).view(x.shape)


def its_own_buffer() -> Callable[[Tensor, Tensor], Any]:
    """A model that writes every output to the same memory, as one in a CUDA graph does."""
    buffers: dict[torch.Size, Tensor] = {}

    def model(x: Tensor, t: Tensor) -> Tensor:
        if x.shape not in buffers:
            buffers[x.shape] = torch.empty_like(x)
        return buffers[x.shape].copy_(0.3 * torch.tanh(x))

    return model


def wider_output() -> Callable[[Tensor, Tensor], Any]:
    return lambda x, t: 0.3 * torch.tanh(x.double())


def guided_pair() -> Callable[[Tensor, Tensor], Any]:
    return lambda x, t: Guided(0.1 * torch.tanh(x), 0.3 * torch.tanh(x), 3.0, 0.5)


def pair_of_cfg_plus_plus() -> Callable[[Tensor, Tensor], Any]:
    return lambda x, t: CFGPlusPlus(0.1 * torch.tanh(x), 0.3 * torch.tanh(x))


PLAIN_MODELS = (new_tensor, its_input, a_view_of_its_input, its_own_buffer, wider_output)


def keeping(model: Callable[[Tensor, Tensor], Any], album: Album) -> Callable[[Tensor, Tensor], Any]:
    def wrapped(x: Tensor, t: Tensor) -> Any:
        album.add(f"the model's x_t at {int(t.flatten()[0])}", x)
        return model(x, t)

    return wrapped


# -- runs ------------------------------------------------------------------------------------------------------------

PROCESSING: dict[str, dict[str, Any]] = {
    "plain": {"clip_sample": False},
    "clipped": {"clip_sample": True, "clip_sample_range": 0.7},
    "thresholded": {"thresholding": True, "sample_max_value": 1.5, "dynamic_thresholding_ratio": 0.9},
}


def planned(processing: str = "plain", steps: int = STEPS, **others: Any) -> DDIMScheduler:
    scheduler = DDIMScheduler(**PROCESSING[processing], timestep_spacing="trailing", **others)
    scheduler.set_timesteps(steps)
    return scheduler


def start(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return keyed_noise(shape, 5, 0).to(dtype)


def noise_arguments(source: str, x: Tensor) -> dict[str, Any]:
    """Where the noise of a run comes from."""
    if source == "generator":
        return {"generator": torch.Generator().manual_seed(1)}
    if source == "generators":
        return {"generator": [torch.Generator().manual_seed(i) for i in range(len(x))]}
    if source == "variance_noise":
        return {"variance_noise": torch.ones(STEPS, *x.shape, dtype=x.dtype)}
    return {"seed": 3} if source == "seed" else {}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("way", WAYS_TO_KEEP)
def test_samples_kept_by_a_callback_stay(way: str, dtype: torch.dtype, mode: str) -> None:
    if not can_keep(way, dtype):
        pytest.skip("numpy has no bfloat16")
    album = Album(WAYS_TO_KEEP[way])

    def callback(i: int, t: Tensor, x_t: Tensor, x0: Tensor) -> None:
        album.add(f"x_t of step {i}", x_t)

    with MODES[mode]():
        sample(new_tensor(), start(SMALL, dtype), planned(), callback=callback)
    assert len(album.pages) == STEPS
    assert album.changed() == []


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("way", WAYS_TO_KEEP)
def test_samples_kept_by_a_model_stay(way: str, dtype: torch.dtype, mode: str) -> None:
    if not can_keep(way, dtype):
        pytest.skip("numpy has no bfloat16")
    album = Album(WAYS_TO_KEEP[way])
    with MODES[mode]():
        sample(keeping(new_tensor(), album), start(SMALL, dtype), planned())
    assert len(album.pages) == STEPS
    assert album.changed() == []


@st.composite
def runs(draw: st.DrawFn) -> dict[str, Any]:
    dtype = draw(st.sampled_from(DTYPES))
    return {
        "dtype": dtype,
        "way": draw(st.sampled_from([way for way in WAYS_TO_KEEP if can_keep(way, dtype)])),
        "mode": draw(st.sampled_from(sorted(MODES))),
        # The largest is above every size at which work was ever split into chunks.
        "shape": draw(st.sampled_from((SMALL, SMALL, (1, 2, 5, 3), (1, 4, 132, 132), (1, 4, 256, 260)))),
        "processing": draw(st.sampled_from(sorted(PROCESSING))),
        "prediction_type": draw(st.sampled_from(("epsilon", "sample", "v_prediction"))),
        "parity": draw(st.sampled_from(("exact", "exact", "diffusers"))),
        "eta": draw(st.sampled_from((0.0, 1.0, 0.5))),
        "noise": draw(st.sampled_from(("seed", "generator", "generators", "variance_noise", "unseeded"))),
        "rederive": draw(st.booleans()),
    }


def scheduler_of(run: dict[str, Any]) -> DDIMScheduler:
    return planned(run["processing"], prediction_type=run["prediction_type"], parity=run["parity"])


def rederives(run: dict[str, Any], make_model: Any) -> bool:
    """CFG++ has an epsilon of its own: it is not derived from x_0."""
    return run["rederive"] and make_model is not pair_of_cfg_plus_plus


@settings(max_examples=150, deadline=None)
@given(
    runs(), st.sampled_from((*PLAIN_MODELS, guided_pair, pair_of_cfg_plus_plus)), st.sampled_from(("x_t", "x0", "both"))
)
def test_nothing_kept_during_sample_changes(run: dict[str, Any], make_model: Any, kept_by_callback: str) -> None:
    album = Album(WAYS_TO_KEEP[run["way"]])

    def callback(i: int, t: Tensor, x_t: Tensor, x0: Tensor) -> None:
        if kept_by_callback != "x0":
            album.add(f"x_t of step {i}", x_t)
        if kept_by_callback != "x_t":
            album.add(f"x0 of step {i}", x0)

    with MODES[run["mode"]]():
        x = start(run["shape"], run["dtype"])
        before, model = x.clone(), make_model()
        arguments = {
            "eta": run["eta"],
            "use_clipped_model_output": rederives(run, make_model),
            **noise_arguments(run["noise"], x),
        }
        scheduler = scheduler_of(run)
        album.add("the result", sample(model, x, scheduler, callback=callback, **arguments))
        sample(model, x, scheduler)  # a later run on the same scheduler and model
        assert album.changed() == []
        assert torch.equal(x, before)


@settings(max_examples=80, deadline=None)
@given(runs(), st.sampled_from((*PLAIN_MODELS, guided_pair, pair_of_cfg_plus_plus)), st.booleans())
def test_nothing_kept_by_a_model_of_sample_changes(run: dict[str, Any], make_model: Any, watched: bool) -> None:
    """With a callback and without: the two may take different ways through a step."""
    album = Album(WAYS_TO_KEEP[run["way"]])
    with MODES[run["mode"]]():
        x = start(run["shape"], run["dtype"])
        arguments = {
            "eta": run["eta"],
            "use_clipped_model_output": rederives(run, make_model),
            **noise_arguments(run["noise"], x),
        }
        callback = (lambda *_: None) if watched else None
        sample(keeping(make_model(), album), x, scheduler_of(run), callback=callback, **arguments)
        assert len(album.pages) == STEPS
        assert album.changed() == []


# Holds before the rewrite as well: parallel sampling and inversion allocate every sample anew. It must stay so.
@settings(max_examples=60, deadline=None)
@given(runs(), st.sampled_from(PLAIN_MODELS), st.integers(1, STEPS))
def test_nothing_kept_during_parallel_sampling_changes(run: dict[str, Any], make_model: Any, window: int) -> None:
    album = Album(WAYS_TO_KEEP[run["way"]])
    with MODES[run["mode"]]():
        x = start(run["shape"] if run["shape"][0] == 2 else SMALL, run["dtype"])
        before = x.clone()
        arguments = {"eta": run["eta"], "use_clipped_model_output": run["rederive"], **noise_arguments(run["noise"], x)}
        model, scheduler = keeping(make_model(), album), scheduler_of(run)
        found = sample_parallel(model, x, scheduler, window=window, **arguments)
        album.add("the result", found.sample)
        sample_parallel(model, x, scheduler, window=window)
        assert album.changed() == []
        assert torch.equal(x, before)


@pytest.mark.parametrize("method", INVERSION_METHODS)
@settings(max_examples=25, deadline=None)
@given(run=runs(), make_model=st.sampled_from(PLAIN_MODELS), path=st.sampled_from(("cycle", "edit_friendly")))
def test_nothing_kept_during_inversion_and_reconstruction_changes(
    method: str, run: dict[str, Any], make_model: Any, path: str
) -> None:
    album = Album(WAYS_TO_KEEP[run["way"]])

    def callback(i: int, t: Tensor, x_t: Tensor, x0: Tensor) -> None:
        album.add(f"x_t of step {i}", x_t)
        album.add(f"x0 of step {i}", x0)

    with MODES[run["mode"]]():
        x0 = start(SMALL, run["dtype"])
        before, model = x0.clone(), keeping(make_model(), album)
        # Two tracks and wide steps amplify what a clipped, untrained model says; plain predictions keep them finite.
        scheduler = planned("plain", prediction_type="v_prediction")
        found = invert(model, x0, scheduler, method=method, seed=2, noise_path=path, callback=callback)
        for name, tensor in tensors_of(found).items():
            album.add(f"inversion.{name}", tensor)
        album.add("the picture", reconstruct(model, found, scheduler, callback=callback))
        assert album.changed() == []
        assert torch.equal(x0, before)


def tensors_of(found: Inversion) -> dict[str, Tensor]:
    named = {"latent": found.latent, "second_latent": found.second_latent, "variance_noise": found.variance_noise}
    return {name: tensor.as_subclass(Tensor) for name, tensor in named.items() if tensor is not None}


# -- models and callbacks that write ---------------------------------------------------------------------------------
# What a run gives when a model writes into its argument is not defined. What the caller passed in is: it stays as it
# was. The first sample of a run must therefore not be the caller's own tensor.


def writing_model(x: Tensor, t: Tensor) -> Tensor:
    output = 0.3 * torch.tanh(x)
    x.mul_(0.9)
    return output


def model_writing_through_numpy(x: Tensor, t: Tensor) -> Tensor:
    output = 0.3 * torch.tanh(x)
    (x.numpy() if x.dtype != torch.bfloat16 else x)[...] = 0.5
    return output


def writing_callback(i: int, t: Tensor, x_t: Tensor, x0: Tensor) -> None:
    x_t.zero_()
    x0.zero_()


WRITERS = [
    pytest.param(writing_model, None, id="model"),
    pytest.param(model_writing_through_numpy, None, id="model, numpy"),
    pytest.param(new_tensor(), writing_callback, id="callback"),
]


@pytest.mark.parametrize("mode", ["no_grad", "inference_mode"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("model", "callback"), WRITERS)
def test_a_writer_does_not_reach_what_the_caller_passed_to_sample(model, callback, dtype, mode: str) -> None:
    with MODES[mode]():
        x = start(SMALL, dtype)
        noise = torch.ones(STEPS, *SMALL, dtype=dtype)
        before = x.clone()
        sample(model, x, planned(), eta=1.0, variance_noise=noise, callback=callback)
        assert torch.equal(x, before)
        assert torch.equal(noise, torch.ones_like(noise))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("window", [1, 3])
@pytest.mark.parametrize("model", [writing_model, model_writing_through_numpy])
def test_a_writer_does_not_reach_what_the_caller_passed_to_parallel_sampling(model, window: int, dtype) -> None:
    x = start(SMALL, dtype)
    before = x.clone()
    sample_parallel(model, x, planned(), window=window)
    assert torch.equal(x, before)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("method", INVERSION_METHODS)
@pytest.mark.parametrize(("model", "callback"), WRITERS)
def test_a_writer_does_not_reach_what_the_caller_passed_to_inversion(model, callback, method: str, dtype) -> None:
    x0 = start(SMALL, dtype)
    before, scheduler = x0.clone(), planned("plain", prediction_type="v_prediction")
    invert(model, x0, scheduler, method=method, seed=2, callback=callback)
    assert torch.equal(x0, before)
    found = invert(new_tensor(), x0, scheduler, method=method, seed=2)
    tensors = tensors_of(found)
    copies = {name: tensor.clone() for name, tensor in tensors.items()}
    with torch.no_grad():
        reconstruct(model, found, scheduler, callback=callback)
    assert [name for name, tensor in tensors.items() if not torch.equal(tensor, copies[name])] == []

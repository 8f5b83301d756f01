"""The weight file is not trusted: everything about it is checked, and refused in a sentence."""

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from demo import DEFAULT_WEIGHTS, Architecture, DemoWeightsError, DigitsUNet, load_demo_model
from demo.data import CLASS_NAMES
from demo.weights_file import MAX_FILE_BYTES, SCHEDULER_CONFIG, save_weights

ROOT = Path(__file__).resolve().parents[2]
SMALL = Architecture(fine_channels=16, coarse_channels=32, condition_channels=24)


@pytest.fixture(scope="module")
def contents() -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    tensors = {name: tensor.clone() for name, tensor in DigitsUNet(SMALL).state_dict().items()}
    metadata = {"class_names": json.dumps(CLASS_NAMES), "data_sha256": "0" * 64, "training_command": "none"}
    return tensors, metadata


@pytest.fixture
def good(tmp_path: Path, contents) -> Path:
    save_weights(tmp_path / "good.safetensors", contents[0], SMALL, contents[1])
    return tmp_path / "good.safetensors"


def rewrite(good: Path, change: Callable[[dict, dict], None]) -> Path:
    """A copy of a good file after a change of its tensors and metadata."""
    with safe_open(good, framework="pt") as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}
        metadata = dict(opened.metadata())
    change(tensors, metadata)
    changed = good.with_name("changed.safetensors")
    save_file(tensors, changed, metadata=metadata)
    return changed


def test_what_was_saved_is_loaded(good: Path, contents) -> None:
    model = load_demo_model(good)
    for name, tensor in model.network.state_dict().items():
        assert torch.equal(tensor, contents[0][name])
    assert model.class_names == CLASS_NAMES and model.prediction_type == "v_prediction"
    assert model.scheduler_config == SCHEDULER_CONFIG
    assert not model.network.training and not any(p.requires_grad for p in model.network.parameters())


def test_half_precision_files_load_as_float32(tmp_path: Path, contents) -> None:
    halves = {name: tensor.half() for name, tensor in contents[0].items()}
    save_weights(tmp_path / "half.safetensors", halves, SMALL, contents[1])
    state = load_demo_model(tmp_path / "half.safetensors").network.state_dict()
    assert all(tensor.dtype == torch.float32 for tensor in state.values())


def test_a_string_is_a_path_too(good: Path) -> None:
    assert load_demo_model(str(good)).class_names == CLASS_NAMES


CHANGES = {
    "a wrong shape": (
        lambda t, m: t.update({"enter.bias": torch.zeros(5)}),
        r"enter.bias must have shape \(16,\), got \(5,\)",
    ),
    "a wrong dtype": (
        lambda t, m: t.update({"enter.bias": t["enter.bias"].double()}),
        "tensors must be F32 or F16, got enter.bias F64",
    ),
    "integers": (lambda t, m: t.update({"enter.bias": torch.zeros(16, dtype=torch.int64)}), "got enter.bias I64"),
    "a missing tensor": (lambda t, m: t.pop("enter.bias"), "missing tensors: enter.bias"),
    "an unknown tensor": (lambda t, m: t.update(extra=torch.zeros(1)), "unknown tensors: extra"),
    "a number that is none": (lambda t, m: t["enter.bias"].fill_(float("nan")), "enter.bias has values that are not"),
    "no class names": (lambda t, m: m.pop("class_names"), "its metadata lack class_names"),
    "no metadata": (lambda t, m: m.clear(), "its metadata lack format, format_version, scheduler_config"),
    "another format": (lambda t, m: m.update(format="other"), "must have format ddim-demo-digits version 1, got other"),
    "a newer version": (lambda t, m: m.update(format_version="2"), "version 1, got ddim-demo-digits 2"),
    "broken JSON": (lambda t, m: m.update(scheduler_config="{"), "metadata scheduler_config is not JSON"),
    "deep JSON": (lambda t, m: m.update(class_names="[" * 100_000), "metadata class_names is not JSON"),
    "a number of thousands of digits": (
        lambda t, m: m.update(architecture='{"fine_channels": ' + "9" * 5000 + "}"),
        "metadata architecture is not JSON",
    ),
    "another schedule": (
        lambda t, m: m.update(scheduler_config=json.dumps(SCHEDULER_CONFIG | {"beta_end": 0.02})),
        "scheduler_config must be .* got .*0.02",
    ),
    "too few class names": (lambda t, m: m.update(class_names='["zero"]'), "must be a list of 10 names"),
    "class names that are no names": (lambda t, m: m.update(class_names=json.dumps([1] * 10)), "list of 10 names"),
    "unknown sizes": (lambda t, m: m.update(architecture='{"depth": 3}'), "architecture must name"),
    "a giant network": (
        lambda t, m: m.update(architecture=json.dumps(SMALL.as_dict() | {"fine_channels": 10**9})),
        "architecture is impossible: fine_channels must be a whole number between 1 and 512",
    ),
    "other sizes than the tensors": (
        lambda t, m: m.update(architecture=json.dumps(SMALL.as_dict() | {"fine_channels": 24})),
        "must have shape",
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_file_with_this_is_refused(good: Path, what: str) -> None:
    change, message = CHANGES[what]
    with pytest.raises(DemoWeightsError, match=message):
        load_demo_model(rewrite(good, change))


@pytest.mark.parametrize("key", ["format", "format_version", "scheduler_config", "class_names", "architecture"])
def test_an_error_quotes_the_beginning_of_what_a_file_says(good: Path, key: str) -> None:
    long = json.dumps(["x" * 20_000] * 3)
    with pytest.raises(DemoWeightsError) as refused:
        load_demo_model(rewrite(good, lambda t, m: m.update({key: long})))
    assert len(str(refused.value)) < 1500


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(DemoWeightsError, match=r"no weight file at .*absent.safetensors; .*python -m demo.train"):
        load_demo_model(tmp_path / "absent.safetensors")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DemoWeightsError, match="no weight file"):
        load_demo_model(tmp_path)


class Detonates:
    """Unpickling this would show."""

    def __reduce__(self) -> tuple:
        return (pytest.fail, ("the file was unpickled",))


def test_pickles_are_refused_and_never_opened(tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(pickle.dumps(Detonates()))
    torch.save(DigitsUNet(SMALL).state_dict(), tmp_path / "state.pt")
    for name in ("weights.pt", "state.pt"):
        with pytest.raises(DemoWeightsError, match="not a complete safetensors file"):
            load_demo_model(tmp_path / name)


@pytest.mark.parametrize("kept", [0, 4, 100, 0.5, 0.999])
def test_a_file_that_was_cut_off_is_refused(good: Path, kept: float) -> None:
    whole = good.read_bytes()
    good.write_bytes(whole[: int(kept * len(whole)) if 0 < kept < 1 else int(kept)])
    with pytest.raises(DemoWeightsError, match="not a complete safetensors file"):
        load_demo_model(good)


def test_a_file_that_is_too_large_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "large.safetensors").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(DemoWeightsError, match=f"has {MAX_FILE_BYTES + 1} bytes"):
        load_demo_model(tmp_path / "large.safetensors")


def test_a_failed_save_keeps_the_old_file_and_leaves_nothing_behind(good: Path, contents) -> None:
    before = good.read_bytes()
    with pytest.raises(Exception, match="int|str|metadata"):
        save_weights(good, contents[0], SMALL, {"class_names": 3})  # type: ignore[dict-item]
    assert good.read_bytes() == before
    assert [path.name for path in good.parent.iterdir()] == [good.name]


def test_the_file_of_the_project_is_small_and_says_where_it_is_from() -> None:
    model = load_demo_model()
    assert DEFAULT_WEIGHTS.stat().st_size <= MAX_FILE_BYTES
    assert model.metadata["training_command"] == "python -m demo.train"
    assert model.class_names == CLASS_NAMES


def test_loading_does_not_import_the_compiler():
    """It takes seconds, and writes a folder of its own into the temp folder."""
    program = (
        "import sys; from demo import load_demo_model; load_demo_model(); "
        "print([name for name in sys.modules if name.startswith(('torch._inductor', 'torch._dynamo', 'sympy'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

"""Training: it learns, it repeats itself to the last bit, and it survives an interruption."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import ddim
from demo import load_demo_model
from demo.data import data_hash
from demo.network import DigitsUNet
from demo.train import alpha_bar, learning_rate, main, train
from demo.training.digits import DIGITS, DigitBatches
from demo.training.recipe import TrainingOptions
from demo.training.state import resume_training, save_training, start_training
from demo.weights_file import SCHEDULER_CONFIG

SHORT = TrainingOptions(steps=24, batch_size=8, warmup_steps=4)


@pytest.fixture(scope="module")
def batches() -> DigitBatches:
    return DIGITS.load()


@pytest.fixture(scope="module")
def uninterrupted(batches: DigitBatches) -> tuple[list[float], dict[str, torch.Tensor]]:
    return run(start_training(SHORT, DigitsUNet), batches)


def run(training, batches: DigitBatches) -> tuple[list[float], dict[str, torch.Tensor]]:
    losses: list[float] = []
    train(training, batches, lambda step, loss: losses.append(loss))
    return losses, training.average


def test_the_loss_falls(uninterrupted) -> None:
    losses, _ = uninterrupted
    assert sum(losses[-4:]) < 0.75 * sum(losses[:4])


def test_the_same_training_twice_gives_the_same_bits(uninterrupted, batches: DigitBatches) -> None:
    losses, average = run(start_training(SHORT, DigitsUNet), batches)
    assert losses == uninterrupted[0]
    assert all(torch.equal(average[name], tensor) for name, tensor in uninterrupted[1].items())


def test_an_interrupted_training_ends_in_the_same_bits(uninterrupted, batches: DigitBatches, tmp_path: Path) -> None:
    class Interrupted(Exception):
        pass

    def stop_early(step: int, loss: float) -> None:
        if step == 9:
            raise Interrupted

    training = start_training(SHORT, DigitsUNet)
    with pytest.raises(Interrupted):
        train(training, batches, stop_early)
    save_training(training, tmp_path / "state.safetensors")
    losses, average = run(resume_training(tmp_path / "state.safetensors", SHORT, DigitsUNet), batches)
    assert losses == uninterrupted[0][9:]
    assert all(torch.equal(average[name], tensor) for name, tensor in uninterrupted[1].items())


def test_a_state_of_other_options_is_not_resumed(tmp_path: Path) -> None:
    save_training(start_training(SHORT, DigitsUNet), tmp_path / "state.safetensors")
    with pytest.raises(ValueError, match="give the same options, or remove the file"):
        resume_training(tmp_path / "state.safetensors", replace(SHORT, seed=1), DigitsUNet)


def test_the_command_writes_weights_that_load_and_removes_its_state(tmp_path: Path, batches: DigitBatches) -> None:
    output = tmp_path / "new" / "weights.safetensors"
    arguments = ["--steps", "2", "--batch-size", "4", "--precision", "fp32", "--output", str(output)]
    threads = torch.get_num_threads()
    main(arguments)
    model = load_demo_model(output)
    assert model.metadata["data_sha256"] == data_hash(batches.scans)
    assert model.metadata["training_command"] == " ".join(["python -m demo.train", *arguments])
    assert [path.name for path in output.parent.iterdir()] == [output.name]
    assert set(load_file(output)) == set(model.network.state_dict())
    assert torch.get_num_threads() == threads


def test_the_noise_levels_are_those_of_the_scheduler_and_end_in_pure_noise() -> None:
    scheduler = ddim.DDIMScheduler(**SCHEDULER_CONFIG)
    assert torch.allclose(alpha_bar(), scheduler.alphas_cumprod.double(), atol=1e-7)
    assert alpha_bar()[-1] == 0.0


def test_a_batch_depends_on_seed_and_step_alone(batches: DigitBatches) -> None:
    first, again = (batches.draw(SHORT, 7) for _ in range(2))
    other = batches.draw(SHORT, 8)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[3], other[3])


def test_timesteps_cover_the_whole_range_evenly_and_labels_are_dropped_at_the_rate_asked_for(
    batches: DigitBatches,
) -> None:
    drawn = [batches.draw(TrainingOptions(), step) for step in range(60)]
    labels = torch.cat([batch.condition for batch in drawn])
    timesteps = torch.cat([batch.timestep for batch in drawn])
    assert timesteps.min() >= 0 and timesteps.max() <= 999
    assert torch.histc(timesteps.float(), bins=32, min=0, max=1000).sub(60).abs().max() <= 5
    assert 0.06 < (labels == 10).float().mean() < 0.14


def test_the_learning_rate_rises_stays_and_falls_to_nearly_nothing() -> None:
    options = TrainingOptions()
    rates = [learning_rate(options, step) for step in range(options.steps)]
    assert rates[0] < 0.01 * options.learning_rate and rates[-1] < 0.001 * options.learning_rate
    assert rates[options.warmup_steps] == rates[options.steps // 2] == max(rates) == options.learning_rate


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"batch_size": 7}, r"batch_size \(7\) must be divisible by parts \(2\)"),
        ({"precision": "int4"}, "precision must be one of bf16, fp32, got 'int4'"),
    ],
)
def test_impossible_options_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingOptions(**changes)

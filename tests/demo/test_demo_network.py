"""The demo network's shapes, labels and refusals."""

import pytest
import torch

from demo import UNCONDITIONAL, Architecture, DigitsUNet


@pytest.fixture(scope="module")
def network() -> DigitsUNet:
    """Random weights everywhere, so that no path is silenced by a zero at the start."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        built = DigitsUNet(Architecture(fine_channels=16, coarse_channels=32, condition_channels=24))
        for parameter in built.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
    return built.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def noisy() -> torch.Tensor:
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_the_default_network_has_about_one_and_a_half_million_parameters() -> None:
    assert 1.3e6 < sum(parameter.numel() for parameter in DigitsUNet().parameters()) < 1.8e6


def test_the_output_has_the_shape_of_the_input(network: DigitsUNet, noisy: torch.Tensor) -> None:
    assert network(noisy, torch.tensor([0, 500, 999]), torch.tensor([0, 9, UNCONDITIONAL])).shape == noisy.shape


def test_numbers_and_rows_mean_the_same(network: DigitsUNet, noisy: torch.Tensor) -> None:
    timestep, label = torch.tensor([3, 400, 999]), torch.tensor([7, 0, UNCONDITIONAL])
    rows = torch.nn.functional.one_hot(label, 11)
    by_number = network(noisy, timestep, label)
    assert torch.equal(by_number, network(noisy, timestep, rows))
    assert torch.equal(by_number, network(noisy, timestep, rows.float()))


def test_soft_rows_lie_between_classes(network: DigitsUNet, noisy: torch.Tensor) -> None:
    timestep = torch.full((3,), 500)
    soft = torch.zeros(3, 11)
    soft[:, 2] = soft[:, 5] = 0.5
    mixed = network(noisy, timestep, soft)
    for label in (2, 5):
        assert not torch.allclose(mixed, network(noisy, timestep, torch.full((3,), label)))


def test_time_and_class_matter(network: DigitsUNet, noisy: torch.Tensor) -> None:
    label = torch.full((3,), 4)
    base = network(noisy, torch.full((3,), 500), label)
    assert not torch.allclose(base, network(noisy, torch.full((3,), 501), label))
    assert not torch.allclose(base, network(noisy, torch.full((3,), 500), label + 1))


def test_a_picture_alone_and_in_a_batch_get_the_same(network: DigitsUNet, noisy: torch.Tensor) -> None:
    timestep, label = torch.tensor([3, 400, 999]), torch.tensor([7, 0, 1])
    together = network(noisy, timestep, label)
    for i in range(3):
        alone = network(noisy[i : i + 1], timestep[i : i + 1], label[i : i + 1])
        assert torch.allclose(alone[0], together[i], atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "timestep", "label", "message"),
    [
        ((2, 3, 31, 32), [1, 1], [1, 1], r"x must have shape \(B, 3, 32, 32\), got \(2, 3, 31, 32\)"),
        ((2, 4, 32, 32), [1, 1], [1, 1], r"got \(2, 4, 32, 32\)"),
        ((2, 3, 32, 32), [1], [1, 1], r"timestep must have shape \(2,\)"),
        ((2, 3, 32, 32), [1, 1], [1], r"label must be \(2,\) integers or \(2, 11\) weights"),
        ((2, 3, 32, 32), [1, 1], [0.5, 1.0], r"label must be .* torch.float32"),
    ],
)
def test_wrong_inputs_are_refused(network: DigitsUNet, shape, timestep, label, message) -> None:
    with pytest.raises(ValueError, match=message):
        network(torch.zeros(shape), torch.tensor(timestep), torch.tensor(label))


@pytest.mark.parametrize("label", [-1, 11])
def test_a_class_that_does_not_exist_is_refused(network: DigitsUNet, label: int) -> None:
    with pytest.raises(ValueError, match=f"0..10, got {label}"):
        network(torch.zeros(1, 3, 32, 32), torch.tensor([5]), torch.tensor([label]))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"fine_channels": 10_000}, "fine_channels must be a whole number between 1 and 512, got 10000"),
        ({"fine_channels": 12}, "divisible by 8, got 12"),
        ({"coarse_channels": True}, "coarse_channels must be a whole number"),
        ({"attention_heads": 3}, "divisible by attention_heads"),
    ],
)
def test_impossible_sizes_are_refused(sizes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Architecture(**sizes)

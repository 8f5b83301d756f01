"""The demo network as a flow model: not trained again, but behind a change of time and scale.

A flow model sees x_t = (1 - sigma) x_0 + sigma epsilon. Divided by its length sqrt((1 - sigma)^2 + sigma^2), that is
what a variance preserving network sees at alpha_bar = (1 - sigma)^2 / ((1 - sigma)^2 + sigma^2).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["TIME_SCALE", "FlowNetwork"]

TIME_SCALE = 1000.0  # what the network is called with is this times sigma


class FlowNetwork(nn.Module):
    """A flow network, made of one that predicts v."""

    levels: Tensor

    def __init__(self, network: nn.Module, alpha_bar: Tensor) -> None:
        """Wrap a network.

        Args:
            network: `network(x, timestep, label)` predicts v; its timesteps may lie between whole numbers.
            alpha_bar: (T,) float64, falling, its noise levels.
        """
        super().__init__()
        self.network = network
        self.register_buffer("levels", _angle(alpha_bar.sqrt(), (1 - alpha_bar).sqrt()), persistent=False)

    def forward(self, x: Tensor, time: Tensor, label: Tensor) -> Tensor:
        """Predict epsilon - x_0.

        Args:
            x: (B, 3, 32, 32) noisy pictures, (1 - sigma) x_0 + sigma epsilon.
            time: (B,) 1000 sigma.
            label: As the network takes it.

        Returns:
            (B, 3, 32, 32).
        """
        flow = (time.double() / TIME_SCALE).clamp(0, 1)
        length = torch.hypot(1 - flow, flow)
        timestep = self._timestep(_angle(1 - flow, flow))
        weights = torch.stack([(1 - flow) / length, flow / length, length])
        alpha, sigma, length = weights.to(x.dtype)[..., None, None, None]
        preserved = x / length
        v = self.network(preserved, timestep, label)
        x0, epsilon = alpha * preserved - sigma * v, sigma * preserved + alpha * v
        return epsilon - x0

    def _timestep(self, angle: Tensor) -> Tensor:
        """Return the network's timesteps at these levels, (B,) float32, interpolated between whole ones."""
        above = torch.searchsorted(self.levels, angle).clamp(1, len(self.levels) - 1)
        low, high = self.levels[above - 1], self.levels[above]
        return (above - 1 + ((angle - low) / (high - low)).clamp(0, 1)).float()


def _angle(alpha: Tensor, sigma: Tensor) -> Tensor:
    """Return a noise level as an angle from 0 (data) to pi/2 (noise), which is well defined at both ends."""
    return torch.atan2(sigma, alpha)

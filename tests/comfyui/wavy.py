"""A network without a right answer, for latents of any rank: every difference between two runs shows."""

import torch

CONFIG = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "clip_sample": False}


class Wavy(torch.nn.Module):
    """Smooth in x, dependent on timestep and label, mixing neighbours."""

    def forward(self, x, timestep, rows):
        shape = (-1, *[1] * (x.ndim - 1))
        weight = (rows * torch.linspace(-1, 1, rows.shape[1])).sum(1).reshape(shape)
        return torch.sin(x + weight) + 0.2 * torch.cos(x.flip(-1) * (1 + timestep.reshape(shape) / 500))

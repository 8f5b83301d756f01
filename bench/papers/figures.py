"""A measured figure: its value, its interval, and how many samples it is made of."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

__all__ = ["Z95", "Figure", "bootstrapped", "exact", "mean", "share", "spread"]

Z95 = 1.959964  # of the standard normal distribution: 95 % lie within
RESAMPLES = 1000


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        value: As measured on all samples.
        low, high: Ends of its 95 % interval.
        count: Samples; 0 for a figure in closed form, which has no interval.
    """

    value: float
    low: float
    high: float
    count: int

    def as_dict(self) -> dict[str, float]:
        """Return what a file of results holds."""
        return asdict(self)

    def plus_minus(self, digits: int) -> str:
        """Format with half the interval's length: "1.23 ± 0.04"."""
        if not self.count:
            return f"{self.value:.{digits}f}"
        return f"{self.value:.{digits}f} ± {(self.high - self.low) / 2:.{digits}f}"

    def percent(self) -> str:
        """Format a share with its interval: "98 % (95 to 99)"."""
        return f"{self.value:.0%} ({100 * self.low:.0f} to {100 * self.high:.0f})".replace("%", " %", 1)


def exact(value: float) -> Figure:
    """Return a figure in closed form."""
    return Figure(value, value, value, 0)


def share(hits: Tensor) -> Figure:
    """Return the share of hits with Wilson's binomial interval (E. B. Wilson 1927, JASA 22, 209).

    Args:
        hits: (N,) bool.
    """
    n, p = len(hits), float(hits.double().mean())
    middle = (p + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * math.sqrt(p * (1 - p) / n + Z95**2 / (4 * n * n))
    return Figure(p, max(0.0, min(p, middle - half)), min(1.0, max(p, middle + half)), n)  # rounding at 0 and at 1


def bootstrapped(statistic: Callable[[Tensor], float], count: int, resamples: int = RESAMPLES) -> Figure:
    """Return a statistic with 1.96 of its bootstrap standard deviations on either side.

    The standard deviation is used, not the percentiles: statistics that grow with fewer distinct samples, such as the
    Frechet distance, are larger on every resample than on the samples, and the percentiles would leave the value out.

    Args:
        statistic: Of the samples with these indices, ``(N,)`` int64, in which an index may be repeated.
        count: Number of samples N.
        resamples: How often N samples are drawn with replacement.
    """
    generator = torch.Generator().manual_seed(0)
    values = torch.tensor(
        [statistic(torch.randint(count, (count,), generator=generator)) for _ in range(resamples)], dtype=torch.float64
    )
    value, half = statistic(torch.arange(count)), Z95 * float(values.std())
    return Figure(value, value - half, value + half, count)


def mean(values: Tensor) -> Figure:
    """Return the mean of values, ``(N,)``, with its bootstrap interval."""
    values = values.double().flatten()
    return bootstrapped(lambda chosen: float(values[chosen].mean()), len(values))


def spread(values: Tensor) -> Figure:
    """Return the standard deviation of values, ``(N,)``, with its bootstrap interval."""
    values = values.double().flatten()
    return bootstrapped(lambda chosen: float(values[chosen].std()), len(values))

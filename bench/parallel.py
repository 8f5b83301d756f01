"""Model calls that parallel-in-time sampling saves on the demo model: ``python -m bench.parallel``."""

from __future__ import annotations

import torch
from torch import Tensor

import ddim
from bench.timing import print_table
from demo import load_demo_model

WINDOWS = ((1000, 64), (1000, 16), (100, 32), (100, 16))


def main(runs: tuple[tuple[int, int], ...] = WINDOWS) -> None:
    """Print the table."""
    demo = load_demo_model()
    known = set(ddim.SchedulerConfig.__dataclass_fields__)
    config = ddim.SchedulerConfig(**{k: v for k, v in demo.scheduler_config.items() if k in known})
    label = 3

    def model(x: Tensor, t: Tensor) -> Tensor:
        return demo.network(x, t.expand(len(x)), torch.full((len(x),), label))

    start = torch.randn((1, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    rows, sequential = [], {}
    with torch.inference_mode():
        for steps, window in runs:
            for eta in (0.0, 1.0):
                schedule = ddim.make_schedule(steps, config)
                if (steps, eta) not in sequential:
                    sequential[steps, eta] = ddim.sample(model, start, schedule.scheduler(), eta=eta, seed=1)
                run = ddim.sample_parallel(
                    model, start, schedule.scheduler(), window=window, tolerance=1e-2, eta=eta, seed=1
                )
                error = float((run.sample - sequential[steps, eta]).square().mean().sqrt())
                times, more = steps / run.model_calls, run.evaluations / steps
                rows.append((steps, window, eta, run.model_calls, f"{times:.1f} x", f"{more:.2f} x", f"{error:.1e}"))
    head = ("steps", "window", "eta", "model calls", "reduction", "work", "RMS difference from sequential")
    print_table("Parallel in time (tolerance 0.01), demo model", head, rows)


if __name__ == "__main__":
    main()

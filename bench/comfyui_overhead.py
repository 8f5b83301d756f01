"""What our nodes cost inside ComfyUI beside its own: ``python -m bench.comfyui_overhead COMFYUI_PATH ...``.

Prints, for the network that costs nothing of ``inside_comfyui/cells.py``: seconds of whole runs, stock and ours taking
turns in one process; set-up; operators and host reads of a step. ``--counts`` prints the counts alone, which are exact.
Without a path, that of the environment's COMFYUI_PATH is used. ``--full-size`` measures instead the networks of SD 1.5
and SDXL with random weights (``inside_comfyui/full_size.py``): what share of a run is not the network. It needs 17 GB
of memory and 6 GB in the folder for temporary files; ``--only SD15`` needs 6 GB and 2 GB.
The embedded host is measured by ``embedded_overhead.py``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from bench.timing import print_table
from host.engines.checkout.layout import interpreter_of
from host.engines.spec import EngineSpec

CELLS = Path(__file__).parent / "inside_comfyui" / "cells.py"
FULL_SIZE = CELLS.with_name("full_size.py")
SHAPES = ((1, 3, 64, 64), (1, 3, 128, 128), (8, 3, 64, 64))
PAIRS = 7  # of runs, in cells.py
COUNTS = ("operators", "waits for the device", "copies to the host")
NETWORKS = ("SD15", "SDXL")
FULL_RUN = {"pixels": 256, "steps": 3, "rounds": 3}


def answers(comfyui: Path, request: dict[str, Any], script: Path = CELLS) -> Iterator[dict[str, Any]]:
    """Run a script of ``inside_comfyui`` in ComfyUI's interpreter and yield what it prints.

    Raises:
        RuntimeError: If it fails.
    """
    command = [interpreter_of(EngineSpec(), comfyui), str(script), str(comfyui), json.dumps(request)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=comfyui) as process:
        assert process.stdout is not None and process.stderr is not None
        errors: list[str] = []
        for line in process.stdout:
            yield json.loads(line)
        errors = process.stderr.read().splitlines()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command[:2])} ended with {process.returncode}: " + "\n".join(errors[-20:]))


def counted(comfyui: Path, shape: tuple[int, ...] = SHAPES[0]) -> list[dict[str, Any]]:
    """Return the counts of a step, per pair of runs: ``cell``, ``stock`` and ``ours`` in the order of COUNTS."""
    return list(answers(comfyui, {"counts": shape}))


def counts_table(comfyui: Path) -> None:
    """Print operators and host reads."""
    rows = [
        [row["cell"], *(f"{stock:g} / {ours:g}" for stock, ours in zip(row["stock"], row["ours"], strict=True))]
        for row in counted(comfyui)
    ]
    print_table(f"{comfyui}: counts of a step, stock / ours", ("", *COUNTS), rows)


def times_table(comfyui: Path, rounds: int) -> None:
    """Print the microseconds of a step: medians of whole runs of 40 steps, divided by 40; wall clock and processor."""
    request = {"times": SHAPES, "rounds": rounds}
    rows = []
    for answer in tqdm(answers(comfyui, request), total=PAIRS * len(SHAPES), desc="runs", unit="cell", leave=False):
        cells = []
        for clock in (0, 1):
            sides = (statistics.median(run[clock] for run in answer[side]) for side in ("stock", "ours"))
            stock, ours = (seconds / answer["steps"] * 1e6 for seconds in sides)
            cells.append(f"{stock:.0f} / {ours:.0f} / {ours / stock:.2f}")
        rows.append(["x".join(map(str, answer["shape"])), answer["cell"], *cells])
    head = ("", "", "wall clock", "processor time of the thread")
    print_table(f"{comfyui}: microseconds of a step, stock / ours / ratio", head, rows)


def set_up_table(comfyui: Path, rounds: int) -> None:
    """Print the milliseconds that a run takes beside its steps."""
    measured = next(answers(comfyui, {"set_up": rounds}))["set_up"]
    rows = [[name, f"{statistics.median(seconds) * 1e3:.1f}"] for name, seconds in measured.items()]
    print_table(f"{comfyui}: milliseconds", ("", "median"), rows)


def summary(runs: list[dict[str, Any]], steps: int) -> dict[str, float]:
    """Return medians of a side of full_size.py.

    Returns:
        ``step``: seconds from the beginning of a step's network call to that of the next step's. ``beyond``: seconds
        of a run outside the network, divided by the steps. ``share``: the same as a part of the run. ``between``:
        seconds from the end of a network call to the beginning of the next.
    """
    calls = [pair for run in runs for pair in zip(run["network"], run["between"], strict=False)]
    outside = [(run["run"] - sum(run["network"]), run["run"]) for run in runs]
    return {
        "step": statistics.median(network + between for network, between in calls),
        "beyond": statistics.median(seconds for seconds, _ in outside) / steps,
        "share": statistics.median(seconds / whole for seconds, whole in outside),
        "between": statistics.median(between for _, between in calls),
    }


def full_size_table(comfyui: Path, network: str) -> None:
    """Print what a step of KSampler and of DDIM KSampler takes with a network of real size, and how much is not it."""
    row = next(answers(comfyui, {"network": network, **FULL_RUN}, FULL_SIZE))
    rows = []
    for side, name in (("stock", "KSampler, ddim"), ("ours", "DDIM KSampler")):
        runs, medians = row[side], summary(row[side], row["steps"])
        calls = {f"{len(run['rows'])} of {max(run['rows'])} rows" for run in runs}
        beyond, between = (f"{medians[key] * 1e3:.1f} ms" for key in ("beyond", "between"))
        rows.append([name, *calls, f"{medians['step']:.2f} s", beyond, f"{medians['share']:.2%}", between])
    title = (
        f"{comfyui}: {network}, recognised as {row['loaded']}, {row['parameters']:,} parameters, file in "
        f"{row['stored']}, then {row['weights']}, computing in {row['stock'][0]['dtype']}, {row['threads']} threads, "
        f"peak {row['peak_bytes'] / 1e9:.1f} GB, largest relative difference {row['difference']:.1e}"
    )
    print_table(title, ("", "calls of a run", "a step", "beyond the network", "share", "between calls"), rows)


def main(arguments: list[str] | None = None) -> None:
    """Print the tables of every ComfyUI given."""
    parser = argparse.ArgumentParser("python -m bench.comfyui_overhead", description=__doc__)
    parser.add_argument("comfyui", nargs="*", type=Path, help="ComfyUI checkouts")
    parser.add_argument("--counts", action="store_true", help="print the counts alone")
    parser.add_argument("--rounds", type=int, default=31, help="runs of each side (default: %(default)s)")
    parser.add_argument("--full-size", action="store_true", help="measure SD 1.5 and SDXL at real size instead")
    parser.add_argument("--only", choices=NETWORKS, help="with --full-size: one network alone")
    parsed = parser.parse_args(arguments)
    given = [Path(path) for path in (os.environ.get("COMFYUI_PATH"),) if path]
    for comfyui in parsed.comfyui or given:
        if parsed.full_size:
            for network in (parsed.only,) if parsed.only else NETWORKS:
                full_size_table(comfyui.resolve(), network)
            continue
        counts_table(comfyui.resolve())
        if not parsed.counts:
            set_up_table(comfyui.resolve(), parsed.rounds)
            times_table(comfyui.resolve(), parsed.rounds)
    if not (parsed.comfyui or given):
        print("not measured inside ComfyUI: give the path of a checkout, or set COMFYUI_PATH")


if __name__ == "__main__":
    main()

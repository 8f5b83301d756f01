"""Every table and plot: ``python -m bench`` (``--quick`` takes less time, ``--only speed`` runs one part)."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent


def speed(quick: bool, images: Path) -> None:
    """Measure operators, host time, steps, guidance, noise and import."""
    from bench import speed as tables

    tables.main(0.15 if quick else 0.6)


def accuracy(quick: bool, images: Path) -> None:
    """Measure errors relative to float64."""
    from bench import accuracy as tables

    tables.main((50,) if quick else (50, 1000))


def parallel(quick: bool, images: Path) -> None:
    """Measure the model calls that parallel-in-time sampling saves."""
    from bench import parallel as tables

    tables.main(((100, 32),) if quick else tables.WINDOWS)


def gpu(quick: bool, images: Path) -> None:
    """Run ``bench.gpu``, if there is a GPU."""
    from bench import gpu as tables

    tables.main([])


def plots(quick: bool, images: Path) -> None:
    """Plot cost against size and against number of steps."""
    from bench.figures import plots as drawings

    drawings.main(images)


def demo_quality(quick: bool, images: Path) -> None:
    """Measure the quality of the demo model's pictures."""
    from bench import demo_quality as tables

    tables.main([])


def emoji(quick: bool, images: Path) -> int:
    """Measure the quality of the emoji model's pictures."""
    from bench.emoji.__main__ import main as tables

    return tables(["--images", str(images), *(["--quick"] if quick else [])])


def fitted_steps(quick: bool, images: Path) -> int:
    """Measure what fitted steps gain on the demo model."""
    from bench.fitted_steps.__main__ import main as tables

    return tables(quick, images)


def papers(quick: bool, images: Path) -> int:
    """Measure the papers' tables again; the page goes to docs, for a quick run to output/papers."""
    from bench.papers.__main__ import main as tables

    return tables(["--quick"] if quick else [])


def hosts(quick: bool, images: Path) -> None:
    """Measure our nodes inside ComfyUI, where there is a checkout, and in the embedded host."""
    from bench import comfyui_overhead, embedded_overhead

    comfyui_overhead.main(["--counts"] if quick else [])
    embedded_overhead.main()


PARTS: dict[str, Callable[[bool, Path], int | None]] = {
    part.__name__: part
    for part in (speed, accuracy, parallel, gpu, plots, demo_quality, emoji, fitted_steps, papers, hosts)
}


def main() -> int:
    """Run the requested parts, and return exit status 1 if one of them misses a requirement."""
    parser = argparse.ArgumentParser("python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less time per measurement and fewer step counts")
    parser.add_argument("--only", choices=tuple(PARTS), action="append", help="run only this part; may be repeated")
    parser.add_argument("--images", type=Path, default=ROOT / "docs" / "images", help="folder for the plots")
    arguments = parser.parse_args()
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # silences a fallback message of what diffusers imports
    warnings.filterwarnings("ignore", category=FutureWarning)  # raised by diffusers
    threads, status = torch.get_num_threads(), 0
    for name in tqdm(arguments.only or list(PARTS), desc="bench", unit="part"):
        torch.set_num_threads(threads)  # some parts set one thread and do not reset it
        status = max(status, PARTS[name](arguments.quick, arguments.images) or 0)
    return status


if __name__ == "__main__":
    sys.exit(main())

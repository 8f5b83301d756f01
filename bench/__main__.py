"""Every table and plot: ``python -m bench`` (``--quick`` for shorter turns, ``--only speed`` for one part)."""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent


def speed(quick: bool, images: Path) -> None:
    """Operators, host time, steps, guidance, noise, import."""
    from bench import speed as tables

    tables.main(0.15 if quick else 0.6)


def accuracy(quick: bool, images: Path) -> None:
    """Errors against float64."""
    from bench import accuracy as tables

    tables.main((50,) if quick else (50, 1000))


def parallel(quick: bool, images: Path) -> None:
    """Calls saved by sampling parallel in time."""
    from bench import parallel as tables

    tables.main(((100, 32),) if quick else tables.WINDOWS)


def gpu(quick: bool, images: Path) -> None:
    """What ``bench.gpu`` measures, where there is a GPU."""
    from bench import gpu as tables

    tables.main([])


def plots(quick: bool, images: Path) -> None:
    """Cost against size and against steps."""
    from bench import plots as drawings

    drawings.main(images)


def demo_quality(quick: bool, images: Path) -> None:
    """How good the demo model's pictures are."""
    from bench import demo_quality as tables

    tables.main([])


PARTS: dict[str, Callable[[bool, Path], None]] = {
    part.__name__: part for part in (speed, accuracy, parallel, gpu, plots, demo_quality)
}


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser("python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="shorter turns and fewer step counts")
    parser.add_argument("--only", choices=tuple(PARTS), action="append", help="one part; may be given again")
    parser.add_argument("--images", type=Path, default=ROOT / "docs" / "images", help="where the plots go")
    arguments = parser.parse_args()
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # diffusers imports what wants to say that it falls back
    warnings.filterwarnings("ignore", category=FutureWarning)  # of diffusers
    threads = torch.get_num_threads()
    for name in tqdm(arguments.only or list(PARTS), desc="bench", unit="part"):
        torch.set_num_threads(threads)  # a part that measures on one thread leaves it at that
        PARTS[name](arguments.quick, arguments.images)


if __name__ == "__main__":
    main()

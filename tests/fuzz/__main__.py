"""`make fuzz`: every target in turn, with new seeds, until the time is up; prints what each answered.

A finding is printed with the command that shows it again. The exit code is 1 if there is one.
"""

from __future__ import annotations

import argparse
import logging
import random
import resource
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

from tests.fuzz.runner import Tally, run
from tests.fuzz.targets import TARGETS
from tests.fuzz.workbench import Target, Workbench

ROUND = 5  # times the inputs of a short run, before it is the next target's turn
MAX_FINDINGS = 3  # of a target, which is then left out


def main() -> int:
    """Fuzz. Returns the exit code."""
    args = _arguments()
    chosen = [target for target in TARGETS if args.target in ("", target.name)]
    if not chosen:
        print(f"TARGET must be one of {', '.join(target.name for target in TARGETS)}")
        return 2
    warnings.simplefilter("ignore")
    logging.disable()  # nodes that fail are part of it
    tallies = {target.name: Tally() for target in chosen}
    with tempfile.TemporaryDirectory() as folder:
        bench = Workbench(Path(folder) / "bench")
        try:
            _fuzz(chosen, bench, args, tallies)
            peak = bench.host.peak()
        finally:
            bench.close()
    _print_table(tallies, peak)
    return 1 if any(tally.findings for tally in tallies.values()) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long")
    parser.add_argument("--target", default="", help="one target alone")
    parser.add_argument("--seed", type=int, help="the seed of the first round; with it, one round is run")
    return parser.parse_args()


def _fuzz(chosen: list[Target], bench: Workbench, args: argparse.Namespace, tallies: dict[str, Tally]) -> None:
    number = random.SystemRandom().randrange(2**31) if args.seed is None else args.seed
    end = time.monotonic() + 60 * args.minutes
    while time.monotonic() < end:
        print(f"seed {number}, {max(end - time.monotonic(), 0) / 60:.1f} minutes left", flush=True)
        for target in chosen:
            if time.monotonic() < end and len(tallies[target.name].findings) < MAX_FINDINGS:
                _one_round(target, bench, number, tallies[target.name])
        number += 1
        if args.seed is not None:
            return


def _one_round(target: Target, bench: Workbench, number: int, tally: Tally) -> None:
    try:
        run(target, bench, ROUND * target.examples, number, tally)
    except Exception as error:
        tally.findings.append(f"{type(error).__name__}: {str(error)[:300]}")
        print(f"\nFINDING in {target.name}; again with: make fuzz TARGET={target.name} SEED={number}")
        notes, error.__notes__ = getattr(error, "__notes__", []), []
        print("".join(traceback.format_exception(error))[-4000:], "\n".join(notes)[:2000], flush=True)


def _print_table(tallies: dict[str, Tally], host_peak: int) -> None:
    print(f"\n{'target':26} {'inputs':>8} {'findings':>8}  answers")
    for name, tally in tallies.items():
        answers = ", ".join(f"{kind} {count}" for kind, count in tally.answers.most_common(9))
        print(f"{name:26} {tally.inputs:8} {len(tally.findings):8}  {answers}")
    findings = sum(len(tally.findings) for tally in tallies.values())
    print(f"{'all':26} {sum(tally.inputs for tally in tallies.values()):8} {findings:8}")
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"peak memory: the targets in this process {own >> 20} MiB, the host {host_peak >> 20} MiB")


if __name__ == "__main__":
    sys.exit(main())

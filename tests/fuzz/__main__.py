"""Fuzz the readers: ``python -m tests.fuzz --format all --count 10000 --seed 0``."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from tests.fuzz.run import Reader, Tally, fuzz
from tests.fuzz.seeds import SEEDS


def _line(tally: Tally, seconds: float) -> str:
    counts = ", ".join(f"{what} {number}" for what, number in sorted(tally.counts.items()))
    return (
        f"{tally.kind}: {tally.files} files in {seconds:.0f} s; {counts}; slowest {tally.slowest:.1f} s, "
        f"largest {tally.largest / 2**20:.0f} MiB"
    )


def main() -> int:
    """Fuzz, print a line for each format, and give 1 where something is to be mended."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--format", nargs="+", default=["all"], choices=["all", *SEEDS], metavar="FORMAT")
    parser.add_argument("--count", type=int, default=1000, help="mutated files of each format")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-kept"), help="folder for files to be mended")
    parser.add_argument(
        "--share", type=int, nargs=2, default=(0, 1), help="which, of how many, parts to read"
    )
    parser.add_argument(
        "--methods", action="store_true", help="also the readers of methods, which need torch"
    )
    options = parser.parse_args()
    kinds = list(SEEDS) if "all" in options.format else options.format
    reader, bad = Reader(options.methods), False
    for kind in kinds:
        start = time.monotonic()
        tally = fuzz(kind, options.count, options.seed, options.keep, reader, tuple(options.share))
        print(_line(tally, time.monotonic() - start), flush=True)
        for path, what in tally.kept:
            print(f"    {path}: {what}", flush=True)
        bad |= not tally.is_good
    reader.end()
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())

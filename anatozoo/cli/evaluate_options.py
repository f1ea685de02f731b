"""What both forms of ``anatozoo evaluate`` share: the options that say what is measured, and the output."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anatozoo.metrics.cases import Measures

EXIT_OK, EXIT_FAILED_IMAGES = 0, 3


def add_measuring_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what is measured and where the tables go."""
    how = parser.add_argument_group("what is measured")
    how.add_argument(
        "--spacing-mm",
        type=positive,
        nargs="+",
        metavar=("X", "Y"),
        help="millimetres per pixel where the data states none: one number, or across, down and, in volumes, "
        "between slices. Of radiographs with NAME it is that at 1024 x 1024 (JSRT: known, 0.35)",
    )
    how.add_argument(
        "--missing",
        type=_missing,
        default="worst",
        metavar="HOW",
        help="distance where one side lacks an organ: worst (default) is the image's diagonal, nan leaves "
        "the image out, a number is taken as it is",
    )
    how.add_argument(
        "--tolerance",
        type=positive,
        metavar="T",
        help="adds nsd, the surface Dice within T mm, or T pixels where the spacing is unknown",
    )
    how.add_argument(
        "--rounding",
        choices=("truncate", "nearest"),
        default="truncate",
        help="how contours meet the pixel grid; truncate (default) is what published numbers used",
    )
    how.add_argument(
        "--exclusive",
        action="store_true",
        help="draw both sides as label maps, where later organs cover earlier ones: the heart cuts the lungs",
    )
    out = parser.add_argument_group("output")
    out.add_argument("--out", type=Path, metavar="DIR", help="write the tables (CSV, JSON, Markdown) here")
    out.add_argument("--json", action="store_true", help="print the summary as JSON instead of Markdown")


def measures_of(args: argparse.Namespace) -> Measures:
    """What the options say about measuring."""
    from anatozoo.metrics.cases import Measures

    return Measures(args.missing, args.tolerance, args.rounding)


def check_output(args: argparse.Namespace) -> None:
    """Make the folder of the tables first, for nobody should wait for numbers that cannot be written.

    Raises:
        OutputError: it cannot be made.
    """
    from anatozoo.io.writers import make_folder

    if args.out is not None:
        make_folder(args.out)


def finish(
    args: argparse.Namespace, stem: str, rows: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]
) -> None:
    """Write the tables where ``--out`` says, and print the summary.

    Raises:
        OutputError: a file cannot be written.
    """
    from anatozoo.metrics.tables import markdown, write_tables

    if args.out is not None:
        for path in write_tables(args.out, stem, rows, summary):
            print(path, file=sys.stderr)
    print(json.dumps(summary, indent=2, ensure_ascii=False) if args.json else markdown(summary))


def measuring_words(args: argparse.Namespace) -> list[str]:
    """The options that say what is measured, as words of a command."""
    words = ["--rounding", args.rounding]
    words += ["--exclusive"] if args.exclusive else []
    words += ["--spacing-mm", *(f"{value:g}" for value in args.spacing_mm)] if args.spacing_mm else []
    words += ["--missing", str(args.missing)] if args.missing != "worst" else []
    return words + (["--tolerance", f"{args.tolerance:g}"] if args.tolerance else [])


def positive(text: str) -> float:
    """A number above 0, from the command line."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number above 0")
    return value


def share(text: str) -> float:
    """A number between 0 and 1, both excluded, from the command line."""
    value = positive(text)
    if value >= 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number between 0 and 1")
    return value


def at_least_one(text: str) -> int:
    """A whole number of at least 1, from the command line."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number of at least 1")
    return int(text)


def strengths(text: str) -> dict[str, float]:
    """Different names with finite numbers, as ``a=0.1,b=2``, from the command line."""
    found: dict[str, float] = {}
    for part in text.split(","):
        name, _, number = (word.strip() for word in part.partition("="))
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not name or not math.isfinite(value):
            raise argparse.ArgumentTypeError(f"{text!r} must be NAME=NUMBER with commas between")
        if name in found:
            raise argparse.ArgumentTypeError(f"{text!r} gives {name} twice")
        found[name] = value
    return found


def names_list(text: str) -> tuple[str, ...]:
    """Different names with commas between them, from the command line."""
    names = tuple(name.strip() for name in text.split(","))
    if not all(names) or len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"{text!r} must be different names with commas between them")
    return names


def _missing(text: str) -> str | float:
    if text in ("worst", "nan"):
        return text
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} must be worst, nan or a number of at least 0")
    return value

"""``anatozoo compare A.csv B.csv``: compare two evaluations of the same images, image by image."""

import argparse
import json
import shlex
import sys
from pathlib import Path

_DESCRIPTION = """\
Compare two evaluations of the same images. Prints, for each metric, the mean
paired difference with its 95 % bootstrap interval, a Wilcoxon signed-rank test
with Holm's correction, and the effect size."""
_EXAMPLES = """\
A.csv and B.csv are tables of `anatozoo evaluate --out DIR`, with one row per
image. Rows with the same id are compared.

examples:
  anatozoo compare unet_jsrt_val.csv hybridgnet_jsrt_val.csv
  anatozoo compare a.csv b.csv --metric 'dice/*' hd_mm/heart --out comparison"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``anatozoo compare``."""
    parser.epilog = _EXAMPLES
    parser.description = _DESCRIPTION
    parser.add_argument("a", type=Path, metavar="A.csv", help="table of the first evaluation")
    parser.add_argument("b", type=Path, metavar="B.csv", help="table of the second")
    parser.add_argument(
        "--metric",
        nargs="+",
        metavar="METRIC",
        help="metrics to test, for example dice/heart or the quoted pattern 'dice/*' (default: all that both "
        "tables have and that vary, in mm rather than pixels). P-values are corrected for their number",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write tables (CSV, JSON, Markdown) and a figure (PNG) here"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of Markdown")


def run(args: argparse.Namespace) -> int:
    """Compare and print or write the tables.

    Raises:
        AnatozooError: a table cannot be read or written, or the two have nothing in common.
    """
    from anatozoo.metrics.compare import (
        REMARKS,
        compare_rows,
        comparison_markdown,
        read_rows,
        write_comparison,
    )
    from anatozoo.metrics.tables import provenance

    names = _names(args.a, args.b)
    a, b = read_rows(args.a), read_rows(args.b)
    for remark in (*a.attrs[REMARKS], *b.attrs[REMARKS]):
        print(f"anatozoo: {remark}", file=sys.stderr)
    comparison = compare_rows(a, b, names, args.metric)
    words = ["anatozoo", "compare", args.a.name, args.b.name]
    words += ["--metric", *args.metric] if args.metric else []
    origin = {"command": shlex.join(words), **provenance(("numpy", "scipy"))}
    summary = comparison.to_dict() | origin
    versions = ", ".join(f"{name} {version}" for name, version in origin["versions"].items())
    text = comparison_markdown(comparison, (f"`{origin['command']}`", versions))
    if args.out is not None:
        stem = "_vs_".join(name.replace("/", "-") for name in names)
        for path in write_comparison(args.out, stem, comparison, summary, text):
            print(path, file=sys.stderr)
    print(json.dumps(summary, indent=2, ensure_ascii=False) if args.json else text)
    return 0


def _names(a: Path, b: Path) -> tuple[str, str]:
    """What the evaluations are called: the files' names, with their folders where these are the same."""
    if a.stem != b.stem:
        return a.stem, b.stem
    one, two = (f"{path.resolve().parent.name}/{path.stem}" for path in (a, b))
    return (one, two) if one != two else (f"{one} (A)", f"{two} (B)")

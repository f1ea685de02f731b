"""``anatozoo audit SCORES.csv --groups sex,age_bin``: does a model serve some patients worse than others?"""

import argparse
import json
import shlex
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from anatozoo.cli.evaluate_options import at_least_one, names_list

_DESCRIPTION = """\
Compare groups of patients in a table of scores: means with bootstrap
intervals, gaps with permutation tests, skewed error rate, worst group; and
write a report (HTML, Markdown, JSON, PNG)."""
_EXAMPLES = """\
SCORES.csv is what `anatozoo evaluate --out DIR` or `anatozoo predict` wrote,
a table of CheXmask, or any table with one row per image. age_bin is made from
the column age: 0-17, 18-44, 45-64 and 65+, or as --bins says.

examples:
  anatozoo audit val.csv --groups sex,age_bin --out report
  anatozoo audit val.csv --groups sex --controls age_bin,view --out report
  anatozoo audit out/manifest.csv --with clinical.csv --on File --groups Sex
  anatozoo audit val.csv --groups sex --estimated dice/heart=rca --out report"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``anatozoo audit``."""
    parser.epilog, parser.description = _EXAMPLES, _DESCRIPTION
    parser.set_defaults(usage_error=parser.error)
    parser.add_argument("scores", type=Path, metavar="SCORES.csv", help="table with one row per image")
    parser.add_argument(
        "--groups",
        type=names_list,
        required=True,
        metavar="A,B",
        help="columns to group by, one after the other and all together: sex, age_bin, view, ...",
    )
    parser.add_argument(
        "--metrics",
        nargs="+",
        metavar="METRIC",
        help="columns to compare, as dice/heart, or quoted patterns, as 'dice/*' (default: Dice and "
        "Hausdorff distances)",
    )
    parser.add_argument(
        "--controls",
        type=names_list,
        default=(),
        metavar="A,B",
        help="columns that may explain a gap: groups are also compared between patients alike in them",
    )
    parser.add_argument(
        "--estimated",
        nargs="+",
        default=(),
        metavar="COLUMN",
        help="columns with estimated quality, as TRUE=COLUMN where the truth is in the table too; "
        "dice_rca_mean/ORGAN is compared with dice/ORGAN unasked",
    )
    joined = parser.add_argument_group("a second table")
    joined.add_argument("--with", dest="other", type=Path, metavar="TABLE.csv", help="sex, age and the like")
    joined.add_argument(
        "--on",
        type=names_list,
        metavar="COLUMN",
        help="its column that names the image or patient; several, as site,id, where one does not tell them "
        "apart. Names are texts: 0007 is not 7. Of paths the longest end that both have counts",
    )
    how = parser.add_argument_group("how")
    how.add_argument(
        "--bins",
        nargs="+",
        type=_bins,
        default=(),
        metavar="COLUMN=A,B",
        help="where bins begin: age=50,65 gives 0-49, 50-64 and 65+",
    )
    how.add_argument("--subject", metavar="COLUMN", help="the patient (default: patient, else each image)")
    how.add_argument(
        "--higher", nargs="+", default=(), metavar="METRIC", help="more is better, where no name says so"
    )
    how.add_argument("--lower", nargs="+", default=(), metavar="METRIC", help="less is better")
    how.add_argument(
        "--adjustment",
        choices=("standardise", "match"),
        default="standardise",
        help="of --controls: strata weigh as in both groups together (default), or as in exact matching",
    )
    how.add_argument(
        "--correction",
        choices=("holm", "fdr", "none"),
        default="holm",
        help="of p-values for their number: Holm (default), or Benjamini and Hochberg",
    )
    how.add_argument(
        "--permutations",
        type=at_least_one,
        default=5000,
        metavar="N",
        help="of each test (default: 5000)",
    )
    how.add_argument("--seed", type=int, default=0, metavar="N", help="of all draws (default: 0)")
    out = parser.add_argument_group("output")
    out.add_argument("--out", type=Path, metavar="DIR", help="write the report here")
    out.add_argument("--json", action="store_true", help="print JSON instead of Markdown")


def run(args: argparse.Namespace) -> int:
    """Audit, and print or write the report.

    Raises:
        AnatozooError: a table cannot be read, a column is absent, or nothing can be compared.
        SystemExit: the arguments do not go together.
    """
    if (args.other is None) != (args.on is None):
        args.usage_error("--with and --on belong together.")
    from anatozoo.fairness.audit import audit
    from anatozoo.fairness.joins import join
    from anatozoo.fairness.report import report_json, report_text, write_report
    from anatozoo.fairness.tables import read_scores, read_table
    from anatozoo.io.writers import make_folder
    from anatozoo.metrics.tables import provenance

    if args.out is not None:
        make_folder(args.out)
    texts = [*(args.on or ()), *([args.subject] if args.subject else [])]
    scores = read_scores(args.scores, texts)
    if args.other is not None:
        other, remarks = read_table(args.other, texts)
        scores = replace(scores, notes=scores.notes + remarks)
        scores = join(scores, other, args.on, args.other.name, subject=args.subject)
    found = audit(
        scores,
        args.groups,
        name=args.scores.name,
        metrics=args.metrics,
        controls=args.controls,
        estimated=args.estimated,
        higher=args.higher,
        lower=args.lower,
        bins=dict(args.bins),
        subject=args.subject,
        adjustment=args.adjustment,
        correction=args.correction,
        permutations=args.permutations,
        seed=args.seed,
    )
    head: Mapping[str, Any] = {"command": _command(args), **provenance(("numpy", "scipy", "pandas"))}
    if args.out is not None:
        for path in write_report(args.out, found, head):
            print(path, file=sys.stderr)
    if args.json:
        print(json.dumps(report_json(found, head), indent=2, ensure_ascii=False))
    else:
        print(report_text(found, head))
    return 0


def _bins(text: str) -> tuple[str, tuple[float, ...]]:
    """A column and where its bins begin, from the command line."""
    column, _, numbers = text.partition("=")
    try:
        return column, tuple(float(word) for word in numbers.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} must be as age=50,65") from error


def _command(args: argparse.Namespace) -> str:
    """The command that repeats this audit, without the folders of this machine."""
    words = ["anatozoo", "audit", args.scores.name, "--groups", ",".join(args.groups)]
    words += ["--metrics", *args.metrics] if args.metrics else []
    words += ["--controls", ",".join(args.controls)] if args.controls else []
    words += ["--estimated", *args.estimated] if args.estimated else []
    words += ["--with", args.other.name, "--on", ",".join(args.on)] if args.other is not None else []
    bins = [f"{column}={','.join(f'{edge:g}' for edge in edges)}" for column, edges in args.bins]
    words += ["--bins", *bins] if bins else []
    words += ["--subject", args.subject] if args.subject else []
    for name in ("higher", "lower"):
        words += [f"--{name}", *getattr(args, name)] if getattr(args, name) else []
    for name, usual in (
        ("adjustment", "standardise"),
        ("correction", "holm"),
        ("permutations", 5000),
        ("seed", 0),
    ):
        words += [f"--{name}", str(getattr(args, name))] if getattr(args, name) != usual else []
    return shlex.join(words)

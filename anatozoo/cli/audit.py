"""``anatozoo audit SCORES.csv --groups sex,age_bin``: compare the accuracy for groups of patients."""

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
Test whether a model serves some groups of patients worse than others. Reads a
table with one score per image; reports means with bootstrap intervals, gaps
with permutation tests, the skewed error rate and the worst group. --out writes
the report as HTML, Markdown, JSON and PNG."""
_EXAMPLES = """\
SCORES.csv is a table of `anatozoo evaluate --out DIR`, the manifest.csv of
`anatozoo predict`, a CheXmask table, or any table with one row per image. The
column age_bin is made from age: 0-17, 18-44, 45-64 and 65+, or as --bins says.

examples:
  anatozoo audit val.csv --groups sex,age_bin --out report
  anatozoo audit val.csv --groups sex --controls age_bin,view --out report
  anatozoo audit out/manifest.csv --with clinical.csv --on File --groups Sex
  anatozoo audit scores.csv --groups sex,age_bin --classifier nodule=p@0.5
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
        help="columns to group by, for example sex,age_bin; each alone, and all combined",
    )
    parser.add_argument(
        "--metrics",
        nargs="+",
        metavar="METRIC",
        help="columns to compare, for example dice/heart or the quoted pattern 'dice/*' (default: Dice and "
        "Hausdorff distances)",
    )
    parser.add_argument(
        "--classifier",
        dest="classifiers",
        nargs="+",
        default=(),
        metavar="LABEL=SCORE[@T]",
        help="columns of the truth, 0 or 1, and of the probability of a finding: compare AUC and calibration "
        "error, and with a threshold T, the same for all, sensitivity and specificity",
    )
    parser.add_argument(
        "--controls",
        type=names_list,
        default=(),
        metavar="A,B",
        help="possible confounders: also compare groups among patients alike in these columns",
    )
    parser.add_argument(
        "--estimated",
        nargs="+",
        default=(),
        metavar="COLUMN",
        help="columns with estimated quality; write MEASURED=COLUMN to compare with a measured column. "
        "dice_rca_mean/ORGAN is always compared with dice/ORGAN",
    )
    joined = parser.add_argument_group("second table")
    joined.add_argument(
        "--with", dest="other", type=Path, metavar="TABLE.csv", help="table with sex, age and other groups"
    )
    joined.add_argument(
        "--on",
        type=names_list,
        metavar="COLUMN",
        help="its column that identifies the image or patient; several, for example site,id, if one is "
        "ambiguous. Values match as text (0007 is not 7), paths by their longest common end",
    )
    how = parser.add_argument_group("statistics")
    how.add_argument(
        "--bins",
        nargs="+",
        type=_bins,
        default=(),
        metavar="COLUMN=A,B",
        help="lower limits of bins: age=50,65 gives 0-49, 50-64 and 65+",
    )
    how.add_argument(
        "--subject", metavar="COLUMN", help="column of the patient (default: patient, else each image is one)"
    )
    how.add_argument(
        "--higher", nargs="+", default=(), metavar="METRIC", help="metrics where higher is better"
    )
    how.add_argument("--lower", nargs="+", default=(), metavar="METRIC", help="metrics where lower is better")
    how.add_argument(
        "--smallest",
        type=at_least_one,
        metavar="N",
        help="mark groups of fewer patients (default: 10, and 30 for classifiers)",
    )
    how.add_argument(
        "--adjustment",
        choices=("standardise", "match"),
        default="standardise",
        help="weights of the strata of --controls: as in both groups together (default), or as in exact "
        "matching",
    )
    how.add_argument(
        "--correction",
        choices=("holm", "fdr", "none"),
        default="holm",
        help="correction for multiple tests: holm (default), fdr (Benjamini and Hochberg) or none",
    )
    how.add_argument(
        "--permutations",
        type=at_least_one,
        default=5000,
        metavar="N",
        help="number of permutations of each test (default: 5000)",
    )
    how.add_argument("--seed", type=int, default=0, metavar="N", help="random seed (default: 0)")
    out = parser.add_argument_group("output")
    out.add_argument("--out", type=Path, metavar="DIR", help="write the report to this folder")
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
        classifiers=args.classifiers,
        controls=args.controls,
        estimated=args.estimated,
        higher=args.higher,
        lower=args.lower,
        bins=dict(args.bins),
        subject=args.subject,
        smallest=args.smallest,
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
    words += ["--classifier", *args.classifiers] if args.classifiers else []
    words += ["--controls", ",".join(args.controls)] if args.controls else []
    words += ["--estimated", *args.estimated] if args.estimated else []
    words += ["--with", args.other.name, "--on", ",".join(args.on)] if args.other is not None else []
    bins = [f"{column}={','.join(f'{edge:g}' for edge in edges)}" for column, edges in args.bins]
    words += ["--bins", *bins] if bins else []
    words += ["--subject", args.subject] if args.subject else []
    words += ["--smallest", str(args.smallest)] if args.smallest else []
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

"""``anatozoo list``: names and outlines of the checkpoints."""

import argparse
import json
import sys

from anatozoo.cli.table import format_table
from anatozoo.zoo.catalogue import experiments_manifest, select
from anatozoo.zoo.spec import EXPERIMENT, CheckpointSpec
from anatozoo.zoo.tables import input_words, megabytes, organ_words

HEADER = ("NAME", "INPUT", "OUTPUT", "MB", "COMMERCIAL")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    parser.add_argument(
        "pattern", nargs="?", default="*", help="list only names that match, for example 'hybridgnet*'"
    )
    parser.add_argument("--method", help="list only this method, for example hybridgnet")
    parser.add_argument("--anatomy", help="list only this anatomy, for example chest")
    parser.add_argument("--modality", help="list only this modality, for example x-ray")
    parser.add_argument(
        "--commercial", action="store_true", help="list only weights that permit commercial use"
    )
    parser.add_argument(
        "--experiments",
        action="store_true",
        help="also list weights that are evidence of experiments; they come with a source checkout alone",
    )
    parser.add_argument("--json", action="store_true", help="print the manifest's entries as JSON")


def run(args: argparse.Namespace) -> int:
    """Print the checkpoints that fit."""
    specs = select(
        args.pattern,
        method=args.method,
        anatomy=args.anatomy,
        modality=args.modality,
        commercial=True if args.commercial else None,
        experiments=args.experiments,
    )
    if args.experiments and experiments_manifest() is None:
        print("anatozoo is installed here without experiments: a source checkout has them.", file=sys.stderr)
    if args.json:
        print(json.dumps([spec.to_dict() for spec in specs], indent=2, ensure_ascii=False))
    elif specs:
        print(format_table(HEADER, [_row(spec) for spec in specs]), end="")
    else:
        print("No checkpoint matches. `anatozoo list` shows all, --experiments those of experiments too.")
    return 0


def _row(spec: CheckpointSpec) -> tuple[str, ...]:
    name = f"{spec.name} ({spec.status})" if spec.status in ("deprecated", EXPERIMENT) else spec.name
    commercial = "yes" if spec.license.commercial_use else "no"
    return (name, input_words(spec, views=False), organ_words(spec), megabytes(spec), commercial)

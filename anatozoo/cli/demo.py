"""``anatozoo demo``: segment a freely available radiograph that pip installs."""

from __future__ import annotations

import argparse
from pathlib import Path

from anatozoo.cli import predict
from anatozoo.io.samples import RADIOGRAPH, sample_radiograph

CHECKPOINT = "hybridgnet-chexmask"

_WHAT = {
    "_overlay.png": "picture",
    "_mask.png": "label mask",
    "_landmarks.csv": "landmarks",
    ".json": "JSON",
    "manifest.csv": "table",
    "measurements.csv": "numbers",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``anatozoo demo``."""
    parser.description = (
        "Segment a chest radiograph that comes with the demo: the quickest way to see\n"
        "what anatozoo does. The radiograph is part of the package pydicom-data."
    )
    parser.add_argument(
        "name", metavar="NAME", nargs="?", default=CHECKPOINT, help=f"checkpoint (default: {CHECKPOINT})"
    )
    parser.add_argument(
        "--out", metavar="DIR", default="anatozoo-demo", help="folder of the results (default: %(default)s)"
    )
    parser.add_argument("--device", default="cpu", help="compute on cpu, cuda or mps (default: cpu)")


def run(args: argparse.Namespace) -> int:
    """Run ``anatozoo demo``; returns an exit code as ``anatozoo predict`` does.

    Raises:
        AnatozooError: the radiograph is not installed, or see `anatozoo.cli.predict.run`.
    """
    parser = argparse.ArgumentParser()
    predict.add_arguments(parser)
    options = ["--out", args.out, "--device", args.device, "--format", "png,json,csv"]
    code = predict.run(parser.parse_args([*options, "--", args.name, str(sample_radiograph())]))
    if code == 0:
        print(_where(Path(args.out)))
    return code


def _where(out: Path) -> str:
    stem = Path(RADIOGRAPH).stem
    files = {what: out / (stem + end if end[0] in "._" else end) for end, what in _WHAT.items()}
    return "\n".join(f"  {what:<11}{path}" for what, path in files.items())

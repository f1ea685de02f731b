"""``anatozoo evaluate``: a checkpoint on a data set, or files against files."""

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from anatozoo.cli.evaluate_files import add_file_arguments, run_files
from anatozoo.cli.evaluate_options import (
    EXIT_FAILED_IMAGES,
    EXIT_OK,
    add_measuring_arguments,
    at_least_one,
    check_output,
    finish,
    measures_of,
    measuring_words,
    positive,
)
from anatozoo.cli.output import error_console
from anatozoo.errors import ConfigError, DataError, ImageError

if TYPE_CHECKING:
    import numpy as np

    from anatozoo.io.chest import ChestCase
    from anatozoo.io.images import Image
    from anatozoo.results.segmentation import SegmentationResult

DATA = ("auto", "jsrt", "landmarks", "hybridgnet", "covid")
METADATA = ("dataset", "sex", "age", "view")

_USAGE = """\
anatozoo evaluate [-h] NAME --data DATA [--root DIR] [options]
       anatozoo evaluate [-h] --pred PATH --ref PATH [options]"""
_EXAMPLES = """\
Files are matched by name, without suffix and without what `anatozoo predict`
appends. PATH is a file, a folder of files, or a folder of one folder per organ
(masks/heart/NAME.png, landmarks/RL/NAME.npy). Masks and label maps (PNG, TIFF,
BMP, NIfTI, MHA, NRRD), landmarks (CSV, NPY, JSON) and tables of CheXmask may
be compared with one another.

examples:
  anatozoo evaluate hybridgnet-jsrt --data jsrt --root data --out results
  anatozoo evaluate --pred out --ref masks --out results
  anatozoo evaluate --pred mine --ref labelsTs --classes front,back
  anatozoo evaluate --pred mine --ref truth --labels lungs=127:1,heart=255:2
  anatozoo evaluate --pred CheXpert.csv --ref physician.csv"""


class Predictor(Protocol):
    """What a model must offer to be evaluated here."""

    checkpoint_name: str
    checkpoint_version: str

    def predict_batch(self, xs: "Iterable[Image]", batch_size: int) -> "Iterator[SegmentationResult]":
        """Results in the order of the images, `batch_size` computed at a time."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``anatozoo evaluate``."""
    parser.usage, parser.epilog = _USAGE, _EXAMPLES
    parser.description = "Measure a checkpoint on images with known truth, or files against files."
    parser.set_defaults(usage_error=parser.error)
    model = parser.add_argument_group("a checkpoint on a data set")
    model.add_argument(
        "name", nargs="?", metavar="NAME", help="a name of `anatozoo list`, hf:org/repo@commit, or a folder"
    )
    model.add_argument("--data", help=f"data set ({', '.join(DATA)}) or a folder with one")
    model.add_argument(
        "--root",
        type=Path,
        metavar="DIR",
        help="folder with the downloaded data; not needed if --data is one",
    )
    model.add_argument("--split", help="train, val, test or all (default: val)")
    model.add_argument(
        "--batch-size", type=at_least_one, default=4, metavar="N", help="images at a time (default: 4)"
    )
    model.add_argument("--device", default="cpu", help="cpu (default), cuda, mps")
    model.add_argument(
        "--occlusion", type=positive, metavar="SIDE", help="paint a black square, SIDE pixels at 1024 x 1024"
    )
    model.add_argument(
        "--occlusion-positions",
        type=at_least_one,
        default=7,
        metavar="N",
        help="positions of the square (default: 7)",
    )
    model.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of the square's positions (default: 0)"
    )
    add_file_arguments(parser)
    add_measuring_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Evaluate and print or write the tables; 0 if every image could be read, 3 if some could not.

    Raises:
        AnatozooError: no such checkpoint or data, or the tables cannot be written.
        SystemExit: the arguments do not go together.
    """
    if args.pred is None and args.ref is None:
        if args.name is None:
            args.usage_error("give NAME and --data, or --pred and --ref.")
        if args.data is None:
            args.usage_error("--data is needed: which images shall be segmented?")
        _refuse(args, ("classes", "labels", "size"), "--pred and --ref")
        if len(args.spacing_mm or ()) > 1:
            args.usage_error("--spacing-mm takes one number beside NAME.")
        return _run_checkpoint(args)
    if args.pred is None or args.ref is None:
        args.usage_error("--pred and --ref belong together.")
    _refuse(args, ("name", "data", "root", "split", "occlusion"), "NAME")
    return run_files(args)


def _refuse(args: argparse.Namespace, names: Sequence[str], belonging_to: str) -> None:
    for name in names:
        if getattr(args, name) is not None:
            if name == "name":
                args.usage_error(f"NAME ({args.name}) and --pred are two ways to say what is measured.")
            args.usage_error(f"--{name} belongs to {belonging_to}.")


def _run_checkpoint(args: argparse.Namespace) -> int:
    from anatozoo.io.splits import describe, origin_record
    from anatozoo.metrics.tables import provenance, summarise
    from anatozoo.zoo.hub import load

    check_output(args)
    args.split = args.split or "val"
    cases = select_cases(args.data, args.root, args.split)
    for sentence in describe(cases):
        print(f"anatozoo: {sentence}", file=sys.stderr)
    model: Any = load(args.name, device=args.device)
    if not hasattr(model, "predict_batch"):
        raise ConfigError(
            f"{args.name} segments no radiographs, so --data cannot measure it; write its results to files "
            "and compare these by --pred and --ref."
        )
    rows = list(evaluate(model, cases, args))
    unread = [row for row in rows if row.get("error")]
    if len(unread) == len(rows):
        raise ImageError(f"none of the {len(rows)} images could be read; the first: {unread[0]['error']}")
    summary = {
        "checkpoint": model.checkpoint_name,
        "version": model.checkpoint_version,
        "data": _data_name(args.data),
        "split": args.split,
        "split_origin": origin_record(cases),
        "command": command_line(args),
        **provenance(("torch", "numpy")),
        "unread": {row["id"]: row["error"] for row in unread},
    } | summarise([row for row in rows if not row.get("error")])
    if args.occlusion:
        summary["occlusion"] = _occlusion_curve(rows, args)
    finish(args, _stem(model.checkpoint_name, args), rows, summary)
    return EXIT_FAILED_IMAGES if unread else EXIT_OK


def select_cases(data: str, root: Path | None, split: str) -> "list[ChestCase]":
    """Cases of a data set that have an image and an annotation.

    Args:
        data: a layout's name, or a folder whose layout is recognised.
        root: folder with the data, where `data` is a layout.
        split: ``"all"`` takes every case.

    Raises:
        DataError: nothing to evaluate; the message says what was found.
    """
    from anatozoo.io.chest import index_chest, missing_pairs

    if data in DATA and root is None:
        raise DataError(f"--data {data} needs --root DIR, the folder with the downloaded data.")
    folder, layout = (root, data) if root is not None and data in DATA else (Path(data), "auto")
    if layout == "auto" and data not in DATA and not folder.is_dir():
        raise DataError(f"--data {data}: neither one of {', '.join(DATA)} nor a folder.")
    cases = index_chest(folder, layout, None if split == "all" else split)
    complete = [case for case in cases if case.image is not None and (case.landmarks or case.masks)]
    if not complete:
        lacking = {what: len(ids) for what, ids in missing_pairs(cases).items()}
        raise DataError(
            f"{folder}: {len(cases)} cases in split {split!r}, but none has both image and annotation "
            f"({lacking['image']} lack the image, {lacking['annotation']} the annotation)."
        )
    if len(complete) < len(cases):
        print(
            f"{len(cases) - len(complete)} of {len(cases)} cases lack image or annotation.", file=sys.stderr
        )
    return complete


def evaluate(
    model: Predictor, cases: "Sequence[ChestCase]", args: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """One row per image, or per image and position of the square; unreadable images have ``error``."""
    from anatozoo.metrics.occlusion import occlusion_centres

    if not args.occlusion:
        yield from _evaluate_pass(model, cases, args, None, {})
        return
    for position, centre in enumerate(occlusion_centres(args.occlusion_positions, args.seed)):
        yield from _evaluate_pass(model, cases, args, centre, {"position": position})


def _evaluate_pass(
    model: Predictor,
    cases: "Sequence[ChestCase]",
    args: argparse.Namespace,
    centre: "np.ndarray | None",
    extra: dict[str, Any],
) -> Iterator[dict[str, Any]]:
    """Rows of one pass over the images in their order, the unreadable ones last."""
    from rich.progress import track

    from anatozoo.metrics.occlusion import occlude
    from anatozoo.tasks.chest_cases import case_metrics

    measures = measures_of(args)
    spacing_mm = args.spacing_mm[0] if args.spacing_mm else None
    read: list[ChestCase] = []
    unread: list[dict[str, Any]] = []

    def images() -> "Iterator[Image]":
        for case in cases:
            try:
                image = case.read_image()
            except ImageError as error:
                unread.append(_identity(case, extra) | {"error": str(error)})
                continue
            read.append(case)
            yield image if centre is None else occlude(image, args.occlusion, centre)

    results = model.predict_batch(images(), batch_size=args.batch_size)
    shown = track(results, "evaluating", len(cases), console=error_console(), disable=not sys.stderr.isatty())
    for index, result in enumerate(shown):
        case = read[index]
        numbers = case_metrics(case, result, spacing_mm, measures, cut=args.exclusive)
        yield _identity(case, extra) | numbers
    yield from unread


def command_line(args: argparse.Namespace) -> str:
    """The command that repeats this evaluation, without the folders of this machine."""
    words = ["anatozoo", "evaluate", Path(args.name).name, "--data", _data_name(args.data)]
    words += ["--root", "DIR"] if args.data in DATA else []
    words += ["--split", args.split, *measuring_words(args)]
    if args.occlusion:
        words += [
            "--occlusion",
            f"{args.occlusion:g}",
            "--occlusion-positions",
            str(args.occlusion_positions),
        ]
        words += ["--seed", str(args.seed)]
    return " ".join(words)


def _occlusion_curve(rows: Sequence[dict[str, Any]], args: argparse.Namespace) -> dict[str, Any]:
    """Mean over positions of each position's mean, and of its standard deviation, as in the paper's figure.

    The value of an image is the mean over lungs and heart.
    """
    from anatozoo.metrics.tables import describe

    curve: dict[str, Any] = {
        "side_px": args.occlusion,
        "positions": args.occlusion_positions,
        "seed": args.seed,
    }
    for metric in ("dice", "hd_px", "hd_mm"):
        organs = [f"{metric}/{organ}" for organ in ("lungs", "heart")]
        parts = []
        for position in range(args.occlusion_positions):
            chosen = [r for r in rows if r["position"] == position and all(organ in r for organ in organs)]
            values = [{"id": r["id"], f"{metric}/both": sum(r[o] for o in organs) / 2} for r in chosen]
            parts += list(describe(values).values())
        if parts:
            curve[metric] = {k: sum(part[k] for part in parts) / len(parts) for k in ("mean", "sd")}
    return curve


def _identity(case: "ChestCase", extra: dict[str, Any]) -> dict[str, Any]:
    known = {key: case.metadata.get(key) for key in METADATA}
    return {"id": case.id, "patient": case.patient, "split": case.split} | known | extra


def _data_name(data: str) -> str:
    return data if data in DATA else Path(data).resolve().name


def _stem(checkpoint: str, args: argparse.Namespace) -> str:
    parts = [checkpoint, _data_name(args.data), args.split]
    parts += [f"occlusion{args.occlusion:g}"] if args.occlusion else []
    parts += ["exclusive"] if args.exclusive else []
    return "_".join(parts).replace("/", "-")

"""``anatozoo evaluate NAME --data DATA --root DIR --split SPLIT``: a checkpoint on a data set."""

import argparse
import json
import platform
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from anatozoo import __version__
from anatozoo.errors import DataError, ImageError

if TYPE_CHECKING:
    import numpy as np

    from anatozoo.io.chest import ChestCase
    from anatozoo.io.images import Image
    from anatozoo.metrics.chest import Rounding
    from anatozoo.results import SegmentationResult

DATA = ("auto", "jsrt", "landmarks", "hybridgnet", "covid")
METADATA = ("dataset", "sex", "age", "view")
EXIT_OK, EXIT_FAILED_IMAGES = 0, 3


class Predictor(Protocol):
    """What a model must offer to be evaluated here."""

    checkpoint_name: str
    checkpoint_version: str

    def predict_batch(self, xs: "Iterable[Image]", batch_size: int) -> "Iterator[SegmentationResult]":
        """Results in the order of the images, `batch_size` computed at a time."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``anatozoo evaluate``."""
    parser.add_argument("name", help="checkpoint: a name of `anatozoo list`, hf:org/repo@commit, or a folder")
    parser.add_argument("--data", required=True, help=f"data set ({', '.join(DATA)}) or a folder with one")
    parser.add_argument(
        "--root", type=Path, help="folder with the downloaded data; not needed if --data is one"
    )
    parser.add_argument("--split", default="val", help="train, val, test or all (default: val)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write the tables (CSV, JSON, Markdown) here")
    parser.add_argument(
        "--batch-size", type=_at_least_one, default=4, metavar="N", help="images at a time (4)"
    )
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, mps")
    parser.add_argument(
        "--spacing-mm",
        type=_positive,
        metavar="MM",
        help="millimetres per pixel at 1024 x 1024, for data that does not state it (JSRT: known, 0.35)",
    )
    parser.add_argument(
        "--rounding",
        choices=("truncate", "nearest"),
        default="truncate",
        help="how contours meet the pixel grid; truncate (default) is what published numbers used",
    )
    parser.add_argument(
        "--occlusion",
        type=_positive,
        metavar="SIDE",
        help="black square of this side, in pixels at 1024 x 1024",
    )
    parser.add_argument(
        "--occlusion-positions",
        type=_at_least_one,
        default=7,
        metavar="N",
        help="positions of the square (7)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the square's positions (0)")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON instead of Markdown")


def run(args: argparse.Namespace) -> int:
    """Evaluate and print or write the tables; 0 if every image could be read, 3 if some could not.

    Raises:
        AnatozooError: no such checkpoint or data, or the tables cannot be written.
    """
    from anatozoo.metrics.tables import markdown, summarise, write_tables
    from anatozoo.zoo.hub import load

    cases = select_cases(args.data, args.root, args.split)
    model = load(args.name, device=args.device)
    rows = list(evaluate(model, cases, args))
    unread = [row for row in rows if row.get("error")]
    if len(unread) == len(rows):
        raise ImageError(f"none of the {len(rows)} images could be read; the first: {unread[0]['error']}")
    summary = {
        "checkpoint": model.checkpoint_name,
        "version": model.checkpoint_version,
        "data": _data_name(args.data),
        "split": args.split,
        "command": command_line(args),
        "versions": _versions(),
        "unread": {row["id"]: row["error"] for row in unread},
    } | summarise([row for row in rows if not row.get("error")])
    if args.occlusion:
        summary["occlusion"] = _occlusion_curve(rows, args)
    if args.out is not None:
        for path in write_tables(args.out, _stem(model.checkpoint_name, args), rows, summary):
            print(path, file=sys.stderr)
    print(json.dumps(summary, indent=2, ensure_ascii=False) if args.json else markdown(summary))
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
    from rich.console import Console
    from rich.progress import track

    from anatozoo.metrics.occlusion import occlude

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
    shown = track(
        results, "evaluating", len(cases), console=Console(stderr=True), disable=not sys.stderr.isatty()
    )
    for index, result in enumerate(shown):
        case = read[index]
        yield _identity(case, extra) | case_metrics(case, result, args.spacing_mm, args.rounding)
    yield from unread


def case_metrics(
    case: "ChestCase", result: "SegmentationResult", spacing_mm: float | None, rounding: "Rounding"
) -> dict[str, float]:
    """Metrics of one prediction: against the landmarks, at 1024 x 1024, or else against the masks."""
    from anatozoo.metrics.chest import FRAME, draw_masks, landmark_metrics, mask_metrics, to_frame

    if not case.landmarks:
        truth = {organ: case.read_mask(organ) for organ in case.masks}
        height, width = next(iter(truth.values())).shape
        return mask_metrics(draw_masks(result.landmarks, result.size, (width, height)), truth)
    if spacing_mm is None and case.spacing_mm is not None:
        spacing_mm = case.spacing_mm[0] * case.size[0] / FRAME
    prediction, reference = to_frame(result.landmarks, result.size), to_frame(case.landmarks, case.size)
    return landmark_metrics(prediction, reference, spacing_mm, rounding)


def command_line(args: argparse.Namespace) -> str:
    """The command that repeats this evaluation, without the folders of this machine."""
    words = ["anatozoo", "evaluate", Path(args.name).name, "--data", _data_name(args.data)]
    words += ["--root", "DIR"] if args.data in DATA else []
    words += ["--split", args.split, "--rounding", args.rounding]
    words += ["--spacing-mm", f"{args.spacing_mm:g}"] if args.spacing_mm else []
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
    return "_".join(parts).replace("/", "-")


def _versions() -> dict[str, str]:
    import numpy as np
    import torch

    versions = {"anatozoo": __version__, "torch": str(torch.__version__), "numpy": np.__version__}
    return versions | {"python": platform.python_version()}


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} must be above 0")
    return value


def _at_least_one(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} must be at least 1")
    return value

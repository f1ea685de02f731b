"""``anatozoo evaluate``: a checkpoint on a data set, or files against files."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anatozoo.cli.evaluate_files import add_file_arguments, run_files, say_failures
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
    strengths,
)
from anatozoo.cli.output import error_console
from anatozoo.cli.run_options import add_engine, add_samples, load_named
from anatozoo.errors import ConfigError, DataError

if TYPE_CHECKING:
    from anatozoo.data.case import Case
    from anatozoo.tasks.trials import Conditions

AUTO = "auto"
PROFILES = ("gaussian", "box")
POSITIONS = 7
"""Positions of the square that hides a part of a radiograph."""

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
  anatozoo evaluate acnn-acdc --data acdc --root data/acdc --split val
  anatozoo evaluate acregnet-jsrt --data jsrt --root data --side 256 --pairs 100
  anatozoo evaluate postdae-jsrt --data jsrt --root data --degrade
  anatozoo evaluate --pred out --ref masks --out results
  anatozoo evaluate --pred mine --ref labelsTs --classes front,back
  anatozoo evaluate --pred mine --ref truth --labels lungs=127:1,heart=255:2
  anatozoo evaluate --pred CheXpert.csv --ref physician.csv"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``anatozoo evaluate``."""
    parser.usage, parser.epilog = _USAGE, _EXAMPLES
    parser.description = "Measure a checkpoint on images with known truth, or files against files."
    parser.set_defaults(usage_error=parser.error)
    model = parser.add_argument_group("a checkpoint on a data set")
    model.add_argument(
        "name", nargs="?", metavar="NAME", help="a name of `anatozoo list`, hf:org/repo@commit, or a folder"
    )
    add_data(model)
    model.add_argument("--split", help="train, val, test or all (default: val)")
    model.add_argument(
        "--batch-size",
        type=at_least_one,
        default=4,
        metavar="N",
        help="2-D images, or masks that are given landmarks, at a time (default: 4); volumes, pairs and "
        "masks that are repaired are computed one by one",
    )
    model.add_argument("--device", default="cpu", help="cpu (default), cuda, mps")
    model.add_argument("--precision", choices=("32", "bf16", "16"), help="number format (default: 32)")
    add_engine(model)
    special = parser.add_argument_group("for some checkpoints only")
    add_samples(special, "sigma_px beside the other metrics, in the pixels in which distances are measured")
    special.add_argument(
        "--occlusion",
        type=positive,
        metavar="SIDE",
        help="radiographs: paint a black square, SIDE pixels at 1024 x 1024",
    )
    special.add_argument(
        "--occlusion-positions",
        type=at_least_one,
        metavar="N",
        help=f"positions of the square (default: {POSITIONS})",
    )
    special.add_argument("--seed", type=int, metavar="N", help="seed of the square's positions (default: 0)")
    special.add_argument(
        "--pairs",
        type=at_least_one,
        metavar="N",
        help="registration: N pairs of two images, the same in every run (default: all ordered pairs)",
    )
    special.add_argument(
        "--side",
        type=at_least_one,
        metavar="S",
        help="registration of square images: bring them to S x S pixels before",
    )
    special.add_argument(
        "--degrade",
        type=strengths,
        nargs="?",
        const={},
        metavar="STRENGTHS",
        help="repair: measure each mask as it is and under every kind of damage, which is the same in every "
        "run; STRENGTHS replace defaults of the training, as morphology=0.012,swap=0.012. Without this "
        "option masks are not damaged",
    )
    special.add_argument(
        "--profile",
        choices=PROFILES,
        help="super-resolution: slice profile by which each volume is turned into thick slices (default: "
        "gaussian)",
    )
    special.add_argument(
        "--calibration",
        action="store_const",
        const=True,
        help="segmenters with probabilities: ECE, Brier score and NLL of each case, and with --out a "
        "reliability diagram; asks the network twice",
    )
    add_file_arguments(parser)
    add_measuring_arguments(parser)


def add_data(parser: argparse._ActionsContainer, required: bool = False) -> None:
    """Declare ``--data`` and ``--root``."""
    parser.add_argument(
        "--data",
        required=required,
        help="how the data lie: jsrt, landmarks, hybridgnet, covid, chest, acdc, folder (images/ and masks/, "
        "a manifest), findings (a table of images), auto to find out; or a folder with data",
    )
    parser.add_argument(
        "--root",
        type=Path,
        metavar="DIR",
        help="folder with the downloaded data; not needed if --data is one",
    )


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
        _refuse(args, ("classes", "size"), "--pred and --ref")
        if args.occlusion is None:
            _refuse(args, ("occlusion_positions", "seed"), "--occlusion")
        return _run_checkpoint(args)
    if args.pred is None or args.ref is None:
        args.usage_error("--pred and --ref belong together.")
    square = ("occlusion", "occlusion_positions", "seed")
    beside_name = (*square, "samples", "pairs", "side", "degrade", "profile")
    computing = ("calibration", "precision", "runtime")
    _refuse(args, ("name", "data", "root", "split", *beside_name, *computing), "NAME")
    return run_files(args)


def _refuse(args: argparse.Namespace, names: Sequence[str], belonging_to: str) -> None:
    for name in names:
        if getattr(args, name) is not None:
            if name == "name":
                args.usage_error(f"NAME ({args.name}) and --pred are two ways to say what is measured.")
            args.usage_error(f"--{name.replace('_', '-')} belongs to {belonging_to}.")


def _run_checkpoint(args: argparse.Namespace) -> int:
    from anatozoo.errors import ImageError
    from anatozoo.io.splits import describe, origin_record
    from anatozoo.metrics.tables import COUNTS, provenance, summarise
    from anatozoo.tasks.trials import choose_cases, unannotated

    check_output(args)
    args.split = args.split or "val"
    args.occlusion_positions, args.seed = args.occlusion_positions or POSITIONS, args.seed or 0
    root, layout = place_of(args)
    model = load_named(args.name, args.device, args.precision or "32", args.samples, args.runtime)
    how = conditions_of(model, args)
    split = None if args.split == "all" else args.split
    cases, lacking = choose_cases(model, root, layout, split, label_values=args.labels)
    lost = unannotated(model, cases)
    for sentence in (*describe(cases), *lost):
        print(f"anatozoo: {sentence}", file=sys.stderr)
    if lacking:
        print(f"{lacking} of {len(cases) + lacking} cases lack image or annotation.", file=sys.stderr)
    rows = list(evaluate(model, cases, how, args))
    unread = {row["id"]: row["error"] for row in rows if row.get("error")}
    say_failures(unread)
    if len(unread) == len(rows):
        raise ImageError(f"none of the {len(rows)} images could be measured; see above.")
    measured = [row for row in rows if not row.get("error")]
    numbers = summarise(measured) | model.summary(measured)
    if lost and all(name.partition("/")[0] in COUNTS for name in numbers["metrics"]):
        raise DataError(f"{root}: nothing could be measured in {len(rows)} {model.unit}s: {' '.join(lost)}")
    summary = {
        "checkpoint": model.checkpoint_name,
        "version": model.checkpoint_version,
        "data": _data_name(args.data),
        "split": args.split,
        "unit": model.unit,
        "split_origin": origin_record(cases),
        "command": command_line(args),
        **provenance(("torch", "numpy")),
        "unread": unread,
    } | numbers
    if args.occlusion:
        summary["occlusion"] = _occlusion_curve(rows, args)
    stem = _stem(model.checkpoint_name, args)
    if how.calibration is not None:
        summary["calibration"] = how.calibration.record()
        _draw_calibration(summary, stem, args)
    finish(args, stem, rows, summary)
    return EXIT_FAILED_IMAGES if unread else EXIT_OK


def _draw_calibration(summary: dict[str, Any], stem: str, args: argparse.Namespace) -> None:
    """Write the reliability diagram, where there is a folder and a case whose organs are all annotated."""
    from anatozoo.io.figures import figure_bytes
    from anatozoo.io.writers import write_bytes
    from anatozoo.metrics.calibration_draw import plot_reliability

    if args.out is None or not summary["calibration"]["cases"]:
        return
    path = args.out / f"{stem}_reliability.png"
    title = f"{summary['checkpoint']} on {summary['data']}, {summary['split']}"
    write_bytes(path, figure_bytes(plot_reliability(summary["calibration"], title)))
    print(path, file=sys.stderr)


def place_of(args: argparse.Namespace) -> tuple[Path, str]:
    """Folder and layout of the data.

    Raises:
        DataError: the options do not tell.
    """
    from anatozoo.data.layouts.registry import LAYOUTS

    if _is_layout(args.data):
        if args.root is None:
            raise DataError(f"--data {args.data} needs --root DIR, the folder with the downloaded data.")
        return args.root, args.data
    folder = Path(args.data)
    if not folder.exists():
        raise DataError(f"--data {args.data}: neither one of {', '.join((AUTO, *LAYOUTS))} nor a folder.")
    return folder, AUTO


def conditions_of(model: Any, args: argparse.Namespace) -> "Conditions":
    """How the data set shall ask the model.

    Raises:
        ConfigError: an option that this model does not use.
    """
    from anatozoo.tasks.temperature import Calibrations
    from anatozoo.tasks.trials import Conditions

    given = {
        "exclusive": args.exclusive or None,
        "occlusion": args.occlusion,
        "samples": args.samples,
        "pairs": args.pairs,
        "side": args.side,
        "degrade": args.degrade,
        "profile": args.profile,
        "calibration": Calibrations() if args.calibration else None,
    }
    given = {name: value for name, value in given.items() if value is not None}
    if foreign := sorted(set(given) - model.conditions):
        raise ConfigError(f"{args.name} does not use --{foreign[0]}; leave it out.")
    for name in ("occlusion", "samples"):  # of each pass over the data, and of the model
        given.pop(name, None)
    spacing = None if args.spacing_mm is None else tuple(args.spacing_mm)
    return Conditions(measures_of(args), spacing, **given)


def evaluate(
    model: Any, cases: "Sequence[Case]", how: "Conditions", args: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """One row per trial, or per trial and position of the square; what cannot be read has ``error``."""
    from rich.progress import track

    from anatozoo.metrics.occlusion import occlusion_centres
    from anatozoo.tasks.trials import measured

    passes: list[tuple[Conditions, dict[str, int]]] = [(how, {})]
    if args.occlusion:
        centres = enumerate(occlusion_centres(args.occlusion_positions, args.seed))
        passes = [(replace(how, occlusion=(args.occlusion, c)), {"position": i}) for i, c in centres]
    for conditions, extra in passes:
        trials = model.trials(cases, conditions)
        if model.unit != "image":
            print(f"{len(trials)} {model.unit}s of {len(cases)} images.", file=sys.stderr)
        trials = [replace(trial, identity=trial.identity | extra) for trial in trials]
        rows = measured(model, trials, conditions.measures, args.batch_size)
        yield from track(
            rows, "evaluating", len(trials), console=error_console(), disable=not sys.stderr.isatty()
        )


def command_line(args: argparse.Namespace) -> str:
    """The command that repeats this evaluation, without the folders of this machine."""
    words = ["anatozoo", "evaluate", Path(args.name).name, "--data", _data_name(args.data)]
    words += ["--root", "DIR"] if _is_layout(args.data) else []
    words += ["--split", args.split, *measuring_words(args)]
    words += ["--labels", args.labels] if args.labels else []
    words += ["--precision", args.precision] if args.precision else []
    words += ["--runtime", Path(args.runtime).name] if args.runtime else []
    for name in ("samples", "pairs", "side", "profile"):
        if getattr(args, name) is not None:
            words += [f"--{name}", str(getattr(args, name))]
    if args.degrade is not None:
        strong = ",".join(f"{name}={value:g}" for name, value in args.degrade.items())
        words += ["--degrade", *([strong] if strong else [])]
    words += ["--calibration"] if args.calibration else []
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


def _data_name(data: str) -> str:
    return data if _is_layout(data) else Path(data).resolve().name


def _is_layout(data: str) -> bool:
    from anatozoo.data.layouts.registry import LAYOUTS

    return data == AUTO or data in LAYOUTS


def _stem(checkpoint: str, args: argparse.Namespace) -> str:
    parts = [checkpoint, _data_name(args.data), args.split]
    parts += [f"occlusion{args.occlusion:g}"] if args.occlusion else []
    parts += ["exclusive"] if args.exclusive else []
    parts += [Path(args.runtime).name] if args.runtime else []
    parts += [f"samples{args.samples}"] if args.samples else []
    parts += ["degraded"] if args.degrade is not None else []
    return "_".join(parts).replace("/", "-")

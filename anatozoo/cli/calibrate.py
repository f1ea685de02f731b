"""``anatozoo calibrate``: fit the temperature of a segmenter's probabilities, and store it."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anatozoo.cli.evaluate import add_data, place_of
from anatozoo.cli.evaluate_options import EXIT_FAILED_IMAGES, EXIT_OK, positive
from anatozoo.cli.output import error_console
from anatozoo.cli.run_options import add_device, load_named
from anatozoo.errors import ConfigError, DataError

if TYPE_CHECKING:
    from anatozoo.data.case import Case
    from anatozoo.tasks.temperature import TemperatureFit

_EXAMPLES = """\
One number divides the logits of every pixel, so that probabilities mean what
they say: the one that makes the true labels of the cases most likely. Label
maps stay as they are. DIR receives the checkpoint with the number as
`temperature` among its settings; it may be the folder of the checkpoint itself.

Take cases that trained nothing: on its training cases a network looks surer
than it is elsewhere. What is measured here is measured on the cases of the
fit; for numbers of others, see `anatozoo evaluate --calibration`.

examples:
  anatozoo calibrate unet-clinic --data folder --root clinic --to unet-clinic
  anatozoo evaluate unet-clinic --data folder --root clinic --split test \\
    --calibration --out results"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``anatozoo calibrate``."""
    parser.epilog = _EXAMPLES
    parser.description = "Fit the temperature of a segmenter's probabilities, and store it."
    parser.add_argument("name", metavar="NAME", help="a name of `anatozoo list`, or a folder")
    add_data(parser, required=True)
    parser.add_argument("--split", default="val", help="val (default), test, train or all")
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="write the checkpoint here")
    parser.add_argument(
        "--allow-train", action="store_true", help="also take cases that the list of the training names"
    )
    parser.add_argument("--labels", help="what the values of label maps mean, as for `anatozoo evaluate`")
    parser.add_argument(
        "--spacing-mm",
        type=positive,
        nargs="+",
        metavar=("X", "Y"),
        help="millimetres per voxel where the volumes state none, one number or x, y and z",
    )
    add_device(parser)
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON")


def run(args: argparse.Namespace) -> int:
    """Fit, write and print; 0 if every case could be read, 3 if some could not.

    Raises:
        AnatozooError: no such checkpoint or data, the checkpoint has no temperature, the cases are those of
            the training, or none is left.
    """
    from anatozoo.io.splits import describe
    from anatozoo.tasks.scores import ScoreTask
    from anatozoo.tasks.temperature import TemperatureFit
    from anatozoo.tasks.trials import choose_cases
    from anatozoo.zoo.checkpoint import check_target, copy_with_settings, read_config
    from anatozoo.zoo.hub import resolve

    if args.name.endswith(".ckpt"):
        raise ConfigError(f"{args.name} is a run; turn it into a checkpoint first, by `anatozoo export`.")
    folder = resolve(args.name)
    check_target(args.to, read_config(folder).name)
    model = load_named(args.name, args.device)
    if "temperature" not in getattr(type(model), "setting_names", tuple)():
        raise ConfigError(
            f"{args.name} has no temperature: {type(model).__name__} gives no probabilities of labels, or "
            "its constructor takes no `temperature`. U-Net, ACNN's segmenters and classifiers do."
        )
    root, layout = place_of(args)
    split = None if args.split == "all" else args.split
    cases, _ = choose_cases(model, root, layout, split, label_values=args.labels)
    organs = () if isinstance(model, ScoreTask) else tuple(model.organs)
    if organs and all(not any(case.has(organ) for case in cases) for organ in organs):
        raise DataError(f"{root}: none of {len(cases)} cases has {', '.join(organs)} annotated.")
    if not args.allow_train and any(case.split == "train" for case in cases):
        raise DataError(
            f"{root}: cases of the training split would make the network look surer than it may be; take "
            "--split val, or say --allow-train."
        )
    for sentence in describe(cases):
        print(f"anatozoo: {sentence}", file=sys.stderr)
    fit = TemperatureFit()
    failed = _add(fit, model, cases, None if args.spacing_mm is None else tuple(args.spacing_mm))
    if not len(fit):
        raise DataError(f"{root}: none of {len(cases)} cases can be used; the first: {failed[0]}")
    fitted = fit.fit()
    copy_with_settings(folder, args.to, {"temperature": round(fitted.temperature, 4)})
    if args.json:
        print(json.dumps({**asdict(fitted), "split": args.split, "left_out": failed}, indent=2))
    else:
        unit = "pixels" if organs else "findings"
        print(f"temperature {fitted.temperature:.4f}, of {fitted.pixels} {unit} in {fitted.cases} cases")
        for name in ("nll", "ece"):
            print(f"  {name.upper()} {fitted.before[name]:.4f} -> {fitted.after[name]:.4f}")
        print(args.to)
    return EXIT_FAILED_IMAGES if failed else EXIT_OK


def _add(fit: TemperatureFit, model: Any, cases: list[Case], spacing_mm: Any) -> list[str]:
    """Give the fit the cases that can be read and whose organs are all annotated; says why not the others."""
    from rich.progress import track

    from anatozoo.tasks.scores import ScoreTask
    from anatozoo.tasks.trials import FAILURES

    failed: list[str] = []
    for case in track(cases, "looking", console=error_console(), disable=not sys.stderr.isatty()):
        try:
            of_findings = isinstance(model, ScoreTask)
            fit.add(case.id, *(model.asked(case) if of_findings else _segmented(model, case, spacing_mm)))
        except FAILURES as error:
            failed.append(f"{case.id}: {error}")
            print(f"anatozoo: {failed[-1]}", file=sys.stderr)
    return failed


def _segmented(model: Any, case: Case, spacing_mm: Any) -> tuple[Any, Any]:
    """Probabilities of a segmenter, and the reference on the source grid.

    Raises:
        DataError: an organ is not annotated.
    """
    from anatozoo.io.grid import Grid
    from anatozoo.tasks.trials import Conditions, read_volume

    if lacking := [organ for organ in model.organs if not case.has(organ)]:
        raise DataError(f"{', '.join(lacking)} not annotated.")
    if len(model.shape) == 2:
        image: Any = case.read_flat()
        grid = Grid(image.size, image.spacing_mm)
    else:
        image = read_volume(case, Conditions(spacing_mm=spacing_mm))
        grid = image.grid
    labels, _ = case.read_labels(model.organs, grid)
    return model.probabilities(image), labels

"""``anatozoo quality``: estimate how good segmentations are, and build and calibrate atlases."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from anatozoo.cli.evaluate_options import at_least_one, names_list, share
from anatozoo.cli.judging import JUDGING, add_judging, add_selector, judge_of
from anatozoo.cli.predict_report import run_reported
from anatozoo.cli.run_options import add_overwrite, add_report_options

if TYPE_CHECKING:
    from anatozoo.serve.quality import JudgeMasks

BUILD, CALIBRATE = "build-atlas", "calibrate"

_USAGE = """\
anatozoo quality [-h] IMAGES MASKS --atlas FILE --out DIR [options]
       anatozoo quality build-atlas ROOT --organs A,B --atlas FILE [options]
       anatozoo quality calibrate IMAGES MASKS [MASKS ...] --truth DIR
                                  --atlas FILE [options]"""
_DESCRIPTION = """\
Estimate how good segmentations are where no ground truth exists, by Reverse
Classification Accuracy: each image is registered to the most similar images of
an atlas, and its warped mask is compared with their reference masks.

DIR receives manifest.csv with one row per image: dice_rca_max and
dice_rca_mean over the atlas images, for all organs and for each
(dice_rca_max/heart), and Hausdorff and average surface distances
(hd_mm_rca_min, assd_mm_rca_mean, ...). A file that cannot be read does not
stop the others. Run the same command again to compute only what is missing. An
image is never compared with an atlas image of the same name.

A calibrated atlas also gives dice_rca_calibrated/heart, an estimate on the
scale of true Dice, and dice_low/heart and dice_high/heart, an interval that
holds the true Dice of 90 % of the segmentations like those of the calibration.
`calibrate` learns them from segmentations with ground truth and writes them
into the atlas; --overwrite replaces those of an earlier calibration. They hold
for the engine, the selector and the count of the calibration; with others there
are none."""
_EPILOG = """\
IMAGES is a file, a folder or a quoted pattern. MASKS is a folder of masks,
label maps, landmarks or results of `anatozoo predict`, or a CheXmask table.
Masks and images are matched by name.

engines (--engine):
  bspline, demons  SimpleITK, seconds for each atlas image
  elastix          needs the package itk-elastix, seconds for each atlas image
  a checkpoint     one that registers images, tens of milliseconds
  A,B              B refines the result of A, as after an affine registration

selectors (--selector):
  thumbnail        correlation of small copies of the images
  a checkpoint     distance of latents; the atlas must be built with it too

formats (* by default): json* (all numbers of each atlas image), picture (slow)

examples:
  anatozoo quality build-atlas jsrt --layout jsrt --organs lungs,heart \\
      --atlas jsrt-atlas
  anatozoo quality calibrate scans/ unet/ other/ --truth masks/ \\
      --atlas jsrt-atlas
  anatozoo quality scans/ out/ --atlas jsrt-atlas --out quality
  anatozoo quality scans/ out/ --atlas jsrt-atlas --engine bspline --out quality

exit codes: 0 all images done, 1 error, 2 wrong usage, 3 some images failed
(manifest.csv says why), 130 interrupted"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``anatozoo quality``."""
    parser.usage, parser.description, parser.epilog = _USAGE, _DESCRIPTION, _EPILOG
    parser.set_defaults(usage_error=parser.error)
    parser.add_argument(
        "images",
        metavar="IMAGES",
        help=f"images that were segmented; or the word {BUILD} or {CALIBRATE}, to make or calibrate an atlas",
    )
    parser.add_argument(
        "masks",
        metavar="MASKS",
        nargs="+",
        help=f"their segmentations; for {BUILD} the data set ROOT; for {CALIBRATE} the images, and one or "
        "more folders of segmentations, each of one model",
    )
    parser.add_argument(
        "--atlas",
        type=Path,
        metavar="FILE",
        required=True,
        help="atlas to use, write or calibrate, with or without suffix",
    )
    add_selector(parser)
    add_report_options(parser)
    judging = parser.add_argument_group("to estimate quality (engine, count and classes to calibrate, too)")
    judging.add_argument("--out", metavar="DIR", help="write manifest.csv and the results to this folder")
    add_judging(judging)
    judging.add_argument(
        "--classes",
        type=names_list,
        metavar="A,B,...",
        help="names of the labels 1, 2, ... of label maps (default: the organs of the atlas)",
    )
    judging.add_argument(
        "--format",
        dest="formats",
        type=names_list,
        metavar="LIST",
        help="formats to write; see the list below",
    )
    add_overwrite(judging, "compute again what exists already; to calibrate: replace a calibration")
    building = parser.add_argument_group("to build an atlas")
    building.add_argument(
        "--organs", type=names_list, metavar="A,B,...", help="names of the labels 1, 2, ..."
    )
    building.add_argument("--layout", choices=("folder", "jsrt"), help="layout of ROOT (default: folder)")
    building.add_argument("--split", help="cases to use: train (default), val, test or all")
    building.add_argument(
        "--size",
        type=at_least_one,
        nargs="+",
        metavar="S",
        help="size of the atlas images in pixels: S for a square, H W, or D H W (default: 256)",
    )
    building.add_argument("--exclude", type=names_list, metavar="A,B,...", help="leave out these cases")
    calibrating = parser.add_argument_group("to calibrate an atlas")
    calibrating.add_argument(
        "--truth", type=Path, metavar="DIR", help="ground truth of the images, in any form of MASKS"
    )
    calibrating.add_argument(
        "--alpha",
        type=share,
        metavar="A",
        help="share of true Dice that may lie outside (default: 0.1, for intervals of 90 %%)",
    )
    calibrating.add_argument(
        "--subject-pattern",
        metavar="REGEX",
        help="its first group in an image's name is the patient (default: each image is a patient)",
    )
    calibrating.add_argument(
        "--about", metavar="TEXT", help="what the segmentations are, stored with the intervals"
    )


_OPTIONS = {
    "judging": ("out", *JUDGING, "classes", "formats"),
    BUILD: ("organs", "layout", "split", "size", "exclude"),
    CALIBRATE: ("truth", "alpha", "subject_pattern", "about", *JUDGING, "classes"),
}


def run(args: argparse.Namespace) -> int:
    """Run ``anatozoo quality``.

    Returns:
        0 if all was done, 3 if some images failed, 130 if interrupted.

    Raises:
        AnatozooError: nothing could be done.
        SystemExit: the arguments do not go together.
    """
    kind = args.images if args.images in (BUILD, CALIBRATE) else "judging"
    for other, names in _OPTIONS.items():
        for name in names:
            if name not in _OPTIONS[kind] and getattr(args, name) is not None:
                option = "format" if name == "formats" else name.replace("_", "-")
                args.usage_error(f"--{option} is for {other}.")
    if kind == CALIBRATE:
        return _calibrate(args)
    if len(args.masks) > 1:
        args.usage_error(f"several folders are for {CALIBRATE}.")
    return _build(args) if kind == BUILD else _judge(args)


def _build(args: argparse.Namespace) -> int:
    from anatozoo.quality.atlas import build_atlas

    if not args.organs:
        args.usage_error(f"{BUILD} needs --organs.")
    sizes = args.size or [256]
    atlas = build_atlas(
        args.masks[0],
        args.organs,
        name=args.atlas.with_suffix("").name if args.atlas.suffix else args.atlas.name,
        layout=args.layout or "folder",
        split=None if args.split == "all" else args.split or "train",
        image_size=sizes[0] if len(sizes) == 1 else sizes,
        exclude=args.exclude or (),
        selector=args.selector,
    )
    paths = atlas.save(args.atlas)
    for name, reason in atlas.left_out:
        print(f"anatozoo: left out: {name}: {reason}", file=sys.stderr)
    if args.json:
        import json

        about = {"name": atlas.name, "images": len(atlas), "left_out": [list(x) for x in atlas.left_out]}
        print(json.dumps(about | {"files": [str(path) for path in paths]}, indent=2))
    elif not args.quiet:
        out = f", {len(atlas.left_out)} left out" if atlas.left_out else ""
        print(f"{len(atlas)} images{out}: {paths[0]}")
    return 0


def _calibrate(args: argparse.Namespace) -> int:
    from rich.progress import track

    from anatozoo.cli.output import error_console
    from anatozoo.data.layouts.base import subject_rule
    from anatozoo.errors import OutputError
    from anatozoo.io.annotations import find_annotations
    from anatozoo.quality.atlas import Atlas
    from anatozoo.quality.intervals import ALPHA
    from anatozoo.serve.calibrate import Calibrator
    from anatozoo.serve.inputs import IMAGES, find

    if args.truth is None or len(args.masks) < 2:
        args.usage_error(f"{CALIBRATE} needs IMAGES, MASKS and --truth DIR.")
    images, *folders = args.masks
    if len({os.path.realpath(folder) for folder in folders}) < len(folders):
        args.usage_error("the same MASKS are given twice; give each model's segmentations once.")
    found = find([images], None, IMAGES)
    found.check()
    classes = tuple(args.classes) if args.classes else None
    names = classes or ()
    atlas = Atlas.load(args.atlas)
    if atlas.intervals is not None and not args.overwrite:
        raise OutputError(
            f"the atlas {atlas.name} is calibrated already: {atlas.intervals.words}. --overwrite replaces "
            "this calibration."
        )
    # Intervals of an earlier calibration do not matter here.
    atlas = atlas.with_intervals(None)
    calibrator = Calibrator(
        judge_of(args, atlas, classes),
        found.images,
        [find_annotations(Path(folder), names).entries for folder in folders],
        find_annotations(args.truth, names).entries,
        subject_rule(args.subject_pattern),
        args.alpha or ALPHA,
    )
    hidden = args.quiet or not sys.stderr.isatty()
    for _ in track(calibrator, "calibrating", console=error_console(), disable=hidden):
        pass
    for name, reason in calibrator.left_out:
        print(f"anatozoo: left out: {name}: {reason}", file=sys.stderr)
    intervals = calibrator.intervals(args.about or "")
    paths = atlas.with_intervals(intervals).save(args.atlas)
    if args.json:
        import json

        organs = {
            organ: {"masks": band.masks, "patients": band.patients, "margin": band.margin}
            for organ, band in intervals.organs.items()
        }
        about = {"name": atlas.name, "alpha": intervals.alpha, "organs": organs}
        left_out = [list(each) for each in calibrator.left_out]
        print(json.dumps(about | {"left_out": left_out, "files": [str(path) for path in paths]}, indent=2))
    elif not args.quiet:
        print(f"{intervals.words}: {paths[1]}")
    return 0


def _judge(args: argparse.Namespace) -> int:
    if args.out is None:
        args.usage_error("--out DIR is needed.")
    return run_reported(args, lambda: _task(args))


def _task(args: argparse.Namespace) -> JudgeMasks:
    from anatozoo.io.annotations import find_annotations
    from anatozoo.quality.atlas import Atlas
    from anatozoo.serve.inputs import IMAGES, find
    from anatozoo.serve.quality import JudgeMasks

    # What is cheap to find wrong first.
    found = find([args.images], args.out, IMAGES)
    found.check()
    masks = find_annotations(Path(args.masks[0]), args.classes or ()).entries
    classes = tuple(args.classes) if args.classes else None
    return JudgeMasks(judge_of(args, Atlas.load(args.atlas), classes), found, masks)

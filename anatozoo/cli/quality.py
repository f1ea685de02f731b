"""``anatozoo quality``: estimate how good segmentations are without their truth, and build atlases."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from anatozoo.cli.evaluate_options import at_least_one, names_list
from anatozoo.cli.judging import JUDGING, add_judging, add_selector, judge_of
from anatozoo.cli.predict_report import run_reported
from anatozoo.cli.run_options import add_overwrite, add_report_options

if TYPE_CHECKING:
    from anatozoo.serve.quality import JudgeMasks

BUILD = "build-atlas"

_USAGE = """\
anatozoo quality [-h] IMAGES MASKS --atlas FILE --out DIR [options]
       anatozoo quality build-atlas ROOT --organs A,B --atlas FILE [options]"""
_DESCRIPTION = """\
Estimate how good segmentations are where no ground truth exists, by Reverse
Classification Accuracy: each image is registered to the most similar images of
an atlas, and its warped mask is compared with their reference masks.

DIR receives manifest.csv with one row per image: dice_rca_max and
dice_rca_mean over the atlas images, for all organs and for each
(dice_rca_max/heart), and Hausdorff and average surface distances
(hd_mm_rca_min, assd_mm_rca_mean, ...). A file that cannot be read does not stop
the others. Run the same command again to compute only what is missing. An
image is never compared with an atlas image of the same name."""
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
  anatozoo quality scans/ out/ --atlas jsrt-atlas --out quality
  anatozoo quality scans/ out/ --atlas jsrt-atlas --engine bspline --out quality

exit codes: 0 all images done, 1 error, 2 wrong usage, 3 some images failed
(manifest.csv says why), 130 interrupted"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``anatozoo quality``."""
    parser.usage, parser.description, parser.epilog = _USAGE, _DESCRIPTION, _EPILOG
    parser.set_defaults(usage_error=parser.error)
    parser.add_argument(
        "images", metavar="IMAGES", help=f"images that were segmented, or the word {BUILD} to make an atlas"
    )
    parser.add_argument(
        "masks", metavar="MASKS", type=Path, help=f"their segmentations; for {BUILD} the data set ROOT"
    )
    parser.add_argument(
        "--atlas",
        type=Path,
        metavar="FILE",
        required=True,
        help="atlas to use or write, with or without suffix",
    )
    add_selector(parser)
    add_report_options(parser)
    judging = parser.add_argument_group("to estimate quality")
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
    add_overwrite(judging)
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


_JUDGING = ("out", *JUDGING, "classes", "formats")
_BUILDING = ("organs", "layout", "split", "size", "exclude")


def run(args: argparse.Namespace) -> int:
    """Run ``anatozoo quality``.

    Returns:
        0 if all was done, 3 if some images failed, 130 if interrupted.

    Raises:
        AnatozooError: nothing could be done.
        SystemExit: the arguments do not go together.
    """
    builds = args.images == BUILD
    for name in _JUDGING if builds else _BUILDING:
        if getattr(args, name) is not None:
            option = "format" if name == "formats" else name
            args.usage_error(f"--{option} is for {'judging' if builds else BUILD}.")
    return _build(args) if builds else _judge(args)


def _build(args: argparse.Namespace) -> int:
    from anatozoo.quality.atlas import build_atlas

    if not args.organs:
        args.usage_error(f"{BUILD} needs --organs.")
    sizes = args.size or [256]
    atlas = build_atlas(
        args.masks,
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
    masks = find_annotations(args.masks, args.classes or ()).entries
    classes = tuple(args.classes) if args.classes else None
    return JudgeMasks(judge_of(args, Atlas.load(args.atlas), classes), found, masks)

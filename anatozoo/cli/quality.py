"""``anatozoo quality``: estimate how good segmentations are without their truth, and build atlases."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from anatozoo.cli.evaluate_options import at_least_one, names_list
from anatozoo.cli.judging import JUDGING, add_judging, add_selector, judge_of
from anatozoo.cli.predict_report import run_reported

if TYPE_CHECKING:
    from anatozoo.serve.quality import JudgeMasks

BUILD = "build-atlas"

_USAGE = """\
anatozoo quality [-h] IMAGES MASKS --atlas FILE --out DIR [options]
       anatozoo quality build-atlas ROOT --organs A,B --atlas FILE [options]"""
_DESCRIPTION = """\
Estimate the quality of segmentations whose truth nobody has drawn, by Reverse
Classification Accuracy: each image is registered to the images of an atlas
that are most like it, its mask is brought along and compared with theirs.

DIR gets manifest.csv with one row per image: dice_rca_max and dice_rca_mean
over the atlas images, the same of each organ (dice_rca_max/heart), and the
Hausdorff and average surface distances (hd_mm_rca_min, assd_mm_rca_mean, ...).
A bad file never stops the run, and the same command again does only what is
missing. An atlas image with an image's own name is not used for it."""
_EPILOG = """\
IMAGES are files, a folder or a quoted pattern. MASKS is a folder of masks,
label maps, landmarks or results of `anatozoo predict`, or a CheXmask table;
they are matched with the images by name.

engines (--engine): bspline, demons (SimpleITK, seconds for each atlas image),
elastix (the same, where itk-elastix is installed), or a checkpoint that
registers images (tens of milliseconds); of several, A,B, each registers what
the former left, such as affine and then deformable

selectors (--selector): thumbnail (correlation of small images), or a checkpoint
that gives images latents, for atlases that were built with the same one

formats (* by default): json* (all numbers of each atlas image), picture (slow)

examples:
  anatozoo quality build-atlas jsrt --layout jsrt --organs lungs,heart \\
      --atlas jsrt-atlas
  anatozoo quality scans/ out/ --atlas jsrt-atlas --out quality
  anatozoo quality scans/ out/ --atlas jsrt-atlas --engine bspline --out quality

exit codes: 0 all done, 1 error, 2 wrong usage, 3 some images failed and
manifest.csv says why, 130 interrupted"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``anatozoo quality``."""
    parser.usage, parser.description, parser.epilog = _USAGE, _DESCRIPTION, _EPILOG
    parser.set_defaults(usage_error=parser.error)
    parser.add_argument("images", metavar="IMAGES", help=f"what was segmented, or the word {BUILD}")
    parser.add_argument("masks", metavar="MASKS", type=Path, help="the segmentations, or the folder ROOT")
    parser.add_argument(
        "--atlas", type=Path, metavar="FILE", required=True, help="the atlas, with or without its suffix"
    )
    add_selector(parser)
    parser.add_argument("--json", action="store_true", help="print a summary as JSON on standard output")
    parser.add_argument("--quiet", action="store_true", help="print errors only")
    judging = parser.add_argument_group("to judge")
    judging.add_argument("--out", metavar="DIR", help="folder of manifest.csv and the results")
    add_judging(judging)
    judging.add_argument(
        "--classes",
        type=names_list,
        metavar="A,B,...",
        help="organs of the values 1, 2, ... of label maps (default: those of the atlas)",
    )
    judging.add_argument(
        "--format", dest="formats", type=names_list, metavar="LIST", help="what is written beside the table"
    )
    judging.add_argument("--overwrite", action="store_true", help="do again what is done already")
    building = parser.add_argument_group("to build an atlas")
    building.add_argument("--organs", type=names_list, metavar="A,B,...", help="names of the labels")
    building.add_argument(
        "--layout",
        choices=("folder", "jsrt"),
        help="of ROOT (default: folder, images/ and labels/)",
    )
    building.add_argument("--split", help="train (default), val, test, or all")
    building.add_argument(
        "--size",
        type=at_least_one,
        nargs="+",
        metavar="S",
        help="side of the square frame, H W or D H W (default: 256)",
    )
    building.add_argument("--exclude", type=names_list, metavar="A,B,...", help="cases to leave out")


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

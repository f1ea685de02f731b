"""``anatozoo landmarks``: a data set of masks becomes one of landmarks with correspondences."""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from anatozoo.cli.evaluate_options import at_least_one, names_list
from anatozoo.cli.predict_report import run_reported
from anatozoo.cli.run_options import (
    add_device,
    add_overwrite,
    add_report_options,
    add_spacing,
    load_named,
    result_formats,
)
from anatozoo.errors import AnatozooError, ConfigError, DataError
from anatozoo.text import some

if TYPE_CHECKING:
    from anatozoo.io.annotations import Entry
    from anatozoo.io.label_codes import LabelCodes
    from anatozoo.serve.engine import RunSummary
    from anatozoo.serve.inputs import Found
    from anatozoo.serve.landmarks import FindLandmarks

CHECKPOINT = "seg2graph-jsrt"
_DESCRIPTION = """\
Turn masks of organs into landmarks: contours whose points have numbers, each
at the corresponding place of the organ in every patient. The result is a data
set on which landmark models such as HybridGNet can be trained.

MASKS is a folder of label maps, a folder with one folder per organ (heart/,
lung_left/, lungs/, ...), a single file, or a folder that `anatozoo predict`
wrote. Both lungs may be one organ, and organs may be missing.

DIR receives NAME.json with the landmarks of the organs that the mask shows,
and manifest.csv, a table with one row per mask: Dice and Hausdorff distance
between the mask and the area that its landmarks enclose, and flags. To train
on the landmarks, put the images beside them: my_data/images and
my_data/annotations are the layout `folder`. A mask that cannot be used does
not stop the others. Run the same command again to compute only what is
missing."""
_EPILOG = """\
flags:
  unseen_ORGAN      the mask does not show this organ
  poor_fit_ORGAN    the landmarks do not reproduce the mask of this organ
  fragmented_ORGAN  the organ has several parts
  mirrored          the heart lies on the other side
  sides_swapped     right and left have each other's names

examples:
  anatozoo landmarks masks/ --labels lungs=1,heart=2 --out my_data/annotations
  anatozoo landmarks masks_by_organ/ --format json,png --out out

exit codes: 0 all masks done, 1 error, 2 wrong usage, 3 some masks failed
(manifest.csv says why), 130 interrupted"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``anatozoo landmarks``."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.set_defaults(usage_error=parser.error)
    parser.add_argument("masks", metavar="MASKS", nargs="+", help="folders or files of masks")
    parser.add_argument(
        "--out", metavar="DIR", required=True, help="write the landmarks and manifest.csv to this folder"
    )
    parser.add_argument(
        "--checkpoint",
        metavar="NAME",
        default=CHECKPOINT,
        help=f"use this checkpoint (default: {CHECKPOINT})",
    )
    reading = parser.add_argument_group("reading")
    reading.add_argument(
        "--labels",
        metavar="NAME=VALUE,...",
        help="organs of the values of label maps, such as lungs=1,heart=2; lungs=3+4 joins values, and "
        "lungs=128-255 is a range",
    )
    reading.add_argument(
        "--classes", type=names_list, metavar="A,B,...", help="organs of the values 1, 2, ... of label maps"
    )
    add_spacing(reading, "x and y")
    computing = parser.add_argument_group("computing")
    computing.add_argument(
        "--batch-size",
        metavar="N",
        type=at_least_one,
        default=8,
        help="number of masks computed together (default: 8)",
    )
    add_device(computing)
    output = parser.add_argument_group("output")
    output.add_argument(
        "--format",
        dest="formats",
        metavar="LIST",
        type=result_formats,
        help="formats to write, separated by commas: json (default), png (overlay, and label map of the "
        "landmarks), csv, nifti, mha, chexmask",
    )
    add_overwrite(output)
    add_report_options(output)


def run(args: argparse.Namespace) -> int:
    """Run ``anatozoo landmarks``.

    Returns:
        0 if all masks were done, 3 if some failed, 130 if interrupted.

    Raises:
        AnatozooError: nothing could be done: no mask, values without a name, no such checkpoint, nowhere to
            write.
        SystemExit: the arguments do not go together.
    """
    codes = _codes(args)
    return run_reported(args, lambda: _task(args, codes), agreement)


def _task(args: argparse.Namespace, codes: LabelCodes | None) -> FindLandmarks:
    from anatozoo.serve.landmarks import FindLandmarks
    from anatozoo.serve.options import OptionError, ReadOptions
    from anatozoo.serve.tasks import kind_of

    model = load_named(args.checkpoint, args.device)
    if kind_of(model).job_class() is not FindLandmarks:
        raise ConfigError(f"{args.checkpoint} finds no landmarks of masks; use {CHECKPOINT}.")
    found, entries = find_entries(args.masks, codes, args.out, tuple(model.organs))
    found.check()
    try:
        return FindLandmarks(model, found, ReadOptions(args.spacing_mm), entries, codes)
    except OptionError as error:
        args.usage_error(f"--{error.option.replace('_', '-')} {error.reason}")
        raise AssertionError("argparse ends the program") from error


def find_entries(
    paths: list[str], codes: LabelCodes | None, out: str, organs: tuple[str, ...]
) -> tuple[Found, dict[Path, Entry]]:
    """The masks of folders and files of a model's organs, and the files of each.

    A mask is called by its file, or one of several files, one for each organ, by the folder that was given
    and the image's name, which stay when an organ comes or goes. What cannot be taken is missing, with the
    reason: label maps whose values nobody named, and rows of tables of run lengths. Folders of other names
    are left out and said, but where a mask has nothing else or lacks an organ of a name that is alike, they
    are kept among its files, so that it fails with their names.

    Raises:
        DataError: masks are to be read from the folder of the results.
    """
    from anatozoo.io.annotation import misspelt
    from anatozoo.io.annotation_files import LANDMARKS, suffix_among
    from anatozoo.io.annotations import Entry, find_annotations
    from anatozoo.organs import with_pairs
    from anatozoo.serve.inputs import Found, root_of

    known = with_pairs(organs)
    names = (*organs, *(() if codes is None else codes.organs))
    entries: dict[Path, Entry] = {}
    roots: dict[Path, Path] = {}
    missing: dict[str, str] = {}
    for text in paths:
        given = Path(os.path.abspath(os.path.expanduser(text)))
        if os.path.realpath(given) == os.path.realpath(out):
            raise DataError(f"{text} is also --out; choose another folder for the landmarks.")
        try:
            listed = find_annotations(given, names, others=True)
        except AnatozooError as error:
            missing[str(given)] = str(error)
            continue
        rows, unnamed, left_out = [], [], set[str]()
        for name in sorted({*listed.entries, *listed.strangers}):
            entry, others = listed.entries.get(name, Entry()), listed.strangers.get(name, {})
            if others:
                near = misspelt([*filter(None, entry.files), *others], known) if entry.files else others
                left_out |= others.keys() - near.keys()
                entry = Entry(dict(entry.files) | {o: file for o, file in others.items() if o in near})
            path = entry.files.get(None)
            if not entry.files:
                rows.append(name)
            elif path is not None and codes is None and not suffix_among(path.name, LANDMARKS):
                unnamed.append(path.name)
            else:
                called = given / name if path is None else path
                entries[called], roots[called] = entry, root_of(given)
        for folder in sorted(left_out):
            print(f"anatozoo: {given / folder}/ is no organ of the model and is left out.", file=sys.stderr)
        reasons = []
        if unnamed:
            reasons.append(
                f"nothing says what the values of {some(unnamed)} are; name them as --labels "
                "lungs=1,heart=2, or give one folder per organ (lungs/, heart/, lung_left/, ...)."
            )
        if rows:
            reasons.append(
                f"the rows of a table of run lengths ({some(rows)}) hold landmarks already; give masks."
            )
        if reasons:
            missing[str(given)] = " ".join(reasons)
    return Found(tuple(entries), missing, roots), entries


def agreement(summary: RunSummary) -> list[str]:
    """How well the landmarks reproduce the masks, a line for each organ, and how many masks are flagged."""
    done = [row for row in summary.rows if row.status == "ok"]
    lines = []
    for column in dict.fromkeys(column for row in done for column in row.more if column.startswith("dice/")):
        organ = column.removeprefix("dice/")
        rows = [row.more for row in done if row.more.get(column)]
        if rows:
            dice = statistics.median(float(row[column]) for row in rows)
            distance = statistics.median(float(row[f"hd_px/{organ}"]) for row in rows)
            lines.append(
                f"  {organ}: Dice {dice:.3f}, Hausdorff {distance:.1f} px (medians, masks: {len(rows)})"
            )
    flagged = sum(any(not flag.startswith("unseen_") for flag in row.flags) for row in done)
    return [*lines, f"  flagged for a look: {flagged} of {len(done)}"] if lines else []


def _codes(args: argparse.Namespace) -> LabelCodes | None:
    from anatozoo.io.label_codes import LabelCodes, parse_labels

    if args.labels is not None and args.classes:
        args.usage_error("--labels and --classes both name the values of label maps; give one of the two.")
    if args.classes:
        return LabelCodes.of(args.classes)
    if args.labels is None:
        return None
    try:
        one, other = parse_labels(args.labels)
    except ConfigError as error:
        args.usage_error(str(error))
        raise
    if one.ranges != other.ranges:
        args.usage_error("--labels: there is one side here; write each value once, as lungs=1,heart=2.")
    return one

"""Files against files: the part of ``anatozoo evaluate`` that runs no model."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anatozoo.cli.evaluate_options import (
    EXIT_FAILED_IMAGES,
    EXIT_OK,
    at_least_one,
    check_output,
    finish,
    measures_of,
    measuring_words,
    names_list,
)
from anatozoo.cli.evaluate_values import SIDES, Readings, check_values, shown
from anatozoo.errors import AnatozooError, ConfigError, DataError, GeometryError
from anatozoo.io.nifti_space import FORMS_DIFFER, UNIT_ASSUMED
from anatozoo.organs import PAIRS
from anatozoo.text import some

if TYPE_CHECKING:
    from anatozoo.io.annotation import Annotation
    from anatozoo.io.annotation_files import Stored
    from anatozoo.io.annotations import Entry
    from anatozoo.io.grid import Grid
    from anatozoo.io.label_codes import LabelCodes

DEFAULT_SIZE = (1024, 1024)
_MOST_NAMES = 5
Row = dict[str, Any]


def add_file_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what names files and what they mean."""
    files = parser.add_argument_group("files against files")
    files.add_argument("--pred", type=Path, metavar="PATH", help="what was predicted: a folder or a file")
    files.add_argument("--ref", type=Path, metavar="PATH", help="the truth: a folder or a file")
    files.add_argument(
        "--classes",
        type=names_list,
        metavar="A,B,...",
        help="names of the values 1, 2, ... of label maps (default: class_1, class_2, ...)",
    )
    files.add_argument(
        "--labels",
        metavar="NAME=VALUE,...",
        help="values of label maps by name, as lungs=1,heart=2. Where the sides differ, the prediction's "
        "value first: lungs=127:1,heart=255:2. Several values: lungs=3+4; a range, as of a mask with soft "
        "edges: heart=128-255,background=0-127. Also with NAME, for the layout folder",
    )
    files.add_argument(
        "--size",
        type=at_least_one,
        nargs=2,
        metavar=("W", "H"),
        help="image size of landmarks and run lengths that state none (default: that of the other side, "
        "else 1024 1024)",
    )


def run_files(args: argparse.Namespace) -> int:
    """Compare the files of two folders; 0 if every pair could be compared, 3 if some could not.

    Raises:
        AnatozooError: there is nothing to compare, or the tables cannot be written.
    """
    from anatozoo.io.annotations import find_annotations
    from anatozoo.metrics.tables import provenance, summarise

    codes = _codes(args)
    check_output(args)
    names = args.classes or (codes[0].organs if codes else ())
    found = {
        side: find_annotations(path, names) for side, path in zip(SIDES, (args.pred, args.ref), strict=True)
    }
    alone = args.pred.is_file() and args.ref.is_file()
    pairs, unmatched = match(*(found[side].entries for side in SIDES), alone=alone)
    if not pairs:
        raise DataError(
            f"no name of {args.pred} is one of {args.ref}: there are "
            f"{some(list(found[SIDES[0]].entries))} and {some(list(found[SIDES[1]].entries))}. Files are "
            "matched by name, without suffix, _mask and _landmarks; rename one side."
        )
    for side, names in unmatched.items():
        total, ignored = len(found[side].entries), [path.name for path in found[side].ignored]
        if names:
            _say(f"no counterpart for {len(names)} of {total} images of the {side}: {some(names)}")
        if ignored:
            _say(f"passed over in the {side}: {some(ignored)}")
    remarks = Remarks()
    readings = Readings(pairs, codes)
    remarks.values += check_values(readings, args.classes)
    rows = list(_compare_pairs(readings, args, remarks))
    unread = {row["id"]: row["error"] for row in rows if row.get("error")}
    say_failures(unread)
    if len(unread) == len(rows):
        raise DataError(f"none of the {len(rows)} pairs could be compared; see above.")
    for remark in remarks.sentences():
        _say(remark)
    summary = {
        "prediction": _name(args.pred),
        "reference": _name(args.ref),
        "command": files_command(args),
        **provenance(("numpy", "scipy")),
        "unmatched": unmatched,
        "unread": unread,
        "remarks": remarks.sentences(),
    } | summarise([row for row in rows if not row.get("error")])
    finish(args, f"{_name(args.pred)}_against_{_name(args.ref)}", rows, summary)
    return EXIT_FAILED_IMAGES if unread else EXIT_OK


def match(
    prediction: Mapping[str, Entry], reference: Mapping[str, Entry], *, alone: bool = False
) -> tuple[dict[str, tuple[Entry, Entry]], dict[str, list[str]]]:
    """Pair annotations of the same name, in order of the names.

    Args:
        prediction: image -> annotation.
        reference: the same of the truth.
        alone: two annotations that are each their side's only one belong together, whatever their names.

    Returns:
        The pairs, and for each side the names that the other side lacks.
    """
    if alone and len(prediction) == len(reference) == 1:
        ((name, one),), (other,) = prediction.items(), reference.values()
        return {name: (one, other)}, {side: [] for side in SIDES}
    pairs = {name: (prediction[name], reference[name]) for name in sorted(prediction) if name in reference}
    lacking = ([name for name in side if name not in pairs] for side in (prediction, reference))
    return pairs, dict(zip(SIDES, lacking, strict=True))


@dataclass
class Remarks:
    """What was taken for granted, counted over the pairs."""

    sizes: Counter[str] = field(default_factory=Counter)
    spacings: int = 0
    organs: Counter[tuple[str, str]] = field(default_factory=Counter)
    values: list[str] = field(default_factory=list)
    exchanged: Counter[str] = field(default_factory=Counter)

    def note(self, grids: Sequence[Grid], *, given: bool) -> None:
        """Count what the files of a pair leave in doubt."""
        flags = {flag for grid in grids for flag in grid.remarks}
        if UNIT_ASSUMED in flags and not given:
            self.sizes[
                "spacing taken as millimetres, as the files state no unit; --spacing-mm says otherwise"
            ] += 1
        if FORMS_DIFFER in flags:
            self.sizes["sform, qform and spacing of the files contradict one another"] += 1

    def sentences(self) -> list[str]:
        """Remarks that apply, one sentence each."""
        said = [*self.values, *(f"{size} (images: {count})" for size, count in self.sizes.items())]
        if self.spacings:
            said.append(f"--spacing-mm not used, as the files state another (images: {self.spacings})")
        said += [
            f"sides look exchanged (images: {count}): the prediction's {right} lies on the reference's "
            f"{left}, and its {left} on the reference's {right}; exchange the names of one side"
            for pair, count in self.exchanged.items()
            for right, left in (PAIRS[pair],)
        ]
        organs: dict[str, list[str]] = {}
        for (side, organ), count in self.organs.items():
            organs.setdefault(side, []).append(f"{organ} ({count})")
        return said + [
            f"not compared, as only the {side} knows them (images): {', '.join(names)}"
            for side, names in organs.items()
        ]


def _compare_pairs(readings: Readings, args: argparse.Namespace, remarks: Remarks) -> Iterator[Row]:
    """One row per pair; those that cannot be compared have ``error`` and come last."""
    from anatozoo.metrics.cases import Case, case_row
    from anatozoo.metrics.chest import comparable, crosswise, drawn

    measures = measures_of(args)
    failed: list[Row] = []
    for name in shown(readings, "comparing"):
        try:
            sides = align(*readings.named(name), args, remarks)
            one, two = comparable(*sides, measures.rounding, cut=args.exclusive)
            case = Case(drawn(one, two, measures.rounding), drawn(two, one, measures.rounding))
            row = case_row(case, measures)
        except AnatozooError as error:
            failed.append({"id": name, "error": str(error)})
            continue
        _note_organs(case.prediction, case.reference, remarks)
        remarks.exchanged.update(crosswise(case.prediction, case.reference))
        yield {"id": name} | row
    yield from failed


def _codes(args: argparse.Namespace) -> tuple[LabelCodes, LabelCodes] | None:
    from anatozoo.io.label_codes import parse_labels

    if args.labels is None:
        return None
    if args.classes:
        args.usage_error("--labels and --classes both name the values of label maps; give one of the two.")
    try:
        return parse_labels(args.labels)
    except ConfigError as error:
        args.usage_error(str(error))
        raise


def align(
    prediction: Stored, reference: Stored, args: argparse.Namespace, remarks: Remarks | None = None
) -> tuple[Annotation, Annotation]:
    """Bring two annotations of one image onto one grid, with names for the values of label maps.

    Args:
        prediction: as read.
        reference: as read.
        args: ``size``, ``spacing_mm`` and ``classes``; each may be None.
        remarks: counts what was assumed.

    Raises:
        DataError: label values without a name, or names on one side only.
        GeometryError: the sides differ in their dimensions, size, spacing or place.
    """
    from anatozoo.io.grid import Grid

    remarks = Remarks() if remarks is None else remarks
    stated = Grid(tuple(args.size)) if args.size else None
    grids = [side.grid or stated for side in (reference, prediction)]
    known = [grid for grid in grids if grid is not None]
    if len(known) == 2:
        _check_same(*known)
    elif not known:
        size = " x ".join(map(str, DEFAULT_SIZE))
        remarks.sizes[f"size taken as {size} pixels, as none is stated; --size W H says otherwise"] += 1
        known = [Grid(DEFAULT_SIZE)]
    else:
        side = SIDES[0] if grids[0] is None else SIDES[1]
        remarks.sizes[f"size taken from the {side}, as the other side states none"] += 1
    spacing = _spacing(known, args.spacing_mm, remarks)
    remarks.note(known, given=args.spacing_mm is not None)
    names = _class_names(prediction, reference, args.classes)
    one, two = (side.annotation(known[0].size, names, spacing) for side in (prediction, reference))
    return one, two


def _check_same(reference: Grid, prediction: Grid) -> None:
    if reference.dims != prediction.dims:
        raise GeometryError(f"the prediction is {prediction.dims}-D, the reference {reference.dims}-D.")
    if difference := prediction.differs_from(reference):
        raise GeometryError(
            f"prediction and reference lie on different grids: {difference}. Bring one to the other's first."
        )


def _spacing(
    grids: Sequence[Grid], given: Sequence[float] | None, remarks: Remarks
) -> tuple[float, ...] | None:
    """What a file states, else what the command line says."""
    # Millimetres that are only assumed give way to what the command line says.
    sure = [grid.spacing_mm for grid in grids if given is None or UNIT_ASSUMED not in grid.remarks]
    stated = next((spacing for spacing in sure if spacing is not None), None)
    dims = grids[0].dims
    if given is None:
        return stated
    if len(given) not in (1, dims):
        raise GeometryError(f"--spacing-mm has {len(given)} numbers, but the image is {dims}-D.")
    wanted = tuple(given) * dims if len(given) == 1 else tuple(given)
    if stated is None:
        return wanted
    if any(abs(a - b) > 1e-3 * b for a, b in zip(wanted, stated, strict=True)):
        remarks.spacings += 1
    return stated


def _class_names(prediction: Stored, reference: Stored, classes: Sequence[str] | None) -> dict[int, str]:
    """Name of each value of the label maps."""
    sides = dict(zip(SIDES, (prediction, reference), strict=True))
    if classes:
        for side, stored in sides.items():
            unknown = [str(value) for value in stored.values if value > len(classes)]
            if unknown:
                raise DataError(
                    f"the {side} holds the values {some(unknown)}, but --classes names 1 to {len(classes)}: "
                    f"{', '.join(classes)}."
                )
        return dict(enumerate(classes, start=1))
    unnamed = [side for side, stored in sides.items() if stored.labels is not None]
    if len(unnamed) == 1:
        organs = sides[SIDES[1 - SIDES.index(unnamed[0])]].organs
        raise DataError(
            f"the {unnamed[0]} is a label map, and only the other side says what organs it has "
            f"({', '.join(organs)}); name the values of the label map in their order: --classes A,B,..."
        )
    return {value: f"class_{value}" for value in sorted({1, *prediction.values, *reference.values})}


def _note_organs(prediction: Annotation, reference: Annotation, remarks: Remarks) -> None:
    """Count organs that only one side knows, but for parts of a pair that was compared as one."""
    shared = set(prediction.organs) & set(reference.organs)
    covered = shared | {part for organ in shared for part in PAIRS.get(organ, ())}
    for side, annotation in zip(SIDES, (prediction, reference), strict=True):
        remarks.organs.update((side, organ) for organ in annotation.organs if organ not in covered)


def files_command(args: argparse.Namespace) -> str:
    """The command that repeats the comparison, without the folders of this machine."""
    words = ["anatozoo", "evaluate", "--pred", args.pred.resolve().name, "--ref", args.ref.resolve().name]
    words += ["--classes", ",".join(args.classes)] if args.classes else []
    words += ["--labels", args.labels] if args.labels else []
    words += ["--size", *map(str, args.size)] if args.size else []
    return shlex.join([*words, *measuring_words(args)])


def _name(path: Path) -> str:
    from anatozoo.io.files import stem_of

    full = path.resolve()
    return full.name if full.is_dir() else stem_of(full)


def say_failures(unread: Mapping[str, str]) -> None:
    """Each reason once, with the names that it is about."""
    names: dict[str, list[str]] = {}
    for name, error in unread.items():
        names.setdefault(error, []).append(name)
    for error, about in list(names.items())[:_MOST_NAMES]:
        _say(f"failed: {some(about)}: {error}")
    more = sum(map(len, list(names.values())[_MOST_NAMES:]))
    if more:
        _say(f"failed: {more} more; the table and the JSON say why")


def _say(text: str) -> None:
    print(f"anatozoo: {text}", file=sys.stderr)

"""The layout ``findings``: one table of images with what they show, as archives of radiographs publish it.

A CSV file, or a folder with ``findings.csv`` or ``manifest.csv``. Columns go by their usual names, those of
ChestX-ray14 and CheXpert among them; findings are columns of 1 and 0, or one column that lists them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath

from anatozoo.data.case import Case
from anatozoo.data.findings import LISTED, column_key
from anatozoo.data.layouts.base import Layout, Listing, Wanted, shown, subject_rule
from anatozoo.data.layouts.manifest import NAME, inside, manifest_of, names_of, splits_of
from anatozoo.errors import DataError
from anatozoo.io.read import read_grid_image
from anatozoo.io.splits import check_subjects
from anatozoo.io.tables import TextTable, read_text_table

ALIASES = {
    "image": ("image", "image index", "image path", "file", "filename", "path"),
    "subject": ("subject", "patient", "patient id", "patientid", "subject id"),
    "split": ("split",),
    "domain": ("domain", "dataset", "site"),
    "sex": ("sex", "gender", "patient sex", "patient gender", "patientsex"),
    "age": ("age", "patient age", "patientage"),
    "view": ("view", "view position", "viewposition", "ap/pa", "projection"),
    LISTED: (LISTED, "finding labels", "labels"),
}
"""Column -> what it may be called; the first that is there counts. Capitals and underscores do not matter."""
_NAMES = ("findings.csv", NAME)
_NOT_FACTS = ("image", "mask", "subject", "split", "domain")
_IMAGES = "images"


def find_findings(wanted: Wanted) -> Listing:
    """The cases of a table.

    Images are looked for where the table says, counted from its folder, in ``images/``, and else by their
    names in all folders below. Without a column of patients, `Wanted.subject_pattern` finds them in the
    names; without both each image is its own patient, which the splits' origin remarks.

    Raises:
        DataError: there is no table or no column of images; images are missing, or there twice; a patient is
            not named, or in two splits; a split is unknown.
    """
    path = _table(wanted.root)
    if path is None:
        raise DataError(
            f"{wanted.root} holds neither {' nor '.join(_NAMES)}; give the table of the images itself."
        )
    table = renamed(read_text_table(path))
    if "image" not in table.header:
        raise DataError(
            f"{path} has no column of images, {' or '.join(ALIASES['image'])}; it has "
            f"{', '.join(table.header)}."
        )
    names = names_of(table, path)
    rows = dict(zip(names, table.records(), strict=True))
    lines = dict(zip(names, table.lines, strict=True))
    files = _files(path, rows, lines)
    subjects, remarks = _subjects(path, rows, lines, wanted.subject_pattern)
    splits, origin = splits_of(path, rows, subjects)
    origin = replace(origin, remarks=(*table.remarks, *remarks))
    cases = [
        Case(
            name,
            subjects[name],
            splits.get(name),
            row.get("domain") or path.parent.resolve().name,
            image=partial(read_grid_image, files[name], 2, allow_any_modality=True),
            facts={key: value for key, value in row.items() if key not in _NOT_FACTS and value},
            origin=origin,
        )
        for name, row in rows.items()
    ]
    check_subjects((case.subject, case.split) for case in cases)
    return Listing(sorted(cases, key=lambda case: case.id))


def renamed(table: TextTable) -> TextTable:
    """A table whose columns have the names of `ALIASES`, where they go by one of their others."""
    keys = [column_key(name) for name in table.header]
    header = list(table.header)
    for name, others in ALIASES.items():
        found = next((keys.index(other) for other in others if other in keys), None)
        if found is not None and name not in header:
            header[found] = name
    return replace(table, header=tuple(header))


def _table(root: Path) -> Path | None:
    """The table at or in a path."""
    if root.is_file():
        return root
    return next((root / name for name in _NAMES if (root / name).is_file()), None)


def _recognises(root: Path) -> bool:
    if root.is_dir():
        return (root / _NAMES[0]).is_file()
    return root.name.lower().endswith((".csv", ".csv.gz")) and manifest_of(root) is None


def _files(path: Path, rows: dict[str, dict[str, str]], lines: dict[str, int]) -> dict[str, Path]:
    """The file of each image.

    Raises:
        DataError: some are not there, or files of their names are in several folders.
    """
    root, found, lacking = path.parent, dict[str, Path](), list[str]()
    for name, row in rows.items():
        asked = inside(root, row["image"], f"{path}, line {lines[name]}")
        assert asked is not None  # `names_of` has refused empty cells
        within = asked.relative_to(root)
        places = [asked, root / _IMAGES / within]
        if within.parts[0] == root.resolve().name:  # as CheXpert writes paths, with its own folder
            places.append(root.joinpath(*within.parts[1:]))
        there = next((place for place in places if place.is_file()), None)
        if there is None:
            lacking.append(name)
        else:
            found[name] = there
    if lacking:
        places_of: dict[str, list[Path]] = {}
        for file in root.rglob("*"):
            places_of.setdefault(file.name, []).append(file)
        absent = []
        for name in lacking:
            file_name = PurePosixPath(rows[name]["image"].replace("\\", "/")).name
            several = [place for place in places_of.get(file_name, []) if place.is_file()]
            if len(several) > 1:
                raise DataError(
                    f"{path}, line {lines[name]}: {file_name} is in several folders, such as "
                    f"{several[0].parent} and {several[1].parent}; write the folder into the table."
                )
            if several:
                found[name] = several[0]
            else:
                absent.append(f"line {lines[name]}: {rows[name]['image']}")
        if absent:
            raise DataError(
                f"{path}: {len(absent)} of its {len(rows)} images are not there: {shown(absent)}. Put them "
                "below its folder, or take their lines out."
            )
    return found


def _subjects(
    path: Path, rows: dict[str, dict[str, str]], lines: dict[str, int], pattern: str | None
) -> tuple[dict[str, str], Sequence[str]]:
    """The patient of each image, and what was taken for granted.

    Raises:
        DataError: the table names the patients of some images alone.
    """
    of_name = subject_rule(pattern)
    if "subject" not in next(iter(rows.values())):
        said = (
            f"{path.name} has no column of patients, so that each image counts as one of its own, and images "
            "of one patient may be in several splits; add a column subject, or give data.subject_pattern.",
        )
        return {name: of_name(name) for name in rows}, () if pattern else said
    if empty := [f"line {lines[name]}" for name, row in rows.items() if not row["subject"]]:
        raise DataError(
            f"{path}: {len(empty)} images have no patient ({shown(empty)}), so that they could be in two "
            "splits; fill in the column, or take their lines out."
        )
    return {name: row["subject"] for name, row in rows.items()}, ()


LAYOUT = Layout(
    "findings",
    "findings.csv, or another table of images with their findings",
    (2,),
    _recognises,
    find_findings,
    takes_label_values=False,
)

"""The layout ``folder`` as a table: ``manifest.csv`` with a line for each image."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path, PurePosixPath

from anatozoo.data.case import Case
from anatozoo.data.layouts.base import Listing, Wanted, shown, subject_rule
from anatozoo.data.layouts.codes import label_codes
from anatozoo.data.layouts.sources import Source, is_markups
from anatozoo.errors import DataError
from anatozoo.io.annotations import Entry
from anatozoo.io.files import stem_of
from anatozoo.io.label_codes import LabelCodes
from anatozoo.io.read import read_grid_image
from anatozoo.io.split_lists import MISTAKEN, SPLITS
from anatozoo.io.splits import Origin, check_subjects, find_splits, splits_or_deal
from anatozoo.io.tables import TextTable, composed, read_records, read_text_table

NAME = "manifest.csv"
COLUMNS = ("image", "mask", "subject", "split", "domain")


def manifest_of(root: Path) -> Path | None:
    """The manifest at or in a path; None without one, or for a table of another kind."""
    path = root if root.is_file() else root / NAME
    if not path.is_file() or not path.name.lower().endswith((".csv", ".csv.gz")):
        return None
    records = read_records(path).records
    header = {name.strip() for name in records[0][1]} if records else set[str]()
    return path if "image" in header and header & {*COLUMNS[1:]} else None


def find_manifest(path: Path, wanted: Wanted) -> Listing:
    """The cases of a manifest.

    Columns are ``image`` and, all optional, ``mask``, ``subject``, ``split`` and ``domain``; others are kept
    as facts. Paths are relative to the folder of the manifest. A line without a mask is an image without
    annotation.

    Raises:
        DataError: a file is missing or outside the folder, an image is listed twice, or a split is unknown.
    """
    table, root = read_text_table(path), path.parent
    codes = LabelCodes({}) if wanted.organs == () else label_codes(wanted, root)
    subject_of = subject_rule(wanted.subject_pattern)
    names = names_of(table, path)
    rows = dict(zip(names, table.records(), strict=True))
    lines = dict(zip(names, table.lines, strict=True))
    files = {
        name: {
            column: inside(root, row.get(column, ""), f"{path}, line {lines[name]}")
            for column in ("image", "mask")
        }
        for name, row in rows.items()
    }
    absent = [
        f"line {lines[name]}: {file}"
        for name, both in files.items()
        for file in both.values()
        if file is not None and not file.exists()
    ]
    if absent:
        raise DataError(f"{path}: {len(absent)} of its files are not there: {shown(absent)}.")
    subjects = {name: row.get("subject") or subject_of(name) for name, row in rows.items()}
    splits, origin = splits_of(path, rows, subjects)
    cases = []
    for name, row in rows.items():
        image, mask = files[name]["image"], files[name]["mask"]
        source = _source(name, mask, codes, wanted.dims) if wanted.organs != () and mask is not None else None
        cases.append(
            Case(
                name,
                subjects[name],
                splits.get(name),
                row.get("domain") or root.resolve().name,
                frozenset() if source is None else source.organs(),
                None
                if image is None
                else partial(read_grid_image, image, wanted.dims, allow_any_modality=True),
                None if source is None else source.draw,
                {key: value for key, value in row.items() if key not in COLUMNS and value},
                origin,
            )
        )
    check_subjects((case.subject, case.split) for case in cases)
    return Listing(sorted(cases, key=lambda case: case.id))


def _source(name: str, path: Path, codes: LabelCodes, dims: int) -> Source:
    if is_markups(path):
        return Source(name, codes, dims, markups={None: path})
    return Source(name, codes, dims, Entry({None: path}))


def names_of(table: TextTable, path: Path) -> list[str]:
    """Names of the cases: the file names if they are unique, else with their folders."""
    written = [(row["image"] or row.get("mask", "")).replace("\\", "/").strip() for row in table.records()]
    if empty := [line for line, text in zip(table.lines, written, strict=True) if not text]:
        raise DataError(f"{path}: line {empty[0]} names neither image nor mask.")
    files = [PurePosixPath(composed(text)) for text in written]
    short = [stem_of(Path(file)) for file in files]
    names = short if len(set(short)) == len(short) else [str(f.with_name(stem_of(Path(f)))) for f in files]
    seen: dict[str, int] = {}
    for name, line in zip(names, table.lines, strict=True):
        if seen.setdefault(name, line) != line:
            raise DataError(f"{path}: lines {seen[name]} and {line} are both {name}; keep one of them.")
    return names


def inside(root: Path, text: str, where: str) -> Path | None:
    """The file that a cell names; None if the cell is empty."""
    if not text:
        return None
    parts = PurePosixPath(text.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or ":" in parts.parts[0] or "\0" in text:
        raise DataError(
            f"{where}: {text!r} does not lie in the folder of the manifest. Name files from there on, or put "
            "a link to their folder into it."
        )
    return root / Path(*parts.parts)


def splits_of(
    path: Path, rows: Mapping[str, Mapping[str, str]], subjects: Mapping[str, str]
) -> tuple[Mapping[str, str], Origin]:
    """Splits from the column ``split``, else from lists, else assigned at random."""
    stated = {name: row["split"] for name, row in rows.items() if row.get("split")}
    if not stated:
        assigned = splits_or_deal(path.parent, subjects)
        return assigned.splits, assigned.origin
    for name, split in stated.items():
        if split not in SPLITS:
            meant = MISTAKEN.get(split.lower(), split.lower())
            advice = f"write {meant}" if meant in SPLITS else f"they are {', '.join(SPLITS)}"
            raise DataError(f"{path}: {name} is in the split {split!r}; {advice}.")
    listed = find_splits(path.parent, {name: (name, subjects[name]) for name in rows})
    if listed is not None:
        raise DataError(
            f"{path} has a column split, but {listed.origin.lists[0]} names its cases too; keep one of them."
        )
    return stated, Origin(path.parent, (path,))

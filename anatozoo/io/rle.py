"""Run lengths, and the tables of CheXmask that hold organs in this form.

A run is ``start length``: pixels counted along the rows of a (H, W) mask from 1. Gaggion et al., "CheXmask: a
large-scale dataset of anatomical segmentation masks for multi-center chest x-ray images", Scientific Data
2024. Organs overlap, for each was filled on its own.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from anatozoo.errors import DataError
from anatozoo.io.landmarks import Points, split_landmarks
from anatozoo.io.limits import MAX_PIXELS
from anatozoo.io.untrusted import check_inflation
from anatozoo.io.writers import write_bytes
from anatozoo.organs import LUNGS_HEART
from anatozoo.text import cell, from_cell

if TYPE_CHECKING:
    import pandas as pd

ID_COLUMNS = ("image_id", "dicom_id", "Path", "Image Index", "ImageID")
"""Columns in which the data sets of CheXmask name an image."""
MASK_COLUMNS = {"Right Lung": "lung_right", "Left Lung": "lung_left", "Heart": "heart"}
LANDMARKS_COLUMN = "Landmarks"
RCA_COLUMNS = {"Dice RCA (Max)": "dice_rca_max", "Dice RCA (Mean)": "dice_rca_mean"}
"""Estimated quality, by Reverse Classification Accuracy: over five atlas images, mean of lungs and heart."""
_SIZE_COLUMNS = ("Width", "Height")
_ABSENT = ("", "nan")
_PUNCTUATION = str.maketrans("[](),;", "      ")


def decode_rle(text: str, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Mask (H, W) of run lengths ``start length start length ...``; an empty text is an empty mask.

    Args:
        text: whole numbers separated by blanks.
        size: (width, height) of the mask.

    Raises:
        DataError: the numbers are not runs, a run leaves the mask (was another size meant?), or the mask has
            over 2**26 pixels.
    """
    width, height = size
    if int(width) * int(height) > MAX_PIXELS:
        raise DataError(f"a mask of {width} x {height} pixels is over the limit of {MAX_PIXELS} (2**26).")
    try:
        runs = np.array(text.split(), dtype=np.float64)
    except ValueError as error:
        raise DataError(f"run lengths are whole numbers, not {text[:40]!r}.") from error
    if len(runs) % 2 or (runs != np.rint(runs)).any() or (runs < 1).any():
        raise DataError("run lengths are pairs of whole numbers above 0: start, length, start, length, ...")
    firsts, ends = runs[::2] - 1, runs[::2] - 1 + runs[1::2]
    if len(ends) and ends.max() > width * height:
        raise DataError(
            f"run lengths reach pixel {ends.max():.0f}, but {width} x {height} pixels are only "
            f"{width * height}; give the size that the masks were made for."
        )
    edges = np.zeros(width * height + 1, dtype=np.int32)
    np.add.at(edges, firsts.astype(np.int64), 1)
    np.add.at(edges, ends.astype(np.int64), -1)
    return (np.cumsum(edges[:-1], dtype=np.int32) > 0).reshape(height, width)


def encode_rle(mask: npt.NDArray[np.bool_]) -> str:
    """Run lengths of a mask (H, W) bool; an empty text for an empty mask."""
    flat = np.concatenate([[False], np.asarray(mask, dtype=bool).ravel(), [False]])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    starts, ends = edges[::2], edges[1::2]
    return " ".join(f"{start + 1} {length}" for start, length in zip(starts, ends - starts, strict=True))


@dataclass(frozen=True)
class ChexmaskRow:
    """One image of a table, nothing of it decoded yet.

    Attributes:
        size: (width, height), None where the table does not say.
        points: text of the landmarks, empty where there are none.
        runs: organ -> run lengths.
        estimates: ``dice_rca_max`` and ``dice_rca_mean`` in 0..1, where the table has them.
        exchanged: whether the table has these two in each other's place, see `exchanged_rca`.
    """

    size: tuple[int, int] | None
    points: str
    runs: Mapping[str, str]
    estimates: Mapping[str, float] = field(default_factory=dict)
    exchanged: bool = False

    def landmarks(self) -> dict[str, Points]:
        """Organ -> (N, 2) pixels; empty where the table holds none.

        Both ways of writing are understood, ``x0,y0,x1,y1,...`` and what numpy prints, ``[[x0 y0] [x1 y1]]``.

        Raises:
            DataError: the text is something else, or not the number of points of a set of chest organs.
            GeometryError: a coordinate is NaN or infinite.
        """
        if self.points.strip().lower() in _ABSENT:
            return {}
        try:
            numbers = [float(word) for word in self.points.translate(_PUNCTUATION).split()]
        except ValueError as error:
            hint = " numpy left out the middle; write all points." if "..." in self.points else ""
            raise DataError(f"landmarks {self.points[:40]!r} cannot be read: {error}.{hint}") from error
        return split_landmarks(np.array(numbers))

    def masks(self, size: tuple[int, int]) -> dict[str, npt.NDArray[np.bool_]]:
        """Organ -> (H, W) bool, for an image of `size`; an empty text is an empty mask.

        Raises:
            DataError: see `decode_rle`.
        """
        masks = {}
        for organ, text in self.runs.items():
            try:
                masks[organ] = decode_rle("" if text.strip().lower() in _ABSENT else text, size)
            except DataError as error:
                raise DataError(f"{organ}: {error}") from error
        return masks


def chexmask_row(
    size: tuple[int, int], landmarks: Mapping[str, Points], masks: Mapping[str, npt.NDArray[np.bool_]]
) -> ChexmaskRow:
    """What a table of CheXmask says about one image: whole pixels, and lungs and heart alone.

    Args:
        size: (width, height).
        landmarks: organ -> (N, 2) pixels; the table has those of all three organs or none.
        masks: organ -> (H, W) bool.
    """
    organs = tuple(organ for organ in LUNGS_HEART if organ in landmarks)
    points = ""
    if len(organs) == len(MASK_COLUMNS):
        whole = np.rint(np.concatenate([np.asarray(landmarks[organ]) for organ in organs])).astype(int)
        points = ",".join(map(str, whole.ravel()))
    runs = {organ: encode_rle(masks[organ]) for organ in MASK_COLUMNS.values() if organ in masks}
    return ChexmaskRow(size, points, runs)


def write_chexmask(path: str | os.PathLike[str], rows: Mapping[str, ChexmaskRow]) -> Path:
    """Write a table as CheXmask publishes them in the resolution of the images, without its estimates.

    Args:
        path: the file, ``.csv``.
        rows: name of the image -> its row; sizes must be known.

    Returns:
        The path.

    Raises:
        DataError: the size of an image is unknown.
        OutputError: the file cannot be written.
    """
    return write_bytes(path, b"".join(chexmask_lines(rows.items())))


def chexmask_lines(rows: Iterable[tuple[str, ChexmaskRow]], *, estimates: bool = False) -> Iterator[bytes]:
    """The lines of such a table, its header first, one after another as the rows come.

    Args:
        rows: name of an image and its row; sizes must be known.
        estimates: whether the table has the columns of the estimated quality, in the order of CheXmask.

    Raises:
        DataError: the size of an image is unknown.
    """
    estimated = dict(reversed(RCA_COLUMNS.items())) if estimates else {}
    yield _line(["ImageID", *estimated, LANDMARKS_COLUMN, *MASK_COLUMNS, *reversed(_SIZE_COLUMNS)])
    for image, row in rows:
        if row.size is None:
            raise DataError(f"the size of {image} is unknown; a table without it could not be read again.")
        width, height = row.size
        values = [row.estimates.get(name) for name in estimated.values()]
        numbers = ["" if value is None else f"{value:.6g}" for value in values]
        masks = [row.runs.get(organ, "") for organ in MASK_COLUMNS.values()]
        # Only the name is a text of others. Landmarks with a negative x first are numbers and no formula.
        yield _line([cell(image), *numbers, row.points, *masks, height, width])


def _line(fields: Sequence[object]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerow(fields)
    return text.getvalue().encode()


def is_chexmask(path: Path) -> bool:
    """Whether a CSV file, plain or gzipped, has columns of CheXmask.

    Raises:
        DataError: it cannot be read.
    """
    columns = _columns(path)
    return LANDMARKS_COLUMN in columns or any(name in columns for name in MASK_COLUMNS)


def exchanged_rca(table: pd.DataFrame, padchest: bool | None = None) -> pd.Series:
    """Rows that have the maximum and the mean of the estimated quality in each other's place.

    Padchest's table of CheXmask (``DataSubsets/Padchest.csv`` of its repository, 30 of 50 rows) has them so
    in the rows that state no size; no other table has. A row is recognised by all of these together:

    * the table names images in ``ImageID`` and has ``Dice RCA (Max)`` before ``Dice RCA (Mean)``, where every
      other table has the mean first;
    * the row's ``Height`` and ``Width`` are empty;
    * its maximum is below its mean, which cannot be.

    Args:
        table: any table; the RCA columns as numbers.
        padchest: True says that the table is of Padchest, so that the last of these is enough; False that it
            is not, and that nothing is exchanged. None recognises it.

    Returns:
        A bool for each row.
    """
    import pandas as pd

    columns = [str(name) for name in table.columns]
    highest, mean = RCA_COLUMNS
    if padchest is False or not {highest, mean} <= set(columns):
        return pd.Series(False, index=table.index)
    impossible = table[highest] < table[mean]
    if padchest:
        return impossible
    if not {"ImageID", *_SIZE_COLUMNS} <= set(columns) or columns.index(mean) < columns.index(highest):
        return pd.Series(False, index=table.index)
    unsized = table[list(_SIZE_COLUMNS)].apply(lambda cells: cells.isna() | cells.isin(_ABSENT)).all(axis=1)
    return impossible & unsized


def read_chexmask(path: Path, *, padchest: bool | None = None) -> dict[str, ChexmaskRow]:
    """Read a table of CheXmask, as published or with physicians' annotations, ``.csv`` or ``.csv.gz``.

    Args:
        path: the table.
        padchest: whether it is Padchest's, of which some rows have maximum and mean of the estimated quality
            in each other's place. They are put right, and the rows say so (`ChexmaskRow.exchanged`). None
            recognises that table, see `exchanged_rca`; every other is taken as it is.

    Returns:
        The name of each image as the table has it, in the order of the table, and its row.

    Raises:
        DataError: the file cannot be read, has none of the columns, names an image twice, or has an estimate
            that is not a number.
    """
    import pandas as pd

    columns = _columns(path)
    named = next((name for name in ID_COLUMNS if name in columns), None)
    if named is None:
        raise DataError(
            f"{str(path)!r}: no column names the images; one of {', '.join(ID_COLUMNS)} is needed, and there "
            f"are {', '.join(columns)}."
        )
    wanted = (named, LANDMARKS_COLUMN, *MASK_COLUMNS, *_SIZE_COLUMNS, *RCA_COLUMNS)
    check_inflation(path, DataError)
    try:
        table = pd.read_csv(
            path,
            usecols=[stored for name, stored in columns.items() if name in wanted],
            dtype=str,
            keep_default_na=False,
        )
    except Exception as error:  # a hostile table makes the parser fail in any way it likes
        raise DataError(f"{str(path)!r} cannot be read as a table: {error}.") from error
    table = _with_numbers(table.rename(columns={stored: name for name, stored in columns.items()}), path)
    exchanged = exchanged_rca(table, padchest)
    cells = {name: table[name].tolist() for name in table.columns}
    rows: dict[str, ChexmaskRow] = {}
    for index, image in enumerate(cells[named]):
        row = {name: column[index] for name, column in cells.items()}
        image = from_cell(image)
        if image in rows:
            raise DataError(f"{str(path)!r} has two rows for {image!r}; keep one of them.")
        rows[image] = ChexmaskRow(
            _size(row),
            from_cell(row.get(LANDMARKS_COLUMN, "")),  # up to 0.1 tables wrote `'-1,2,...`
            {organ: row[name] for name, organ in MASK_COLUMNS.items() if name in row},
            _estimates(row, bool(exchanged.iloc[index])),
            bool(exchanged.iloc[index]),
        )
    if not rows:
        raise DataError(f"{str(path)!r} has no row below its header.")
    return rows


def _columns(path: Path) -> dict[str, str]:
    """Names of a table's columns, without the blanks that some of them end in, and as stored."""
    import pandas as pd

    check_inflation(path, DataError)
    try:
        header = pd.read_csv(path, nrows=0, dtype=str)
    except Exception as error:  # a hostile table makes the parser fail in any way it likes
        raise DataError(f"{str(path)!r} cannot be read as a table: {error}.") from error
    return {str(name).strip(): str(name) for name in header.columns}


def _with_numbers(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The table with its estimates as numbers, NaN where a field is empty."""
    import pandas as pd

    for name in RCA_COLUMNS:
        if name in table:
            try:
                table[name] = pd.to_numeric(table[name].where(~table[name].isin(_ABSENT)))
            except ValueError as error:
                raise DataError(f"{str(path)!r}: the column {name} holds no numbers: {error}.") from error
    return table


def _estimates(row: Mapping[str, float], exchanged: bool) -> dict[str, float]:
    stored = {name: row[column] for column, name in RCA_COLUMNS.items() if column in row}
    found = dict(zip(stored, reversed(stored.values()), strict=True)) if exchanged else stored
    return {name: value for name, value in found.items() if not math.isnan(value)}


def _size(row: Mapping[str, str]) -> tuple[int, int] | None:
    try:
        width, height = (float(row.get(name, "") or "nan") for name in _SIZE_COLUMNS)
    except ValueError:
        return None
    if not (width.is_integer() and height.is_integer() and min(width, height) >= 1):
        return None
    return int(width), int(height)

"""Read the tables that users have: CSV as spreadsheets, databases and programs of all countries write it.

One loader for every table that a person may have edited. It takes UTF-8, UTF-16 and Windows-1252, commas,
semicolons and tabs, a first line ``sep=;``, decimal commas, blank rows, empty columns at the end and line
breaks in quotes. What it had to assume or pass over is said in `TextTable.remarks`, one sentence each.
"""

from __future__ import annotations

import csv
import gc
import gzip
import io
import itertools
import os
import re
import unicodedata
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from anatozoo.errors import DataError
from anatozoo.io.cells import comma_is_decimal, numbers
from anatozoo.io.limits import MAX_FILE_BYTES
from anatozoo.io.untrusted import check_inflation
from anatozoo.text import from_cell

if TYPE_CHECKING:
    import pandas as pd

SEPARATORS = (",", ";", "\t")
_MAX_BYTES = MAX_FILE_BYTES
_SAMPLE_ROWS = 50
_LONGEST_FIELD = 2**27
_SEP_LINE = re.compile(r"\s*\"?sep=(.)\"?[\s,;]*", re.IGNORECASE)
_BOMS = ((b"\xff\xfe\0\0", "utf-32"), (b"\0\0\xfe\xff", "utf-32"), (b"\xef\xbb\xbf", "utf-8-sig"))
_WIDE_BOMS = (b"\xff\xfe", b"\xfe\xff")
_OTHER_FILES = (
    (b"PK\x03\x04", "an Excel workbook or another zip archive"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook"),
    (b"PAR1", "a Parquet file"),
    (b"SQLite format 3", "a data base"),
    (b"%PDF", "a PDF"),
)
# What a spreadsheet writes to keep a text a text: ="0007".
_QUOTED_FORMULA = re.compile(r'="([^"]*)"')
_INVISIBLE = dict.fromkeys(map(ord, "\ufeff\u200b\u200c\u200d\u2060\u00ad"))


@dataclass(frozen=True)
class TextTable:
    """A table as text.

    Attributes:
        header: names of the columns, without blanks around them; of no two the same.
        rows: cells of each row, as many as there are columns, blanks around them removed.
        lines: the line of the file in which each row begins, the first line being 1.
        remarks: what was taken for granted or passed over, one sentence each.
        separator: what stands between the fields of the file.
        name: name of the file.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]
    remarks: tuple[str, ...] = ()
    separator: str = ","
    name: str = "the table"

    def records(self) -> list[dict[str, str]]:
        """The rows as column -> cell."""
        return [dict(zip(self.header, row, strict=True)) for row in self.rows]

    def frame(self, texts: Collection[str] = ()) -> pd.DataFrame:
        """The rows with numbers as numbers: a column in which every cell that says something is one.

        Empty cells are NaN. Digits with a leading zero, or of more than 18 places, are names: their column
        stays text. Commas are decimal commas where no column has decimal points.

        Args:
            texts: columns that stay text whatever they hold, such as those that name images.

        Raises:
            DataError: commas separate the fields, and those in numbers may be decimal commas or thousands.
        """
        import numpy as np
        import pandas as pd

        comma, _ = self._commas(texts)
        # PyArrow, which pandas takes where it finds it, refuses names of files that are not UTF-8.
        text = pd.StringDtype("python", na_value=np.nan)
        made: dict[str, object] = {}
        for name, cells in self._columns().items():
            found = None if name in texts else numbers(cells, comma=comma)
            if found is None:
                made[name] = pd.Series([cell if cell else np.nan for cell in cells], dtype=text)
            else:
                made[name] = found
        return pd.DataFrame(made)

    def remarks_of_frame(self, texts: Collection[str] = ()) -> tuple[str, ...]:
        """The remarks, with what `frame` takes for granted of numbers.

        Raises:
            DataError: as `frame`.
        """
        return self.remarks + tuple(f"{self.name}: {remark}" for remark in self._commas(texts)[1])

    def _columns(self) -> dict[str, tuple[str, ...]]:
        return dict(zip(self.header, zip(*self.rows, strict=True), strict=True))

    def _commas(self, texts: Collection[str]) -> tuple[bool, tuple[str, ...]]:
        columns = {name: cells for name, cells in self._columns().items() if name not in texts}
        return comma_is_decimal(columns, self.separator, repr(self.name))


@dataclass(frozen=True)
class Records:
    """The records of a file before anything is known of its header.

    Attributes:
        records: the line in which each begins, the first being 1, and its fields; without blank ones, and
            without columns at the end that are empty in all.
        remarks: as in `TextTable`, without the name of the file.
        separator: what stands between fields.
    """

    records: tuple[tuple[int, list[str]], ...]
    remarks: tuple[str, ...]
    separator: str


def read_records(path: str | os.PathLike[str]) -> Records:
    """Read the records of a CSV file, plain or gzipped, whatever its encoding and its separator.

    Raises:
        DataError: no such file, no text, or quotes that do not close.
    """
    file, remarks, blank = Path(path), list[str](), 0
    label = repr(str(file))
    text = _decode(_bytes_of(file, label), label, remarks)
    separator, skipped = _separator(text, label)
    records = []
    for line, fields in _records(text, separator, skipped, label):
        if any(map(str.strip, fields)):
            records.append((line, fields))
        else:
            blank += 1
    # Columns that are empty from the header to the last row, as spreadsheets leave them at the end.
    width = 1
    for _, fields in records:
        last = len(fields)
        while last > width and not fields[last - 1].strip():
            last -= 1
        width = max(width, last)
    records = [(line, fields[:width]) for line, fields in records]
    if blank:
        remarks.append(f"blank rows passed over: {blank}.")
    return Records(tuple(records), tuple(remarks), separator)


@contextmanager
def uncollected() -> Iterator[None]:
    """Make millions of cells without the search for cycles that doubles its time; they have none."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


@uncollected()
def read_text_table(path: str | os.PathLike[str]) -> TextTable:
    """Read a table, every cell as text.

    Args:
        path: a CSV file, plain or gzipped.

    Raises:
        DataError: no such file, no text, no row, a row with more fields than the header, or two columns of
            one name that differ.
    """
    file, label = Path(path), repr(str(path))
    found = read_records(file)
    if not found.records:
        raise DataError(f"{label} cannot be read as a table: it is empty; a table has a header and rows.")
    remarks = list(found.remarks)
    (_, first), *others = found.records
    header = [name.strip() for name in first]
    while not header[-1]:
        header.pop()
    rows, short = [], 0
    for line, fields in others:
        # Tables of this package spell some texts as cells, see `anatozoo.text`.
        cells = [from_cell(cell.strip()) for cell in fields]
        while len(cells) > len(header) and not cells[-1]:
            cells.pop()
        if len(cells) > len(header):
            raise DataError(
                f"{label}: line {line} has {len(cells)} fields below a header of {len(header)}; name the "
                "missing column, or put a text that holds the separator in quotes."
            )
        if "\0" in "".join(cells):
            raise DataError(
                f"{label} cannot be read as a table: line {line} holds zero bytes and is not text."
            )
        short += len(cells) < len(header)
        rows.append(cells + [""] * (len(header) - len(cells)))
    if not rows:
        raise DataError(f"{label} has no row below its header.")
    if short:
        remarks.append(f"rows with fewer fields than the header; what they lack was taken as empty: {short}.")
    names, columns = _named(header, list(zip(*rows, strict=True)), label, remarks)
    lines = tuple(line for line, _ in others)
    return TextTable(
        names,
        tuple(zip(*columns, strict=True)),
        lines,
        tuple(f"{file.name}: {remark}" for remark in remarks),
        found.separator,
        file.name,
    )


def composed(name: str) -> str:
    """A name with its accents in one way (NFC), for macOS writes them in another into the names of files."""
    return unicodedata.normalize("NFC", name)


def clean(text: str) -> str:
    """A name as it is compared: composed (NFC), without invisible characters and blanks around it."""
    if not text.isascii():
        text = composed(text).translate(_INVISIBLE)
    text = " ".join(text.split())
    quoted = _QUOTED_FORMULA.fullmatch(text) if text.startswith("=") else None
    return quoted[1].strip() if quoted else text


def _bytes_of(path: Path, label: str) -> bytes:
    try:
        if not path.is_file():
            why = (
                "is a folder"
                if path.is_dir()
                else "there is no such file"
                if not path.exists()
                else "no file"
            )
            raise DataError(f"{label} cannot be read as a table: {why}; check the path.")
        check_inflation(path)
        with path.open("rb") as file:
            zipped = file.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if zipped else path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{label} cannot be read as a table: {error}.") from error
    if len(data) > _MAX_BYTES:
        raise DataError(
            f"{label} has over {_MAX_BYTES} bytes of text; at most 1 GiB (2**30 bytes) is read. Split it, or "
            "keep fewer columns."
        )
    return data


def _decode(data: bytes, label: str, remarks: list[str]) -> str:
    for magic, what in _OTHER_FILES:
        if data.startswith(magic):
            raise DataError(
                f"{label} cannot be read as a table: it is {what}; save the sheet as 'CSV UTF-8' first."
            )
    encoding = next((name for bom, name in _BOMS if data.startswith(bom)), None)
    head = data[:4096]
    if encoding is None and data.startswith(_WIDE_BOMS):
        encoding = "utf-16"
    elif encoding is None and b"\0" in head:
        # UTF-16 without its mark: of Latin text every other byte is zero.
        even, odd = head[::2].count(0), head[1::2].count(0)
        if max(even, odd) * 4 >= len(head):
            encoding = "utf-16-be" if even > odd else "utf-16-le"
    try:
        text = data.decode(encoding or "utf-8")
        if encoding not in (None, "utf-8-sig"):
            remarks.append(f"read as {encoding.upper()}.")
    except UnicodeDecodeError as error:
        if encoding is not None:
            raise DataError(
                f"{label} cannot be read as a table: it is not {encoding.upper()} ({error.reason})."
            ) from error
        text = _decode_old(data, label, remarks)
    return text


def _decode_old(data: bytes, label: str, remarks: list[str]) -> str:
    """Text that is not UTF-8: Windows-1252, or UTF-8 with the names of files that are none."""
    kept = data.decode("utf-8", errors="surrogateescape")
    strange = sum("\udc80" <= letter <= "\udcff" for letter in kept)
    if strange < sum(letter > "\x7f" for letter in kept) - strange:
        remarks.append(f"bytes that are not UTF-8, in an else good text, were kept as they are: {strange}.")
        return kept
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{label} cannot be read as a table: it is neither UTF-8 nor Windows-1252; save it "
            "as 'CSV UTF-8'."
        ) from error
    remarks.append("not UTF-8, so it was read as Windows-1252; save it as 'CSV UTF-8' if names look wrong.")
    return text


def _separator(text: str, label: str) -> tuple[str, int]:
    """What stands between fields, and how many lines come before the table."""
    end = text.find("\n") + 1 or len(text)
    stated = _SEP_LINE.fullmatch(text[:end].strip("\r\n"))
    if stated:
        if stated[1] not in SEPARATORS:
            raise DataError(f"{label} begins with sep={stated[1]}; a comma, a semicolon or a tab separates.")
        return stated[1], 1
    scores = {}
    for separator in SEPARATORS:
        try:
            records = itertools.islice(_records(text, separator, 0, label), _SAMPLE_ROWS)
            sample = [fields for _, fields in records if any(map(str.strip, fields))]
        except DataError:
            continue  # quotes tell that it is another; if none fits, reading says what is wrong
        width = len(sample[0]) if sample else 0
        if width > 1:
            # Rows may end early, or in empty columns: what speaks against a separator are more fields.
            fit = sum(len(fields) > 1 and not any(map(str.strip, fields[width:])) for fields in sample)
            scores[separator] = (fit / len(sample), width)
    return max(scores, key=scores.__getitem__, default=SEPARATORS[0]), 0


def _records(text: str, separator: str, skipped: int, label: str) -> Iterator[tuple[int, list[str]]]:
    """The line in which each record begins, and its fields."""
    source = io.StringIO(text, newline="")
    for _ in range(skipped):
        source.readline()
    # A mask as run lengths is longer than what the csv module takes by itself.
    csv.field_size_limit(_LONGEST_FIELD)
    reader = csv.reader(source, delimiter=separator, strict=True)
    line = 0
    try:
        for fields in reader:
            yield line + skipped + 1, fields
            line = reader.line_num
    except csv.Error as error:
        raise DataError(
            f"{label} is not a CSV file: line {line + skipped + 1}: {error}; look at its quotes."
        ) from error


def _named(
    header: Sequence[str], columns: Sequence[tuple[str, ...]], label: str, remarks: list[str]
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Columns with different names; one that is there twice stays once, an empty one without a name goes."""
    kept: dict[str, tuple[str, ...]] = {}
    for index, (written, cells) in enumerate(zip(header, columns, strict=True)):
        name = clean(written)
        if not name and not any(cells):
            continue
        name = name or f"Unnamed: {index}"
        if kept.setdefault(name, cells) == cells:
            if kept[name] is not cells:
                remarks.append(f"the column {name} is there twice with the same values; it was taken once.")
            continue
        line = next(i for i, (a, b) in enumerate(zip(kept[name], cells, strict=True)) if a != b)
        raise DataError(
            f"{label} has two columns {name}, which differ, as {kept[name][line]!r} and {cells[line]!r} in "
            f"row {line + 1}; give one of them another name."
        )
    return tuple(kept), list(kept.values())

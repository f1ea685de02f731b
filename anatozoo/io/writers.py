"""Write files so that a final name always holds a whole file, whatever interrupts the program.

Everything goes to a temporary name in the same folder first and is then renamed, which is atomic.
"""

from __future__ import annotations

import csv
import errno
import gzip
import io
import json
import os
import stat
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage

from anatozoo.errors import ConfigError, GeometryError, OutputError
from anatozoo.text import cell, printable

TEMPORARY_PREFIX = ".anatozoo-tmp-"
FULL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

_NIFTI_HEADER_BYTES, _NIFTI_UNITS_AT = 352, 123


def explain(error: OSError, path: Path) -> str:
    """A sentence on why `path` could not be written, and what to do."""
    start = f"{str(path)!r} cannot be written: "
    if error.errno in FULL_DISK:
        return f"{start}the disk or quota is full. Free some space or choose another folder."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{start}no permission. Choose a folder that you may write to."
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return f"{start}a part of the path is a file, not a folder. Choose another folder."
    if error.errno == errno.EISDIR:
        return f"{start}a folder has this name. Rename it or choose another folder."
    return f"{start}{error.strerror or error}. Choose another folder or name."


def checked_stem(stem: str) -> str:
    """The start of a file name, as it is.

    Raises:
        ConfigError: it is empty, or names a folder too.
    """
    if not stem or stem != Path(stem).name:
        raise ConfigError(f"stem {stem!r} must be the start of a file name, without a folder.")
    return stem


def make_folder(folder: str | os.PathLike[str]) -> Path:
    """Create a folder with its parents unless it exists.

    Raises:
        OutputError: it cannot be created, or a file has its name.
    """
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(explain(error, path)) from error
    return path


def check_plain(path: str | os.PathLike[str]) -> Path:
    """A path that a file may be renamed to: there is nothing, or a file; a folder is refused by the system.

    Raises:
        OutputError: it is a device, a pipe, a socket, or a name that the system has for one.
    """
    final = Path(path)
    try:
        mode = final.stat().st_mode
    except (OSError, ValueError):
        return final  # nothing that could be replaced, or writing says why not
    # Links such as /dev/stdout may lead to a file, and are the system's all the same.
    systems = final.is_symlink() and final.absolute().parts[1:2] in (("dev",), ("proc",))
    if systems or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OutputError(
            f"{str(path)!r} cannot be written: it is a device, a pipe or a link of the system, no file. "
            "Choose the name of a file."
        )
    return final


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside `path`, which replaces `path` when the block ends without an error.

    The temporary name keeps the suffix, for writers that choose the format by it. The folder is created.

    Raises:
        OutputError: `path` is a device, pipe or the like, which must not be replaced, or writing or renaming
            failed; the temporary file is gone and `path` is as it was.
    """
    final = check_plain(path)
    temporary = make_folder(final.parent) / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}{final.suffix}"
    try:
        yield temporary
        os.replace(temporary, final)
    except OSError as error:
        raise OutputError(explain(error, final)) from error
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of writers that were killed; only where no other writer is at work.

    Raises:
        OutputError: one cannot be removed.
    """
    for leftover in folder.glob(f"{TEMPORARY_PREFIX}*"):
        try:
            leftover.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(explain(error, leftover)) from error


def write_bytes(path: str | os.PathLike[str], content: bytes) -> Path:
    """Write bytes atomically.

    Raises:
        OutputError: the file cannot be written.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    return Path(path)


def write_json(path: str | os.PathLike[str], value: Any) -> Path:
    """Write strict JSON (UTF-8, no NaN or infinity), indented, with short number lists on one line.

    Raises:
        OutputError: the file cannot be written.
        ValueError: `value` holds NaN, infinity or something that JSON cannot hold.
    """
    return write_bytes(path, (_json_text(value) + "\n").encode())


def write_csv(path: str | os.PathLike[str], header: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
    """Write a CSV table atomically: UTF-8, comma, quoted where needed; None becomes an empty field.

    Raises:
        OutputError: the file cannot be written.
    """
    return write_bytes(path, csv_text([header, *rows]))


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Write a text atomically: UTF-8, what would command a terminal made visible.

    Raises:
        OutputError: the file cannot be written.
    """
    return write_bytes(path, printable(text).encode())


def csv_text(rows: Iterable[Sequence[object]]) -> bytes:
    """Rows as CSV, texts as `anatozoo.text.cell` makes them safe for terminals and spreadsheets."""
    text = io.StringIO(newline="")
    lines = ([cell(field) if isinstance(field, str) else field for field in row] for row in rows)
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue().encode()


def write_label_png(
    path: str | os.PathLike[str], labels: npt.NDArray[np.uint8], palette: Sequence[int]
) -> Path:
    """Write a label map ``(H, W)`` uint8 as a palette PNG.

    It looks coloured and reads back as labels: ``np.array(PIL.Image.open(path))``.

    Args:
        path: the file.
        labels: labels, 0 for background.
        palette: red, green and blue (0..255) of label 0, of label 1 and so on.

    Raises:
        OutputError: the file cannot be written.
    """
    picture = PILImage.fromarray(labels).copy()
    picture.putpalette(list(palette))
    with atomic_path(path) as temporary:
        picture.save(temporary, format="PNG", optimize=False)
    return Path(path)


def write_volume(
    path: str | os.PathLike[str], labels: npt.NDArray[Any], spacing_mm: tuple[float, float] | None
) -> Path:
    """Write a map ``(H, W)``, such as labels, as 2-D NIfTI (``.nii``, ``.nii.gz``) or MetaImage (``.mha``).

    Where the spacing is unknown, NIfTI says so by its unit code "unknown" (0) beside a voxel size of 1.

    Args:
        path: the file; its suffix chooses the format.
        labels: the map.
        spacing_mm: ``(x, y)`` millimetres per pixel, or None.

    Raises:
        GeometryError: MetaImage without a spacing, which this format cannot express.
        OutputError: the file cannot be written.
    """
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(labels)
    if spacing_mm is not None:
        image.SetSpacing([float(value) for value in spacing_mm])
    return write_itk(path, image, units_known=spacing_mm is not None)


def write_itk(path: str | os.PathLike[str], image: Any, *, units_known: bool) -> Path:
    """Write a SimpleITK image as NIfTI (``.nii``, ``.nii.gz``) or MetaImage (``.mha``).

    Args:
        path: the file; its suffix chooses the format.
        image: the image.
        units_known: whether its spacing is in millimetres. If not, NIfTI says so by its unit code 0.

    Raises:
        GeometryError: MetaImage without known units, which this format cannot express.
        OutputError: the file cannot be written.
    """
    import SimpleITK as sitk

    final = Path(path)
    name = final.name.lower()
    suffix = ".mha" if name.endswith(".mha") else ".nii"
    if suffix == ".mha" and not units_known:
        raise GeometryError(
            "MetaImage cannot say that the spacing is unknown, and 1 mm is never assumed; "
            "give the spacing (--spacing-mm on the command line) or write NIfTI."
        )
    # ITK only writes to disk, so by way of a temporary file.
    temporary = make_folder(final.parent) / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}{suffix}"
    try:
        sitk.WriteImage(image, str(temporary))
        content = temporary.read_bytes()
    except RuntimeError as error:
        # ITK's own words name source files of its build, so they are left to the chained error.
        raise OutputError(
            f"{str(final)!r} cannot be written. Make room, or choose another folder."
        ) from error
    except OSError as error:
        raise OutputError(explain(error, final)) from error
    finally:
        temporary.unlink(missing_ok=True)
    # ITK's writers do not report a disk that fills up; a short file does.
    values = (
        image.GetNumberOfPixels() * image.GetNumberOfComponentsPerPixel() * image.GetSizeOfPixelComponent()
    )
    if len(content) < values + (_NIFTI_HEADER_BYTES if suffix == ".nii" else 0):
        raise OutputError(explain(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), final))
    if suffix == ".nii" and not units_known:
        content = content[:_NIFTI_UNITS_AT] + b"\0" + content[_NIFTI_UNITS_AT + 1 :]
    return write_bytes(final, gzip.compress(content, mtime=0) if name.endswith(".gz") else content)


def _json_text(value: Any, indent: str = "") -> str:
    """JSON with two blanks a level, but lists of numbers (such as a point) on one line."""
    inner = indent + "  "
    if isinstance(value, dict) and value:
        items = [f"{inner}{json.dumps(str(k))}: {_json_text(v, inner)}" for k, v in value.items()]
        return "{\n" + ",\n".join(items) + f"\n{indent}}}"
    if isinstance(value, list | tuple) and any(isinstance(item, dict | list | tuple) for item in value):
        return "[\n" + ",\n".join(inner + _json_text(item, inner) for item in value) + f"\n{indent}]"
    return json.dumps(value, allow_nan=False)

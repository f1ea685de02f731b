"""Values of files and objects as they are stored, with their grid where it is known."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from anatozoo.errors import GeometryError, ImageError
from anatozoo.io.arrays import array_of_tensor, is_a, unreadable
from anatozoo.io.decoded import check_largest
from anatozoo.io.files import damaged, is_dicom
from anatozoo.io.grid import Grid, grid_of_itk
from anatozoo.io.memory import on_disk
from anatozoo.io.untrusted import open_regular

if TYPE_CHECKING:
    from anatozoo.io.dicom_source import DicomSource


def _is_volume_path(path: Path) -> bool:
    from anatozoo.io.volumes import is_volume

    with open_regular(path) as file:
        return is_volume(file.read(512), path)


def place_2d(x: Any) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Origin and direction, where the source is two-dimensional and has them."""
    if is_a(x, "SimpleITK", "Image"):
        return (x.GetOrigin(), x.GetDirection()) if x.GetDimension() == 2 else (None, None)
    if isinstance(x, str | os.PathLike) and _is_volume_path(Path(os.fsdecode(x))):
        from anatozoo.io.volumes import read_itk

        header = read_itk(Path(os.fsdecode(x)), repr(os.fsdecode(x)), values=False)
        if len(header.size) == 2:
            return header.origin, header.direction
    return None, None


def read_raw(x: Any) -> tuple[str, Any, Grid | None]:
    """Name, values as stored and, where it is known, the grid of anything."""
    import PIL.Image

    with on_disk(x) as (given, name):
        if name is not None:
            return repr(name), *read_raw(given)[1:]
    if isinstance(x, str | os.PathLike):
        path = Path(os.fsdecode(x))
        if _is_volume_path(path):
            return _read_volume_file(path)
        if is_dicom(path):
            raise ImageError(
                f"{str(path)!r} is DICOM, which label maps are not read from; save it as PNG or NIfTI."
            )
        return repr(str(path)), _read_picture_values(path), None
    if is_a(x, "SimpleITK", "Image"):
        import SimpleITK as sitk

        if x.GetNumberOfComponentsPerPixel() != 1:
            raise ImageError("an image with one value per pixel is needed, not a vector or colour image.")
        return "the SimpleITK image", sitk.GetArrayFromImage(x), grid_of_itk(x)
    if isinstance(x, PIL.Image.Image):
        return "the PIL image", _picture_values(x), None
    if is_a(x, "torch", "Tensor"):
        return "the tensor", array_of_tensor(x), None
    if isinstance(x, np.ndarray):
        return "the array", x, None
    raise unreadable(x)


def _read_volume_file(path: Path) -> tuple[str, Any, Grid | None]:
    """Name, values and grid of a file that ITK reads."""
    from anatozoo.io.volumes import read_itk

    label = repr(str(path))
    read = read_itk(path, label)
    if read.channels != 1:
        raise ImageError(
            f"{label}: an image with one value per pixel is needed, not a vector or colour image."
        )
    if len(read.size) not in (2, 3):
        return label, read.values, None
    axes = range(len(read.size))
    spacing, remarks = read.spacing_of(axes), read.remarks(axes)
    # Steps without a unit are told from others without a unit, even where they are not believed.
    stored = None if read.nifti is None or read.nifti.space.has_unit else read.spacing
    placed = read.nifti is None or read.nifti.space.has_place
    origin, direction = (read.origin, read.direction) if placed else (None, None)
    try:
        return label, read.values, Grid(read.size, spacing, origin, direction, stored, remarks)
    except GeometryError as error:
        raise ImageError(f"{label} is damaged: {error} Copy or export it again.") from error


def _read_picture_values(path: Path) -> npt.NDArray[Any]:
    """Values of a picture file, as stored; indices of a palette."""
    import PIL

    from anatozoo.io.files import open_picture

    label = repr(str(path))
    try:
        with open_picture(path, label) as picture:
            check_largest(*picture.size, label)
            return _picture_values(picture)
    except PIL.UnidentifiedImageError as error:
        raise ImageError(
            f"{label} is a TIFF of a kind that cannot be read; save it with 8 or 16 bits."
        ) from error


def read_raw_volume(x: Any) -> tuple[str, Any, Grid | None, tuple[str, ...], DicomSource | None]:
    """The same of what may be a volume, also DICOM, of which a single slice is (H, W); flags and source."""
    if not isinstance(x, str | os.PathLike):
        return *read_raw(x), (), None
    path = Path(os.fsdecode(x))
    if not path.is_dir() and not is_dicom(path):
        return *read_raw(x), (), None
    # pydicom takes a while to import.
    from anatozoo.io.dicom_volume import read_dicom_volume

    with damaged(repr(str(path))):
        name, values, grid, flags, source = read_dicom_volume(path)
    return name, values[0] if len(values) == 1 else values, grid, flags, source


def _picture_values(picture: Any) -> npt.NDArray[Any]:
    """Values of a picture; of a colour picture whose channels agree, one of them, without its alpha."""
    values = np.asarray(picture)
    if values.ndim == 3:
        colours = values[..., : 1 if values.shape[2] == 2 else 3]
        if (colours == colours[..., :1]).all():
            return colours[..., 0]
    return values

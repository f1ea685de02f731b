"""Write displacement fields and volumes through ITK, atomically and with their place in space."""

from __future__ import annotations

import errno
import gzip
import os
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from anatozoo.errors import GeometryError, OutputError
from anatozoo.io.grid import Grid
from anatozoo.io.writers import TEMPORARY_PREFIX, explain, make_folder, write_bytes

_UNITS_AT = 123  # xyzt_units in a NIfTI-1 header; 0 says that the unit of length is unknown


def itk_image(values: npt.NDArray[Any], grid: Grid, *, vector: bool = False) -> Any:
    """A SimpleITK image of an array on a grid.

    Args:
        values: ``(*shape)``, or ``(*shape, n)`` with `vector`.
        grid: where it lies; where the spacing is unknown, ITK's 1.
        vector: whether the last axis holds the components of vectors.
    """
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.ascontiguousarray(values), isVector=vector)
    if grid.spacing_mm is not None:
        image.SetSpacing(grid.spacing_mm)
    if grid.origin is not None:
        image.SetOrigin(grid.origin)
    if grid.direction is not None:
        image.SetDirection(grid.direction)
    return image


def write_itk(path: str | os.PathLike[str], image: Any, *, units_known: bool) -> Path:
    """Write a SimpleITK image as NIfTI (``.nii``, ``.nii.gz``) or MetaImage (``.mha``), atomically.

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
            "MetaImage cannot say that the spacing is unknown, and 1 mm is never assumed; give the spacing "
            "of both images or write NIfTI."
        )
    temporary = make_folder(final.parent) / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}{suffix}"
    try:
        sitk.WriteImage(image, str(temporary))
        content = temporary.read_bytes()
    except (RuntimeError, OSError) as error:
        raise OutputError(f"{str(final)!r} cannot be written: {error}. Choose another folder.") from error
    finally:
        temporary.unlink(missing_ok=True)
    # ITK's writers do not report a disk that fills up; a short file does.
    values = (
        image.GetNumberOfPixels() * image.GetNumberOfComponentsPerPixel() * image.GetSizeOfPixelComponent()
    )
    if len(content) < values:
        raise OutputError(explain(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), final))
    if suffix == ".nii" and not units_known:
        content = content[:_UNITS_AT] + b"\0" + content[_UNITS_AT + 1 :]
    return write_bytes(final, gzip.compress(content, mtime=0) if name.endswith(".gz") else content)

"""Decode images that are already in memory: arrays, tensors, PIL and SimpleITK images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage

from anatozoo.errors import ImageError
from anatozoo.io.decoded import Decoded, grey_plane, valid_spacing
from anatozoo.io.pictures import decode_picture

_LABEL = "the array"
COLOUR_CHANNELS = (1, 3, 4)


def decode_object(x: Any) -> Decoded:
    """Decode an ndarray, torch tensor, PIL or SimpleITK image.

    Raises:
        ImageError: the type is unknown or the shape is not that of one image.
    """
    if isinstance(x, PILImage.Image):
        return decode_picture(x, "the PIL image")
    if is_a(x, "torch", "Tensor"):
        return _decode_array(array_of_tensor(x))
    if is_a(x, "SimpleITK", "Image"):
        return decode_itk(x, "the SimpleITK image")
    if isinstance(x, np.ma.MaskedArray):
        return _decode_array(np.ma.filled(x.astype(np.float64), np.nan))
    if isinstance(x, np.ndarray):
        return _decode_array(x)
    raise unreadable(x)


def is_a(x: Any, package: str, name: str) -> bool:
    """Whether an object is of a class, by name: the package is not imported to learn that it is not its."""
    return any((cls.__module__.split(".")[0], cls.__name__) == (package, name) for cls in type(x).__mro__)


def unreadable(x: Any) -> ImageError:
    """What to say of an object that holds no image."""
    return ImageError(
        f"an image cannot be read from {type(x).__name__}; give a path, bytes, a binary file object, a "
        "pydicom data set, a numpy array, a torch tensor, a PIL image or a SimpleITK image."
    )


def array_of_tensor(tensor: Any) -> npt.NDArray[Any]:
    """Values of a torch tensor on any device; bfloat16, which numpy does not have, as float32."""
    tensor = tensor.detach().cpu()
    return np.asarray((tensor.float() if tensor.is_floating_point() else tensor).numpy())


def slice_axes(size: Sequence[int], label: str) -> tuple[int, int]:
    """Find which axes of an ITK image are the columns and rows of its only slice.

    Raises:
        ImageError: there is more than one slice, or no slice but a single row.
    """
    if len(size) < 2:
        raise ImageError(f"{label} is a row of {size[0]} values; an X-ray has rows and columns.")
    long = [axis for axis, length in enumerate(size) if length > 1]
    if len(long) > 2:
        raise ImageError(
            f"{label} is a volume of {' x '.join(map(str, size))} voxels, but one X-ray is needed; save a "
            "single slice or projection as a 2-D image."
        )
    return (long[0], long[1]) if len(long) == 2 else (0, 1)


def decode_itk(image: Any, label: str) -> Decoded:
    """Decode a SimpleITK image of one slice, its rows and columns as ITK shows them.

    Raises:
        ImageError: there is more than one slice, or a number of channels that is not a colour.
    """
    import SimpleITK as sitk

    size, spacing = image.GetSize(), image.GetSpacing()
    columns, rows = slice_axes(size, label)
    channels = image.GetNumberOfComponentsPerPixel()
    if channels not in COLOUR_CHANNELS:
        raise ImageError(f"{label} has {channels} values per pixel; grey, RGB or RGBA is needed.")
    array = sitk.GetArrayFromImage(image).reshape(size[rows], size[columns], channels)
    pixels, flags = grey_plane(array, label)
    return Decoded(pixels, valid_spacing((spacing[columns], spacing[rows])), flags=flags)


def _decode_array(array: npt.NDArray[Any]) -> Decoded:
    while array.ndim > 2 and array.shape[0] == 1:
        array = array[0]
    if array.ndim == 3 and array.shape[2] not in COLOUR_CHANNELS and array.shape[0] in COLOUR_CHANNELS:
        array = np.moveaxis(array, 0, -1)
    if array.ndim != 2 and not (array.ndim == 3 and array.shape[2] in COLOUR_CHANNELS):
        raise ImageError(
            f"an array of shape {array.shape} is not one image; give (H, W), (H, W, 3) or (1, H, W), and "
            "several images one by one to predict_batch."
        )
    pixels, flags = grey_plane(array, _LABEL)
    return Decoded(pixels, flags=flags)

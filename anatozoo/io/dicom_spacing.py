"""How large, and how high for its width, a pixel of a DICOM image is.

::

    | question | believed | else | flag |
    |---|---|---|---|
    | which spacing | PixelSpacing; else ImagerPixelSpacing, else NominalScannedPixelSpacing, both at the detector or film and divided by the magnification: the first that is two positive numbers | none | |
    | EstimatedRadiographicMagnificationFactor | 1 to 2 | not divided | `magnification_ignored` |
    | PixelSpacing beside ImagerPixelSpacing | up to 2 % larger (rounding) to half as large (magnification), the same factor to 2 % in both directions | PixelSpacing all the same | `spacing_inconsistent` |
    | size of the field | longer side from 5 mm to 1 m | kept | `spacing_implausible` |
    | height over width of a pixel | of the spacing, else of PixelAspectRatio; 1/4 to 4, and 1 where within 0.1 % of it | square | `pixel_aspect_ignored` |
    | PixelAspectRatio beside a spacing | the same to 2 % | of the spacing | `pixel_aspect_ignored` |

An image whose pixels are not square is flagged `non_square_pixels`: networks see it with its proportions.
"""  # noqa: E501  # rows of a table are lines

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from anatozoo.io.decoded import height_over_width, valid_spacing
from anatozoo.io.dicom_header import values_of

Pair = tuple[float, float]

_AT_DETECTOR = ("ImagerPixelSpacing", "NominalScannedPixelSpacing")
_LEAST_MAGNIFICATION, _MOST_MAGNIFICATION = 1.0, 2.0
_ROUNDING = 0.02
_SMALLEST_FIELD_MM, _LARGEST_FIELD_MM = 5.0, 1000.0


@dataclass(frozen=True)
class PixelSize:
    """What a header says about the size of a pixel.

    Attributes:
        spacing_mm: ``(x, y)``; None where unknown.
        aspect: height over width of a pixel, 1 where square or unknown.
        flags: what was not believed, or is in doubt.
    """

    spacing_mm: Pair | None
    aspect: float
    flags: tuple[str, ...]


def pixel_size(header: Dataset, size: tuple[int, int]) -> PixelSize:
    """Size and proportions of a radiograph's pixels.

    Args:
        header: the data set.
        size: ``(width, height)`` in pixels.
    """
    spacing, flags = _spacing_and_flags(header)
    aspect, stated = 1.0, _stated_aspect(header)
    if spacing is not None:
        aspect = height_over_width(spacing)
        ratio = spacing[1] / spacing[0]
        # The spacing's own ratio may be one that no radiograph has, or another than is stated beside it.
        if (aspect == 1.0 and not _is_near(ratio)) or (stated is not None and not _is_near(stated / ratio)):
            flags.append("pixel_aspect_ignored")
        field = max(spacing[0] * size[0], spacing[1] * size[1])
        if not _SMALLEST_FIELD_MM <= field <= _LARGEST_FIELD_MM:
            flags.append("spacing_implausible")
    elif stated is not None:
        aspect = height_over_width((1.0, stated))
        if aspect == 1.0 and not _is_near(stated):
            flags.append("pixel_aspect_ignored")
    if aspect != 1.0:
        flags.append("non_square_pixels")
    return PixelSize(spacing, aspect, tuple(flags))


def spacing_of(header: Dataset) -> Pair | None:
    """Millimetres per pixel as ``(x, y)``; DICOM itself writes row spacing, which is y, first.

    ``None`` where nothing that the header states is two positive numbers.
    """
    return _spacing_and_flags(header)[0]


def _spacing_and_flags(header: Dataset) -> tuple[Pair | None, list[str]]:
    flags: list[str] = []
    calibrated = valid_spacing(values_of(header, "PixelSpacing")[::-1])
    at_detector = next(
        (found for name in _AT_DETECTOR if (found := valid_spacing(values_of(header, name)[::-1]))), None
    )
    if calibrated is not None:
        # A nominal spacing of a film is often copied, not measured: only the detector's own contradicts.
        imager = valid_spacing(values_of(header, "ImagerPixelSpacing")[::-1])
        if imager is not None and not _agree(calibrated, imager):
            flags.append("spacing_inconsistent")
        return calibrated, flags
    factor, factor_flags = _magnification(header)
    if at_detector is None:
        return None, flags
    return (at_detector[0] / factor, at_detector[1] / factor), factor_flags


def _magnification(header: Dataset) -> tuple[float, list[str]]:
    stated = values_of(header, "EstimatedRadiographicMagnificationFactor")[:1]
    if not stated:
        return 1.0, []
    factor = valid_spacing([*stated, *stated])
    if factor is None or not _LEAST_MAGNIFICATION <= factor[0] <= _MOST_MAGNIFICATION:
        return 1.0, ["magnification_ignored"]
    return factor[0], []


def _agree(calibrated: Sequence[float], imager: Sequence[float]) -> bool:
    """Whether a magnification explains that the two differ."""
    x, y = (there / here for here, there in zip(calibrated, imager, strict=True))
    in_range = all(1 - _ROUNDING <= factor <= _MOST_MAGNIFICATION for factor in (x, y))
    return in_range and _is_near(x / y)


def _stated_aspect(header: Dataset) -> float | None:
    """Height over width of a pixel by PixelAspectRatio, whose first number is the height."""
    pair = valid_spacing(values_of(header, "PixelAspectRatio"))
    return None if pair is None else pair[0] / pair[1]


def _is_near(ratio: float) -> bool:
    return 1 - _ROUNDING <= ratio <= 1 + _ROUNDING

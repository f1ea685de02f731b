"""Write results as DICOM objects that refer to the instances they were found in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from anatozoo.errors import GeometryError
from anatozoo.results.base import Formats, Writer

if TYPE_CHECKING:
    from anatozoo.io.dicom_out.codes import Measure
    from anatozoo.io.dicom_out.gsps import Layer
    from anatozoo.io.dicom_out.reference import Reference
    from anatozoo.io.dicom_out.stamp import Maker
    from anatozoo.metrics.cardiac import CardiacFunction
    from anatozoo.results.quality import QualityResult

_CTR_COLOR = (255, 255, 255)
DICOM_FORMATS = ("dicomseg", "dicomprob", "rtstruct", "sr", "gsps")
"""The formats that refer to DICOM instances."""


def _referred(result: Any) -> tuple[Reference, Maker]:
    """What a result refers to, and who says so.

    Raises:
        GeometryError: the image was not read from DICOM, or nothing can refer to its files.
        ConfigError: highdicom is not installed.
    """
    from anatozoo.io.dicom_out.reference import read_reference
    from anatozoo.io.dicom_out.stamp import Maker, needs_highdicom

    if result.dicom is None:
        raise GeometryError(
            f"{result.image!r} was not read from DICOM, so there are no instances that a DICOM object could "
            "refer to; give the DICOM file, or save 'nifti' or 'png'."
        )
    needs_highdicom()
    reference = read_reference(result.dicom, (1, *result.mask.shape)[-3:])
    return reference, Maker(result.checkpoint, result.version, result.flags)


def _in_slices(masks: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    return {organ: mask if mask.ndim == 3 else mask[None] for organ, mask in masks.items()}


def _colors(result: Any) -> dict[str, tuple[int, int, int]]:
    from anatozoo.results.draw.style import organ_colors

    return organ_colors(result.organs)


def write_seg(result: Any, path: Path) -> Path:
    """Write the mask of each organ as a binary DICOM segmentation."""
    from anatozoo.io.dicom_out.seg import segmentation
    from anatozoo.io.writers import write_bytes

    reference, maker = _referred(result)
    return write_bytes(path, segmentation(reference, maker, _in_slices(result.masks), _colors(result)))


def write_probability(result: Any, path: Path) -> Path:
    """Write how probable each organ is, `shares`, as a fractional DICOM segmentation."""
    from anatozoo.io.dicom_out.seg import segmentation
    from anatozoo.io.writers import write_bytes

    if result.shares is None:
        raise GeometryError("this result holds no probabilities; predict with samples, or by an ensemble.")
    reference, maker = _referred(result)
    shares = _in_slices(result.shares())
    return write_bytes(path, segmentation(reference, maker, shares, _colors(result)))


def write_rtstruct(result: Any, path: Path) -> Path:
    """Write the contours of a volume's organs as an RT structure set."""
    from anatozoo.io.dicom_out.rtstruct import structure_set
    from anatozoo.io.writers import write_bytes

    reference, maker = _referred(result)
    return write_bytes(path, structure_set(reference, maker, _in_slices(result.masks), _colors(result)))


def write_sr(result: Any, path: Path) -> Path:
    """Write what was measured as a structured report."""
    from anatozoo.io.dicom_out.sr import report
    from anatozoo.io.writers import write_bytes

    reference, maker = _referred(result)
    return write_bytes(path, report(reference, maker, tuple(result.organs), measures_of(result)))


def write_gsps(result: Any, path: Path) -> Path:
    """Write the contours, and the widths of heart and thorax, as a presentation state."""
    from anatozoo.io.dicom_out.gsps import presentation
    from anatozoo.io.writers import write_bytes

    reference, maker = _referred(result)
    return write_bytes(path, presentation(reference, maker, _layers(result)))


def measures_of(result: Any) -> list[Measure]:
    """Sizes of the organs, the cardiothoracic ratio and what else the result was told, `measured`."""
    from anatozoo.io.dicom_out import codes

    is_volume = result.mask.ndim == 3
    name = codes.VOLUME if is_volume else codes.AREA
    size, unit = 1.0, codes.VOXELS if is_volume else codes.PIXELS
    if result.spacing_mm is not None:
        size = math.prod(result.spacing_mm) / (1000 if is_volume else 1)
        unit = codes.ML if is_volume else codes.MM2
    found = [
        codes.Measure(name, round(np.count_nonzero(mask) * size, 3), unit, organ)
        for organ, mask in result.masks.items()
    ]
    ratio = getattr(result, "cardiothoracic_ratio", None)
    if ratio is not None:
        found.append(codes.Measure(codes.CTR, round(ratio, 4), codes.RATIO))
        if result.spacing_mm is not None:
            for what, line in zip((codes.HEART_WIDTH, codes.THORAX_WIDTH), widths(result), strict=True):
                width = float(np.ptp(line[:, 0])) * result.spacing_mm[0]
                found.append(codes.Measure(what, round(width, 2), codes.MM))
    return [*found, *result.measured]


def quality_measures(quality: QualityResult) -> tuple[Measure, ...]:
    """The estimated Dice of each organ, with its interval where the atlas is calibrated."""
    from anatozoo.io.dicom_out import codes

    found = []
    for organ in quality.organs:
        calibrated = quality.intervals.get(organ)
        if calibrated is None:
            values = {codes.ESTIMATED_DICE: quality.best("dice", organ)}
        else:
            values = {
                codes.ESTIMATED_DICE: calibrated.dice,
                codes.DICE_LOW: calibrated.dice_low,
                codes.DICE_HIGH: calibrated.dice_high,
            }
        found += [codes.Measure(name, round(value, 4), codes.RATIO, organ) for name, value in values.items()]
    return tuple(each for each in found if math.isfinite(each.value))


def function_measures(function: CardiacFunction) -> tuple[Measure, ...]:
    """Volumes, ejection fractions and myocardial mass of a heart, for `measured` of either phase's result."""
    from anatozoo.io.dicom_out import codes

    found = []
    for name, ventricle in function.ventricles.items():
        for code, value, unit in (
            (codes.END_DIASTOLE[name], ventricle.end_diastolic_ml, codes.ML),
            (codes.END_SYSTOLE[name], ventricle.end_systolic_ml, codes.ML),
            (codes.EJECTION[name], ventricle.ejection_percent, codes.PERCENT),
        ):
            if value is not None:
                found.append(codes.Measure(code, round(value, 2), unit, name))
    if function.myocardial_mass_g is not None:
        mass = round(function.myocardial_mass_g, 2)
        found.append(codes.Measure(codes.MASS, mass, codes.GRAM, "myocardium"))
    return tuple(found)


def widths(result: Any) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Two horizontal lines (2, 2), as long as heart and thorax are wide, of a result with a ratio of both.

    Each runs from the column of the outermost point on one side to that of the other, half-way between both
    in height.
    """
    outlines = result.outlines()
    lungs = [outlines[organ] for organ in ("lungs", "lung_right", "lung_left") if organ in outlines]
    both = []
    for lines in (outlines["heart"], [line for each in lungs for line in each]):
        points = np.concatenate(lines)
        first, last = points[points[:, 0].argmin()], points[points[:, 0].argmax()]
        height = (first[1] + last[1]) / 2
        both.append(np.array([[first[0], height], [last[0], height]]))
    return both[0], both[1]


def _layers(result: Any) -> list[Layer]:
    from anatozoo.io.dicom_out.gsps import Layer
    from anatozoo.results.draw.style import mask_outlines

    colors = _colors(result)
    if result.mask.ndim == 3:
        return [
            Layer(organ, colors[organ], [mask_outlines(plane) for plane in mask])
            for organ, mask in result.masks.items()
        ]
    if not hasattr(result, "outlines"):
        return [Layer(organ, colors[organ], [mask_outlines(mask)]) for organ, mask in result.masks.items()]
    layers = [Layer(organ, colors[organ], [lines]) for organ, lines in result.outlines().items()]
    ratio = getattr(result, "cardiothoracic_ratio", None)
    if ratio is None:
        return layers
    return [*layers, Layer("CTR", _CTR_COLOR, [list(widths(result))], closed=False, text=f"CTR {ratio:.3f}")]


SEG: dict[str, Writer] = {"_seg.dcm": write_seg}
RTSTRUCT: dict[str, Writer] = {"_rtstruct.dcm": write_rtstruct}
SR: dict[str, Writer] = {"_sr.dcm": write_sr}
GSPS: dict[str, Writer] = {"_gsps.dcm": write_gsps}
PLANE = {"dicomseg": SEG, "sr": SR, "gsps": GSPS}
"""Writers for results on one image."""
VOLUME = {"dicomseg": SEG, "rtstruct": RTSTRUCT, "sr": SR, "gsps": GSPS}
"""Writers for volumes."""
PROBABILITY: dict[str, Writer] = {"_probability.dcm": write_probability}


def with_probability(formats: Formats) -> Formats:
    """The formats, and ``"dicomprob"`` of results that hold `shares`."""
    return replace(formats, writers={**formats.writers, "dicomprob": PROBABILITY})

"""Write results as DICOM objects that refer to the instances they were found in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from anatozoo.errors import GeometryError
from anatozoo.results.base import Formats, Writer

if TYPE_CHECKING:
    from anatozoo.io.dicom_out.gsps import Layer
    from anatozoo.io.dicom_out.reference import Reference
    from anatozoo.io.dicom_out.stamp import Maker

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
    found = [*result.measurements, *result.measured]
    return write_bytes(path, report(reference, maker, tuple(result.organs), found))


def write_gsps(result: Any, path: Path) -> Path:
    """Write the contours, and the widths of heart and thorax, as a presentation state."""
    from anatozoo.io.dicom_out.gsps import presentation
    from anatozoo.io.writers import write_bytes

    reference, maker = _referred(result)
    return write_bytes(path, presentation(reference, maker, _layers(result)))


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
    lines = getattr(result, "cardiothoracic_lines", None)
    if lines is None:
        return layers
    both = [np.asarray(lines.heart), np.asarray(lines.thorax)]
    return [*layers, Layer("CTR", _CTR_COLOR, [both], closed=False, text=f"CTR {lines.ratio:.3f}")]


SEG: dict[str, Writer] = {"_seg.dcm": write_seg}
RTSTRUCT: dict[str, Writer] = {"_rtstruct.dcm": write_rtstruct}
REPORT = "_sr.dcm"
"""Ending of structured reports."""
SR: dict[str, Writer] = {REPORT: write_sr}
GSPS: dict[str, Writer] = {"_gsps.dcm": write_gsps}
PLANE = {"dicomseg": SEG, "sr": SR, "gsps": GSPS}
"""Writers for results on one image."""
VOLUME = {"dicomseg": SEG, "rtstruct": RTSTRUCT, "sr": SR, "gsps": GSPS}
"""Writers for volumes."""
PROBABILITY: dict[str, Writer] = {"_probability.dcm": write_probability}


def with_probability(formats: Formats) -> Formats:
    """The formats, and ``"dicomprob"`` of results that hold `shares`."""
    return replace(formats, writers={**formats.writers, "dicomprob": PROBABILITY})

"""Pictures for the page: overlays, and slices of volumes one at a time."""

from __future__ import annotations

import io
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image as PILImage

from anatozoo.results.labels import LabelResult
from anatozoo.results.repair import RepairResult
from anatozoo.results.segmentation import SegmentationResult
from anatozoo.results.volume import VolumeResult

if TYPE_CHECKING:
    from anatozoo.results.base import Result

PLOTTING = threading.Lock()
"""Held where Matplotlib draws, which is not made for several threads."""
_QUALITY = 90
"""Of WebP; files have the picture without loss."""


@dataclass(frozen=True)
class Look:
    """What is drawn.

    Attributes:
        contours: the organs.
        ratio: the cardiothoracic ratio.
        slice: which one, of volumes; None takes `best_slice`.
    """

    contours: bool = True
    ratio: bool = True
    slice: int | None = None


def depth_of(result: Result) -> int:
    """How many slices there are to look at; 1 of planes."""
    mask = getattr(result, "mask", None)
    return 1 if mask is None or mask.ndim == 2 else len(mask)


def best_slice(result: Result) -> int:
    """The slice with most of the anatomy, 0 of planes."""
    if depth_of(result) == 1:
        return 0
    found: Any = result
    return int(np.count_nonzero(found.mask, axis=(1, 2)).argmax())


def draw(result: Result, look: Look) -> bytes:
    """A picture of a result as WebP.

    Args:
        result: what a model has found.
        look: what is drawn; a slice beyond the last is the last.
    """
    z = best_slice(result) if look.slice is None else min(max(look.slice, 0), depth_of(result) - 1)
    if isinstance(result, VolumeResult):
        result = _plane(result, z)
    if isinstance(result, SegmentationResult):
        from anatozoo.results.draw.segmentation import draw_overlay

        return _webp(PILImage.fromarray(draw_overlay(result, contours=look.contours, ratio=look.ratio)))
    with PLOTTING:
        if isinstance(result, RepairResult) and result.dims == 3:
            return _figure(_repaired(result, z))
        return _figure(result._repr_png_())


def _plane(result: VolumeResult, z: int) -> LabelResult:
    """One slice of a volume as a segmented image."""
    spacing = result.spacing_mm
    return LabelResult(
        result.checkpoint,
        result.version,
        result.image,
        (result.size[0], result.size[1]),
        None if spacing is None else (spacing[0], spacing[1]),
        result.label_map[z],
        result.classes,
        pixels=None if result.pixels is None else np.ascontiguousarray(result.pixels[z]),
    )


def _repaired(result: RepairResult, z: int) -> bytes:
    from anatozoo.io.figures import figure_bytes
    from anatozoo.results.draw.repair import plot_repair

    spacing = None if result.spacing_mm is None else result.spacing_mm[:2]
    return figure_bytes(plot_repair(result.before[z], result.after[z], result.classes, spacing))


def _figure(png: bytes) -> bytes:
    return _webp(PILImage.open(io.BytesIO(png)).convert("RGB"))


def _webp(picture: PILImage.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=_QUALITY, method=2)
    return buffer.getvalue()

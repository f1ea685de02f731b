"""Organs on one image: the base class of contour and label results."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from anatozoo.errors import GeometryError
from anatozoo.results.base import Formats, Names, Result, read_only, write_json, write_labels, write_picture
from anatozoo.results.dicom_files import PLANE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from anatozoo.metrics.measurements import Measurement
    from anatozoo.metrics.plausibility import CardiothoracicLines

Outlines = dict[str, list[npt.NDArray[np.float64]]]


def _write_volume(result: SegmentationResult, path: Path) -> Path:
    from anatozoo.io.writers import write_volume

    return write_volume(path, result.mask, result.spacing_mm)


def _write_landmarks(result: SegmentationResult, path: Path) -> Path:
    from anatozoo.io.landmarks import write_landmarks

    return write_landmarks(path, result.landmarks, result.spacing_mm, result.sigma)


def _write_chexmask(result: SegmentationResult, path: Path) -> Path:
    from anatozoo.io.rle import chexmask_row, write_chexmask

    row = chexmask_row(result.size, result.landmarks, result.masks)
    return write_chexmask(path, {Path(result.image).name: row})


@dataclass(frozen=True, eq=False, repr=False)
class SegmentationResult(Result):
    """Organs on one image, in pixels of the given image.

    Models that predict contours give a `ContourResult`, models that label pixels a `LabelResult`.

    `save` knows ``"png"`` (``_mask.png``, a palette picture whose pixels are the labels, and
    ``_overlay.png``), ``"json"``, ``"nifti"`` or ``"mha"`` (``_mask.nii.gz``, ``_mask.mha``), ``"csv"``
    (``_landmarks.csv``; only the header for a label map) and ``"chexmask"`` (``_chexmask.csv``: landmarks and
    run lengths of lungs and heart, as in the tables of CheXmask).

    Attributes:
        checkpoint: name of the checkpoint.
        version: its version.
        image: path or name of the source, or ``"array"``.
        size: ``(width, height)`` of the source in pixels.
        spacing_mm: ``(x, y)`` millimetres per pixel, None where unknown.
        landmarks: organ -> ``(N, 2)`` float64, ``(x, y)`` in source pixels; empty for a label map.
        sigma: their standard deviations, see `anatozoo.results.contours.ContourResult`; else None.
        pixels: ``(H, W)`` float32 of the source for plotting, bone white, read-only; or None.

    Raises:
        GeometryError: size, spacing and pixels contradict, or there are no named organs.
    """

    formats: ClassVar[Formats] = Formats(
        "segmentations",
        {
            "png": {"_mask.png": write_labels, "_overlay.png": write_picture},
            "json": {".json": write_json},
            "nifti": {"_mask.nii.gz": _write_volume},
            "mha": {"_mask.mha": _write_volume},
            "csv": {"_landmarks.csv": _write_landmarks},
            "chexmask": {"_chexmask.csv": _write_chexmask},
            **PLANE,
        },
        default=("png", "json"),
    )
    head: ClassVar[Names] = (
        "checkpoint",
        "version",
        "image",
        "size",
        "spacing_mm",
        "flags",
        "labels",
        "areas_px",
    )

    checkpoint: str
    version: str
    image: str
    size: tuple[int, int]
    spacing_mm: tuple[float, float] | None
    landmarks: dict[str, npt.NDArray[np.float64]] = field(init=False, default_factory=dict)
    sigma: dict[str, npt.NDArray[np.float64]] | None = field(init=False, default=None, kw_only=True)
    pixels: npt.NDArray[np.float32] | None = field(default=None, repr=False, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        size = _checked_size(self.size)
        self._put(size=size, spacing_mm=_checked_spacing(self.spacing_mm))
        if self.pixels is not None:
            self._put(pixels=_checked_pixels(self.pixels, size))
        if not self.organs or not all(isinstance(organ, str) and organ for organ in self.organs):
            raise GeometryError("a result needs landmarks or labels of at least one named organ.")

    @property
    @abstractmethod
    def organs(self) -> tuple[str, ...]:
        """Names of the organs, in the order of their labels."""

    @property
    @abstractmethod
    def mask(self) -> npt.NDArray[np.uint8]:
        """Label map ``(H, W)`` uint8 on the source grid, values of `labels`, read-only."""

    @property
    @abstractmethod
    def masks(self) -> Mapping[str, npt.NDArray[np.bool_]]:
        """Mask of each organ, ``(H, W)`` bool, read-only."""

    @abstractmethod
    def outlines(self) -> Outlines:
        """Closed lines around each organ, ``(N, 2)`` each, x and y in pixels of the source."""

    def bands(self) -> dict[str, npt.NDArray[np.float64]]:
        """Bands of uncertainty around contours, quadrilaterals ``(N, 4, 2)``, where they are known."""
        return {}

    def heat(self) -> npt.NDArray[np.float32] | None:
        """How far predictions of a pixel differ, ``(H, W)`` in 0..1 for pictures, where that is known."""
        return None

    @property
    def labels(self) -> dict[str, int]:
        """Value of each organ in `mask`; 0 is background."""
        return {organ: value for value, organ in enumerate(self.organs, start=1)}

    @property
    def landmarks_mm(self) -> dict[str, npt.NDArray[np.float64]] | None:
        """Landmarks in mm from the centre of the top left pixel; None without landmarks or spacing."""
        if self.spacing_mm is None or not self.landmarks:
            return None
        return {organ: points * self.spacing_mm for organ, points in self.landmarks.items()}

    @cached_property
    def areas_px(self) -> dict[str, int]:
        """Number of pixels in the mask of each organ."""
        return {organ: int(np.count_nonzero(mask)) for organ, mask in self.masks.items()}

    @property
    def areas_mm2(self) -> dict[str, float] | None:
        """Area of each organ in square millimetres; None where the spacing is unknown."""
        if self.spacing_mm is None:
            return None
        return {organ: area * math.prod(self.spacing_mm) for organ, area in self.areas_px.items()}

    @cached_property
    def cardiothoracic_lines(self) -> CardiothoracicLines | None:
        """Where heart and thorax are widest, in pixels of the source; None without heart and both lungs."""
        from anatozoo.metrics.plausibility import chest_lines

        return chest_lines(landmarks=self.landmarks) if self.landmarks else chest_lines(self.masks)

    @property
    def cardiothoracic_ratio(self) -> float | None:
        """Width of the heart over width of the thorax, from the outermost points of heart and lungs.

        None without a heart or one of the lungs. On supine and anteroposterior images the heart is magnified,
        and the usual limit of 0.5 does not hold.
        """
        return None if self.cardiothoracic_lines is None else self.cardiothoracic_lines.ratio

    @property
    def measurements(self) -> list[Measurement]:
        """Area of each organ, and of chests the cardiothoracic ratio with both widths; px without spacing."""
        from anatozoo.metrics.measurements import cardiothoracic, sizes

        areas = sizes(self.areas_px, self.spacing_mm, dims=2)
        return areas + cardiothoracic(self.cardiothoracic_lines, self.spacing_mm)

    def plot(self, ax: Axes | None = None) -> Figure:
        """Draw the image and the organs with matplotlib.

        Args:
            ax: axes to draw on. None makes a new figure outside pyplot, for example for
                ``result.plot().savefig("overlay.pdf")``; notebooks display it.

        Returns:
            The figure; its axes are ``figure.axes[0]``.
        """
        from anatozoo.results.draw.segmentation import plot_segmentation

        return plot_segmentation(self, ax)

    def to_dict(self) -> dict[str, Any]:
        """Everything except pixels as JSON values: coordinates with 3 decimals, null for unknown mm."""
        from anatozoo.io.landmarks import rounded

        areas_mm2, ratio = self.areas_mm2, self.cardiothoracic_ratio
        in_mm = self.landmarks_mm
        rounded_mm = None if in_mm is None else {organ: rounded(points) for organ, points in in_mm.items()}
        return super().to_dict() | {
            "areas_px": self.areas_px,
            "areas_mm2": areas_mm2 and {organ: round(area, 3) for organ, area in areas_mm2.items()},
            "cardiothoracic_ratio": None if ratio is None else round(ratio, 4),
            "measurements": [each.to_dict() for each in self.measurements],
            "landmarks": {organ: rounded(points) for organ, points in self.landmarks.items()},
            "landmarks_mm": rounded_mm,
        }

    def _repr_png_(self) -> bytes:
        """The overlay, for notebooks and files; much faster to draw than a figure."""
        from anatozoo.results.draw.segmentation import draw_overlay, png_bytes

        return png_bytes(draw_overlay(self))


def _checked_size(size: Any) -> tuple[int, int]:
    values = tuple(size)
    if len(values) != 2 or any(int(v) != v or v < 1 for v in values):
        raise GeometryError(f"size must be (width, height) in whole pixels, not {size!r}.")
    return int(values[0]), int(values[1])


def _checked_spacing(spacing_mm: Any) -> tuple[float, float] | None:
    if spacing_mm is None:
        return None
    values = tuple(float(v) for v in spacing_mm)
    if len(values) != 2 or not all(0 < v < math.inf for v in values):
        raise GeometryError(f"spacing_mm must be two positive numbers or None, not {spacing_mm!r}.")
    return values[0], values[1]


def _checked_pixels(pixels: Any, size: tuple[int, int]) -> npt.NDArray[np.float32]:
    array = np.asarray(pixels, dtype=np.float32)
    if array.shape != (size[1], size[0]):
        raise GeometryError(f"pixels of shape {array.shape} do not fit size (width, height) = {size}.")
    # A view: the caller's array stays writable, and a large image is not copied.
    return read_only(array.view())

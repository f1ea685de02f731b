"""What a model answers: frozen, typed results that can be plotted, saved and turned into JSON."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from anatozoo.errors import ConfigError, DataError, GeometryError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS: dict[str, tuple[str, ...]] = {
    "png": ("_mask.png", "_overlay.png"),
    "json": (".json",),
    "nifti": ("_mask.nii.gz",),
    "mha": ("_mask.mha",),
    "csv": ("_landmarks.csv",),
    "chexmask": ("_chexmask.csv",),
}
"""Formats of `SegmentationResult.save`, and what each adds to the stem of the image's name."""

DEFAULT_FORMATS = ("png", "json")

Scalar = TypeVar("Scalar", bound=np.generic)


def check_formats(formats: Sequence[str]) -> tuple[str, ...]:
    """The formats without repetition, in a fixed order.

    Raises:
        ConfigError: a format is unknown, or there is none.
    """
    wanted = [formats] if isinstance(formats, str) else list(formats)
    unknown = [name for name in wanted if name not in FORMATS]
    if unknown or not wanted:
        raise ConfigError(f"no output format {', '.join(unknown) or 'is given'}; use {', '.join(FORMATS)}.")
    return tuple(name for name in FORMATS if name in wanted)


def output_names(stem: str, formats: Sequence[str]) -> list[str]:
    """File names that `save` writes for these formats."""
    return [stem + ending for name in check_formats(formats) for ending in FORMATS[name]]


@dataclass(frozen=True, eq=False)
class SegmentationResult:
    """Organs on one image, in pixels of the image as it was given: their contours, or a label map.

    Models that mark contours give `landmarks`; models that label pixels give `label_map` and `classes`, and
    no landmarks. All else is computed from what there is.

    Attributes:
        checkpoint: name of the checkpoint.
        version: its version.
        image: path or name of the source, or ``"array"``.
        size: ``(width, height)`` of the source in pixels.
        spacing_mm: ``(x, y)`` millimetres per pixel, None where unknown.
        landmarks: organ -> ``(N, 2)`` float64, ``(x, y)`` in source pixels, pixel centres being whole
            numbers; read-only. Points may lie outside the image. Empty for a label map.
        flags: remarks of reader and model, such as ``"lateral_view"``; empty is good.
        pixels: ``(H, W)`` float32 of the source for plotting, bone white, read-only; or None.
        label_map: ``(H, W)`` uint8 on the source grid, 0 for background and 1, 2, ... for `classes`,
            read-only; None where there are landmarks.
        classes: organs of the label map, in the order of their labels; empty where there are landmarks.

    Raises:
        GeometryError: landmarks are not ``(N, 2)`` and finite, size, spacing, pixels and label map
            contradict, a label has no class, or there are both landmarks and a label map, or neither.
    """

    checkpoint: str
    version: str
    image: str
    size: tuple[int, int]
    spacing_mm: tuple[float, float] | None
    landmarks: dict[str, npt.NDArray[np.float64]]
    flags: tuple[str, ...] = ()
    pixels: npt.NDArray[np.float32] | None = field(default=None, repr=False)
    label_map: npt.NDArray[np.uint8] | None = field(default=None, repr=False)
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        from anatozoo.io.landmarks import check_points

        object.__setattr__(self, "size", _checked_size(self.size))
        object.__setattr__(self, "classes", tuple(self.classes))
        organs = tuple(self.landmarks) or self.classes
        if not organs or not all(isinstance(organ, str) and organ for organ in organs):
            raise GeometryError("a result needs landmarks of at least one named organ, or a label map.")
        if self.landmarks and (self.classes or self.label_map is not None):
            raise GeometryError("a result has landmarks or a label map with its classes, not both.")
        checked = {organ: check_points(points, organ) for organ, points in self.landmarks.items()}
        object.__setattr__(self, "landmarks", checked)
        if not self.landmarks:
            object.__setattr__(self, "label_map", _checked_labels(self.label_map, self.classes, self.size))
        object.__setattr__(self, "spacing_mm", _checked_spacing(self.spacing_mm))
        object.__setattr__(self, "flags", tuple(dict.fromkeys(self.flags)))
        if self.pixels is not None:
            object.__setattr__(self, "pixels", _checked_pixels(self.pixels, self.size))

    @property
    def organs(self) -> tuple[str, ...]:
        """Names of the organs, in the order of their labels."""
        return tuple(self.landmarks) or self.classes

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
    def mask(self) -> npt.NDArray[np.uint8]:
        """Label map ``(H, W)`` uint8 on the source grid, values of `labels`; later organs cover earlier."""
        from anatozoo.io.landmarks import draw_label_map

        if self.label_map is not None:
            return self.label_map
        return _read_only(draw_label_map(self.landmarks, self.size))

    @cached_property
    def masks(self) -> dict[str, npt.NDArray[np.bool_]]:
        """Mask of each organ, ``(H, W)`` bool.

        From landmarks each is whole: a lung is not cut by the heart before it. In a label map a pixel
        belongs to one organ alone.
        """
        from anatozoo.io.landmarks import draw_organ_mask

        if self.label_map is not None:
            return {organ: _read_only(self.label_map == value) for organ, value in self.labels.items()}
        drawn = {organ: draw_organ_mask(points, self.size) for organ, points in self.landmarks.items()}
        return {organ: _read_only(mask) for organ, mask in drawn.items()}

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

    @property
    def cardiothoracic_ratio(self) -> float | None:
        """Width of the heart over width of the thorax, from the outermost points of heart and lungs.

        None without a heart or one of the lungs. On supine and anteroposterior images the heart is magnified,
        and the usual limit of 0.5 does not hold.
        """
        from anatozoo.metrics.plausibility import cardiothoracic_ratio

        lungs = ("lungs",) if "lungs" in self.organs else ("lung_right", "lung_left")
        if not {"heart", *lungs} <= set(self.organs):
            return None
        known = {"landmarks": self.landmarks} if self.landmarks else {"masks": self.masks}
        ratio = cardiothoracic_ratio(**known)
        return None if math.isnan(ratio) else ratio

    def plot(self, ax: Axes | None = None) -> Figure:
        """Draw the image and the organs with matplotlib.

        Args:
            ax: axes to draw on. None makes a figure of its own, which pyplot does not hold on to:
                ``result.plot().savefig("overlay.pdf")``; notebooks display it.

        Returns:
            The figure; its axes are ``figure.axes[0]``.
        """
        from anatozoo.results.draw.segmentation import plot_segmentation

        return plot_segmentation(self, ax)

    def save(
        self,
        directory: str | os.PathLike[str],
        formats: Sequence[str] = DEFAULT_FORMATS,
        stem: str | None = None,
    ) -> list[Path]:
        """Write files, each of them atomically.

        Args:
            directory: folder, created if it does not exist.
            formats: ``"png"`` (``_mask.png``, a palette picture whose pixels are the labels, and
                ``_overlay.png``), ``"json"``, ``"nifti"`` or ``"mha"`` (``_mask.nii.gz``, ``_mask.mha``),
                ``"csv"`` (``_landmarks.csv``; of a label map, which has no landmarks, the header alone),
                ``"chexmask"`` (``_chexmask.csv``: landmarks and run lengths of lungs and heart, as a table of
                CheXmask has them).
            stem: start of the file names; None takes the name of the image without its suffix.

        Returns:
            The paths.

        Raises:
            ConfigError: a format is unknown, or `stem` is no file name.
            GeometryError: ``"mha"`` without a spacing.
            OutputError: a file cannot be written.
        """
        from anatozoo.io.files import stem_of
        from anatozoo.io.writers import checked_stem

        chosen = checked_stem(stem_of(Path(self.image)) if stem is None else stem)
        return [self._write(Path(directory) / name) for name in output_names(chosen, formats)]

    def _write(self, path: Path) -> Path:
        from anatozoo.io import landmarks, writers
        from anatozoo.results.draw.segmentation import draw_overlay, label_palette

        if path.name.endswith("_mask.png"):
            return writers.write_label_png(path, self.mask, label_palette(self.organs))
        if path.name.endswith("_overlay.png"):
            return writers.write_rgb_png(path, draw_overlay(self))
        if path.suffix == ".json":
            return writers.write_json(path, self.to_dict())
        if path.name.endswith(FORMATS["chexmask"]):
            from anatozoo.io.rle import chexmask_row, write_chexmask

            row = chexmask_row(self.size, self.landmarks, self.masks)
            return write_chexmask(path, {Path(self.image).name: row})
        if path.suffix == ".csv":
            return landmarks.write_landmarks(path, self.landmarks, self.spacing_mm)
        return writers.write_volume(path, self.mask, self.spacing_mm)

    def to_dict(self) -> dict[str, Any]:
        """All but the pixels as JSON values: coordinates with 3 decimals, null where mm are unknown."""
        from anatozoo.io.landmarks import rounded

        in_mm, areas_mm2, ratio = self.landmarks_mm, self.areas_mm2, self.cardiothoracic_ratio
        return {
            "schema_version": 1,
            "checkpoint": self.checkpoint,
            "version": self.version,
            "image": self.image,
            "size": list(self.size),
            "spacing_mm": list(self.spacing_mm) if self.spacing_mm else None,
            "flags": list(self.flags),
            "labels": self.labels,
            "areas_px": self.areas_px,
            "areas_mm2": areas_mm2 and {organ: round(area, 3) for organ, area in areas_mm2.items()},
            "cardiothoracic_ratio": None if ratio is None else round(ratio, 4),
            "landmarks": {organ: rounded(points) for organ, points in self.landmarks.items()},
            "landmarks_mm": in_mm and {organ: rounded(points) for organ, points in in_mm.items()},
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> SegmentationResult:
        """The result that `to_dict` described, without pixels; what can be computed is computed again.

        Raises:
            DataError: a key is missing, or the result was a label map, which is not part of the JSON.
            GeometryError: the values are not possible, see the class.
        """
        try:
            if not value["landmarks"]:
                raise DataError(
                    f"{value['image']}: this result has no landmarks; its label map is in the _mask file."
                )
            return cls(
                checkpoint=value["checkpoint"],
                version=value["version"],
                image=value["image"],
                size=value["size"],
                spacing_mm=value["spacing_mm"],
                landmarks=dict(value["landmarks"]),
                flags=tuple(value["flags"]),
            )
        except KeyError as error:
            raise DataError(f"this is no segmentation result: the key {error} is missing.") from error

    def _repr_png_(self) -> bytes:
        """Picture for notebooks, where a result on a line of its own shows itself."""
        from anatozoo.results.draw.segmentation import draw_overlay, png_bytes

        return png_bytes(draw_overlay(self))


def _read_only(array: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
    array.flags.writeable = False
    return array


def _checked_size(size: Any) -> tuple[int, int]:
    values = tuple(size)
    if len(values) != 2 or any(int(v) != v or v < 1 for v in values):
        raise GeometryError(f"size must be (width, height) in whole pixels, not {size!r}.")
    return int(values[0]), int(values[1])


def _checked_labels(label_map: Any, classes: tuple[str, ...], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    array = np.asarray(label_map)
    if array.dtype != np.uint8 or array.shape != (size[1], size[0]):
        raise GeometryError(
            f"a label map of {array.dtype} and shape {array.shape} does not fit (width, height) = {size}; "
            "give (H, W) uint8."
        )
    if len(set(classes)) != len(classes) or array.max() > len(classes):
        raise GeometryError(f"labels up to {array.max()} need as many different classes, not {classes}.")
    return _read_only(array.view())


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
    # A view: the caller's array stays writeable, and a large image is not copied.
    return _read_only(array.view())

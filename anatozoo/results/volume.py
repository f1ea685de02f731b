"""What a model that segments volumes answers: a label map on the source grid, with sizes and pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from anatozoo.errors import GeometryError
from anatozoo.io.grid import Grid, itk_image
from anatozoo.results.base import SavedVolume

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS: dict[str, tuple[str, ...]] = {
    "nifti": ("_mask.nii.gz",),
    "mha": ("_mask.mha",),
    "picture": ("_slices.png",),
    "json": (".json",),
}
"""Formats of `VolumeResult.save`, and what each adds to the stem of the image's name."""
_MOST_SLICES, _COLUMNS, _INCHES = 40, 5, 2.2


@dataclass(frozen=True, eq=False)
class VolumeResult(SavedVolume):
    """Organs in a volume, voxel by voxel, on the grid of the volume as it was given.

    Attributes:
        checkpoint: name of the checkpoint.
        version: its version.
        image: path or name of the volume, or ``"array"``.
        grid: where its voxels lie.
        classes: organs in the order of their labels 1, 2, ...
        label_map: (D, H, W) uint8, 0 for background, read-only.
        flags: what to look at, such as ``"missing_myocardium"``; empty is good.
        pixels: (D, H, W) float32 of the volume for plotting, or None.

    Raises:
        GeometryError: the label map or the pixels do not lie on the grid, or a label has no class.
    """

    formats: ClassVar = FORMATS

    checkpoint: str
    version: str
    image: str
    grid: Grid
    classes: tuple[str, ...]
    label_map: npt.NDArray[np.uint8] = field(repr=False)
    flags: tuple[str, ...] = ()
    pixels: npt.NDArray[np.float32] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))
        object.__setattr__(self, "flags", tuple(dict.fromkeys(self.flags)))
        labels = np.asarray(self.label_map).view()
        if self.grid.dims != 3 or labels.dtype != np.uint8 or labels.shape != self.grid.shape:
            raise GeometryError(
                f"a label map of {labels.dtype} {labels.shape} does not fit the grid {self.grid.shape}; give "
                "(D, H, W) uint8."
            )
        if len(set(self.classes)) != len(self.classes) or labels.max() > len(self.classes):
            raise GeometryError(
                f"labels up to {labels.max()} need as many different classes, not {self.classes}."
            )
        if self.pixels is not None and self.pixels.shape != labels.shape:
            raise GeometryError(f"pixels of shape {self.pixels.shape} do not fit {labels.shape}.")
        labels.flags.writeable = False
        object.__setattr__(self, "label_map", labels)

    @property
    def organs(self) -> tuple[str, ...]:
        """Names of the organs, in the order of their labels."""
        return self.classes

    @property
    def labels(self) -> dict[str, int]:
        """Value of each organ in `mask`; 0 is background."""
        return {organ: value for value, organ in enumerate(self.classes, start=1)}

    @property
    def mask(self) -> npt.NDArray[np.uint8]:
        """The label map (D, H, W)."""
        return self.label_map

    @cached_property
    def masks(self) -> dict[str, npt.NDArray[np.bool_]]:
        """Mask of each organ, (D, H, W) bool."""
        return {organ: self.label_map == value for organ, value in self.labels.items()}

    @cached_property
    def voxels(self) -> dict[str, int]:
        """Number of voxels of each organ."""
        counts = np.bincount(self.label_map.ravel(), minlength=1 + len(self.classes))
        return {organ: int(counts[value]) for organ, value in self.labels.items()}

    @property
    def volumes_ml(self) -> dict[str, float] | None:
        """Volume of each organ in millilitres; None where the spacing is unknown: 1 mm is never assumed."""
        if self.spacing_mm is None:
            return None
        voxel = math.prod(self.spacing_mm) / 1000
        return {organ: count * voxel for organ, count in self.voxels.items()}

    def as_sitk(self) -> Any:
        """A ``SimpleITK.Image`` of the labels in the volume's space."""
        return itk_image(self.label_map, self.grid)

    def plot(self) -> Figure:
        """Draw the slices with the contours of the organs; of more than 40, those with the anatomy first.

        The figure is none of pyplot's, so nothing is left open; notebooks display it.
        """
        from matplotlib.figure import Figure
        from matplotlib.patches import Patch

        from anatozoo.results.draw.segmentation import display_name, organ_colors

        shown = self._slices()
        columns = min(_COLUMNS, len(shown))
        rows = -(-len(shown) // columns)
        figure = Figure(figsize=(_INCHES * columns, _INCHES * rows + 0.9), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        colors = {o: tuple(v / 255 for v in c) for o, c in organ_colors(self.classes).items()}
        limits = None if self.pixels is None else np.percentile(self.pixels, [1, 99.5])
        aspect = 1.0 if self.spacing_mm is None else self.spacing_mm[1] / self.spacing_mm[0]
        for ax in axes[len(shown) :]:
            ax.set_axis_off()
        for ax, z in zip(axes, shown, strict=False):
            picture = np.zeros(self.grid.shape[1:]) if self.pixels is None else self.pixels[z]
            low, high = (0, 1) if limits is None else limits
            ax.imshow(picture, cmap="gray", vmin=low, vmax=high, aspect=aspect)
            for organ, color in colors.items():
                mask = self.label_map[z] == self.labels[organ]
                if mask.any():
                    ax.contour(mask, levels=[0.5], colors=[color], linewidths=1.2)
            ax.set_title(f"slice {z}", fontsize=8)
            ax.set(xticks=[], yticks=[])
        self._put_title(figure)
        figure.legend(
            handles=[Patch(fc=color, label=display_name(organ)) for organ, color in colors.items()],
            loc="outside lower center",
            ncols=min(len(colors), 5),
            fontsize=8,
            frameon=False,
        )
        return figure

    def to_dict(self) -> dict[str, Any]:
        """All but the voxels as JSON values; null where millimetres are unknown."""
        volumes = self.volumes_ml
        return super().to_dict() | {
            "flags": list(self.flags),
            "labels": self.labels,
            "voxels": self.voxels,
            "volumes_ml": volumes and {organ: round(volume, 3) for organ, volume in volumes.items()},
        }

    def _slices(self) -> list[int]:
        """Which slices to draw: all of them, or as many as fit, around the anatomy."""
        depth = self.grid.shape[0]
        if depth <= _MOST_SLICES:
            return list(range(depth))
        with_anatomy = np.flatnonzero(self.label_map.any((1, 2)))
        first, last = (with_anatomy[0], with_anatomy[-1]) if len(with_anatomy) else (0, depth - 1)
        return np.unique(np.linspace(first, last, _MOST_SLICES).round().astype(int)).tolist()

"""The result of a model that segments volumes: a label map on the source grid."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from anatozoo.errors import GeometryError
from anatozoo.io.grid import itk_image
from anatozoo.results.base import Formats, GridResult, Names, write_grid, write_json, write_picture
from anatozoo.results.dicom_files import VOLUME
from anatozoo.results.labels import LabelMap, Labels, checked_labels
from anatozoo.results.votes import Votes, spread, with_variance

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from anatozoo.metrics.measurements import Measurement


@dataclass(frozen=True, eq=False, repr=False)
class VolumeResult(LabelMap, Votes, GridResult):
    """Organs in a volume as a label map, on the grid of the given volume.

    `save` knows ``"nifti"`` or ``"mha"`` (``_mask.nii.gz``, ``_mask.mha``, the labels with spacing, origin
    and directions), ``"picture"`` (``_slices.png``, the plot) and ``"json"``; of ensembles, which also hold
    what `Votes` says, ``"variance"`` (``_variance.nii.gz``).

    Attributes:
        voted_formats: the formats of ensembles' results.
        classes: organs in the order of their labels 1, 2, ...
        label_map: (D, H, W) uint8, 0 for background, read-only.
        pixels: (D, H, W) float32 of the volume for plotting, or None.
        flags: what to look at, such as ``"missing_myocardium"``; empty is good.

    Raises:
        GeometryError: the label map or the pixels do not lie on the grid, or a label has no class.
    """

    formats: ClassVar[Formats] = Formats(
        "segmented volumes",
        {
            "nifti": {"_mask.nii.gz": write_grid},
            "mha": {"_mask.mha": write_grid},
            "picture": {"_slices.png": write_picture},
            "json": {".json": write_json},
            **VOLUME,
        },
        default=("nifti", "picture", "json"),
    )
    voted_formats: ClassVar[Formats] = with_variance(formats)
    head: ClassVar[Names] = (*GridResult.head, "labels", "voxels")
    dpi: ClassVar[int] = 100

    classes: tuple[str, ...]
    label_map: Labels = field(repr=False)
    pixels: npt.NDArray[np.float32] | None = field(default=None, repr=False, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._put(classes=tuple(self.classes))
        if self.grid.dims != 3:
            raise GeometryError(f"a volume needs a grid of three axes, not {self.grid.shape}.")
        self._put(label_map=checked_labels(self.label_map, self.grid.shape, self.classes))
        if self.pixels is not None and self.pixels.shape != self.grid.shape:
            raise GeometryError(f"pixels of shape {self.pixels.shape} do not fit {self.grid.shape}.")
        self.check_votes(self.grid.shape, self.voted_formats)

    @property
    def mask(self) -> Labels:
        """The label map (D, H, W)."""
        return self.label_map

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

    @property
    def measurements(self) -> list[Measurement]:
        """Volume of each organ in millilitres; in voxels where the spacing is unknown."""
        from anatozoo.metrics.measurements import sizes

        return sizes(self.voxels, self.spacing_mm, dims=3)

    def as_sitk(self) -> Any:
        """A ``SimpleITK.Image`` of the labels in the volume's space."""
        return itk_image(self.label_map, self.grid)

    def plot(self) -> Figure:
        """Draw up to 40 slices with the contours of the organs, preferably those with the anatomy."""
        from anatozoo.results.draw.volume import plot_volume

        heat = None if self.variance is None else spread(self.variance)
        return self._titled(plot_volume(self.label_map, self.classes, self.pixels, self.spacing_mm, heat))

    def to_dict(self) -> dict[str, Any]:
        """Everything except the voxels as JSON values; null where millimetres are unknown."""
        volumes = self.volumes_ml
        return super().to_dict() | {
            "volumes_ml": volumes and {organ: round(volume, 3) for organ, volume in volumes.items()},
            "measurements": [each.to_dict() for each in self.measurements],
            **self.votes_dict(),
        }

"""The result of super-resolution: a volume with fine slices."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from anatozoo.errors import GeometryError
from anatozoo.io.grid import itk_image
from anatozoo.results.base import Formats, GridResult, Names, read_only, write_grid, write_json, write_picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False, repr=False)
class RestoredVolume(GridResult):
    """A volume with fine slices, at the position of the thick slices that it was restored from.

    `save` knows ``"nifti"`` or ``"mha"`` (``_sr.nii.gz``, ``_sr.mha``, the volume with spacing, origin and
    directions), ``"picture"`` (``_sr.png``, the plot) and ``"json"``.

    Attributes:
        volume: (D, H, W) float32 on the grid, read-only, in the units of the given volume.
        given: (D / factor, H, W) float32, the thick slices; if they were stored along another axis, that axis
            is divided instead.
        flags: what to look at, such as ``"unusual_spacing"``; empty is good.

    Raises:
        GeometryError: the volume does not lie on the grid, or the numbers of slices do not fit.
    """

    formats: ClassVar[Formats] = Formats(
        "restored volumes",
        {
            "nifti": {"_sr.nii.gz": write_grid},
            "mha": {"_sr.mha": write_grid},
            "picture": {"_sr.png": write_picture},
            "json": {".json": write_json},
        },
        default=("nifti", "picture", "json"),
    )
    head: ClassVar[Names] = (*GridResult.head[:-1], "factor", "flags")
    dpi: ClassVar[int] = 100

    volume: npt.NDArray[np.float32] = field(repr=False)
    given: npt.NDArray[np.float32] = field(repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("volume", "given"):
            values = np.asarray(getattr(self, name)).view()
            if values.dtype != np.float32 or values.ndim != 3:
                raise GeometryError(f"{name} of {values.dtype} {values.shape} must be (D, H, W) float32.")
            self._put(**{name: read_only(values)})
        if self.volume.shape != self.grid.shape:
            raise GeometryError(f"a volume {self.volume.shape} does not fit the grid {self.grid.shape}.")
        ratios = sorted(np.asarray(self.volume.shape) / self.given.shape)
        if ratios[:2] != [1, 1] or ratios[2] % 1:
            raise GeometryError(
                f"fine slices {self.volume.shape} do not fit the thick ones {self.given.shape}."
            )

    @property
    def across(self) -> int:
        """The axis of the array across the slices, usually 0."""
        return int(np.argmax(np.asarray(self.volume.shape) / self.given.shape))

    @property
    def factor(self) -> int:
        """Fine slices for each thick one."""
        return self.volume.shape[self.across] // self.given.shape[self.across]

    def as_sitk(self) -> Any:
        """A ``SimpleITK.Image`` of the volume, with spacing, origin and directions."""
        return itk_image(self.volume, self.grid)

    def plot(self) -> Figure:
        """Draw two planes through the middle, across the slices, as given and restored.

        The figure is none of pyplot's, so nothing is left open; notebooks display it.
        """
        from anatozoo.results.draw.restored import plot_restored

        return self._titled(plot_restored(self.volume, self.given, self.across, self.spacing_mm))

"""What super-resolution answers: a volume with fine slices, in its place, with pictures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from anatozoo.errors import GeometryError
from anatozoo.io.grid import Grid, itk_image
from anatozoo.results.base import SavedVolume

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS: dict[str, tuple[str, ...]] = {
    "nifti": ("_sr.nii.gz",),
    "mha": ("_sr.mha",),
    "picture": ("_sr.png",),
    "json": (".json",),
}
"""Formats of `RestoredVolume.save`, and what each adds to the stem of the image's name."""
_INCHES = 3.0
_NAMES = "zyx"
"""Of the axes of the array."""


@dataclass(frozen=True, eq=False)
class RestoredVolume(SavedVolume):
    """A volume with fine slices, where those lie that it was made from.

    Attributes:
        checkpoint: name of the checkpoint.
        version: its version.
        image: path or name of the volume as given, or ``"array"``.
        grid: where the fine voxels lie.
        volume: (D, H, W) float32 on that grid, read-only, in the units of the volume as given.
        given: (D / factor, H, W) float32, the thick slices; or, where they were stored along another axis, of
            the volume's shape but for that axis.
        flags: what to look at, such as ``"unusual_spacing"``; empty is good.

    Raises:
        GeometryError: the volume does not lie on the grid, or the thick slices are not a part as many.
    """

    formats: ClassVar = FORMATS

    checkpoint: str
    version: str
    image: str
    grid: Grid
    volume: npt.NDArray[np.float32] = field(repr=False)
    given: npt.NDArray[np.float32] = field(repr=False)
    flags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "flags", tuple(dict.fromkeys(self.flags)))
        for name in ("volume", "given"):
            values = np.asarray(getattr(self, name)).view()
            if values.ndim != 3 or values.dtype != np.float32:
                raise GeometryError(f"{name} of {values.dtype} {values.shape} must be (D, H, W) float32.")
            values.flags.writeable = False
            object.__setattr__(self, name, values)
        if self.volume.shape != self.grid.shape:
            raise GeometryError(f"a volume {self.volume.shape} does not fit the grid {self.grid.shape}.")
        ratios = sorted(np.asarray(self.volume.shape) / self.given.shape)
        if ratios[:2] != [1, 1] or ratios[2] % 1:
            raise GeometryError(
                f"fine slices {self.volume.shape} do not fit the thick ones {self.given.shape}."
            )

    @property
    def across(self) -> int:
        """The axis of the array across the slices, 0 but for volumes that are stored otherwise."""
        return int(np.argmax(np.asarray(self.volume.shape) / self.given.shape))

    @property
    def factor(self) -> int:
        """Fine slices for each thick one."""
        return self.volume.shape[self.across] // self.given.shape[self.across]

    def as_sitk(self) -> Any:
        """A ``SimpleITK.Image`` of the volume in its place."""
        return itk_image(self.volume, self.grid)

    def plot(self) -> Figure:
        """Draw two planes through the middle, across the slices, as given and restored.

        The figure is none of pyplot's, so nothing is left open; notebooks display it.
        """
        from matplotlib.figure import Figure

        across = self.across
        within = [axis for axis in range(3) if axis != across]
        figure = Figure(figsize=(2 * _INCHES, 2 * _INCHES + 0.6), layout="constrained")
        axes = figure.subplots(2, len(within), squeeze=False)
        low, high = np.percentile(self.given, [1, 99.5])
        thick = np.repeat(self.given, self.factor, across)
        steps = (1.0, 1.0, 1.0) if self.spacing_mm is None else self.spacing_mm[::-1]
        # A view is at right angles to one axis within the slices and runs along the other.
        for column, (axis, along) in enumerate(zip(within, reversed(within), strict=True)):
            for ax, values in zip(axes[:, column], (thick, self.volume), strict=True):
                plane = np.moveaxis(values, (across, along), (0, 1))[..., values.shape[axis] // 2]
                aspect = steps[across] / steps[along]
                # The first slice, which most often is the lowest of the body, lies below.
                ax.imshow(plane, cmap="gray", vmin=low, vmax=high, aspect=aspect, origin="lower")
                ax.set(xticks=[], yticks=[])
            axes[0, column].set_title(f"across the slices, along {_NAMES[along]}", fontsize=8)
        for ax, words in zip(axes[:, 0], ("as given", "restored"), strict=True):
            ax.set_ylabel(words, fontsize=8)
        self._put_title(figure)
        return figure

    def to_dict(self) -> dict[str, Any]:
        """All but the voxels as JSON values; null where millimetres are unknown."""
        return super().to_dict() | {"factor": self.factor, "flags": list(self.flags)}

"""The frame of ACNN's networks: stacks of slices keep their slices, whatever lies between them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from anatozoo.errors import ConfigError, GeometryError
from anatozoo.io.grid import Grid
from anatozoo.methods.frames import Frame

StackFit = Literal["slices", "pad", "stretch", "spacing"]
_SAME_SCALE = 1e-3
"""How far the scale of an axis may be from 1 for voxels to stay as they are."""


@dataclass(frozen=True, eq=False)
class StackFrame(Frame):
    """A frame that holds one slice for each slice of the image, which is scaled within the slices alone.

    Slices are neither turned nor resampled, for a stack has few of them and its directions are oblique.
    """

    @classmethod
    def of_stack(cls, grid: Grid, shape: tuple[int, ...], long_side: int) -> Self:
        """Scale a stack so that the longer side of its slices has this many pixels.

        The field of view of cardiac MR is much the same for all adults, so that this fits hearts by size even
        where the spacing is unknown. Where pixels are known not to be square, the body keeps its proportions.

        Args:
            grid: the image's grid.
            shape: the frame's shape, (D, H, W).
            long_side: pixels.
        """
        size = np.asarray(grid.size[:2], dtype=np.float64)
        steps = np.ones(2) if grid.spacing_mm is None else np.asarray(grid.spacing_mm[:2])
        scale = steps * (long_side / (size * steps).max())
        return cls(grid, shape, np.diag([scale[0], scale[1], 1.0]))

    @property
    def offset(self) -> npt.NDArray[np.float64]:
        """Where the image's first voxel falls in the frame; slices fall on slices."""
        result: npt.NDArray[np.float64] = super().offset
        result[2] = math.floor((self.shape[0] - self.grid.shape[0]) / 2)
        return result


@dataclass(frozen=True, eq=False)
class VoxelFrame(Frame):
    """A frame that lays voxels on voxels along the axes that keep their resolution.

    Half a voxel of offset would interpolate there, that is blur, to no purpose.
    """

    @property
    def offset(self) -> npt.NDArray[np.float64]:
        """Where the image's first voxel falls in the frame, a whole number along those axes."""
        result: npt.NDArray[np.float64] = super().offset
        kept = np.isclose(np.abs(self.matrix).sum(1), 1, atol=_SAME_SCALE)
        # Of the two voxels beside a middle that lies between them, the first, however it is rounded.
        result[kept] = np.floor(result[kept] + 0.25)
        return result


def fit_frame(
    grid: Grid,
    shape: tuple[int, ...],
    fit: StackFit,
    spacing_mm: Sequence[float] | None,
    long_side: int,
    *,
    whole: bool = False,
) -> Frame:
    """The frame of an image.

    Args:
        grid: the image's grid.
        shape: the network's frame.
        fit: ``"slices"`` (see `StackFrame`), or see `anatozoo.methods.frames.Frame.fit`.
        spacing_mm: (x, y, z) of the frame, for ``"spacing"``.
        long_side: for ``"slices"``.
        whole: make the frame larger than the network's where the image goes beyond it.

    Raises:
        GeometryError: ``"spacing"`` and the image's spacing is unknown.
        ConfigError: ``"slices"`` of planes, or see `Frame.fit`.
    """
    frame: Frame
    if fit == "slices":
        if grid.dims != 3:
            raise ConfigError("fit='slices' is for stacks of slices; choose pad, stretch or spacing in 2-D.")
        frame = StackFrame.of_stack(grid, shape, long_side)
    else:
        if fit == "spacing" and grid.spacing_mm is None:
            raise GeometryError(
                "this model works at a resolution in millimetres, but the image's spacing is unknown; give "
                "spacing_mm."
            )
        frame = VoxelFrame.fit(grid, shape, fit, spacing_mm)
    if not whole:
        return frame
    # What rounding adds is no pixel more.
    needed = np.ceil(np.abs(frame.matrix) @ np.asarray(grid.size) - 1e-6)[::-1]
    larger = tuple(max(side, int(own)) for side, own in zip(shape, needed, strict=True))
    return type(frame)(grid, larger, frame.matrix)


def check_fit(fit: str, shape: Sequence[int], spacing_mm: Sequence[float] | None, long_side: Any) -> None:
    """Check settings of the frame that need no image.

    Raises:
        ConfigError: one of them is not possible.
    """
    if fit not in ("slices", "pad", "stretch", "spacing"):
        raise ConfigError(f"fit={fit!r} is unknown; choose slices, pad, stretch or spacing.")
    if fit == "spacing" and len(spacing_mm or ()) != len(shape):
        raise ConfigError(f"fit='spacing' needs spacing_mm with {len(shape)} numbers.")
    if fit == "slices" and (len(shape) != 3 or long_side < 8):
        raise ConfigError(f"fit='slices' needs image_size [D, H, W] and long_side={long_side} of at least 8.")

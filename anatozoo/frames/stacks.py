"""The frame of ACNN's networks, which keeps the slices of a stack, whatever their distance."""

import math
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from anatozoo.errors import ConfigError, GeometryError
from anatozoo.frames.frame import Frame
from anatozoo.frames.spec import FrameSpec
from anatozoo.io.grid import Grid
from anatozoo.io.orientation import Orientation, tells_apex

_SAME_SCALE = 1e-3
"""Axes whose scale differs from 1 by at most this are not resampled."""


@dataclass(frozen=True, eq=False)
class StackFrame(Frame):
    """A frame that holds one slice for each slice of the image, which is scaled within the slices alone.

    Slices are not resampled, because a stack has few of them and its directions are oblique. They are in the
    order of `anatozoo.io.orientation.Orientation.of_heart`.
    """

    @classmethod
    def of_stack(cls, grid: Grid, shape: tuple[int, ...], long_side: int) -> Self:
        """Scale a stack so that the longer side of its slices has this many pixels.

        The field of view of cardiac MR is similar for all adults, so that hearts have a similar size even if
        the spacing is unknown. If pixels are known not to be square, the body keeps its proportions.

        Args:
            grid: the image's grid.
            shape: the frame's shape, (D, H, W).
            long_side: longer side of a slice in frame pixels.
        """
        turn = Orientation.of_heart(grid)
        size = np.asarray(turn.size(grid.size)[:2], dtype=np.float64)
        turned = turn.grid(grid).spacing_mm
        steps = np.ones(2) if turned is None else np.asarray(turned[:2])
        scale = steps * (long_side / (size * steps).max())
        return cls(grid, shape, np.diag([scale[0], scale[1], 1.0]) @ turn.turn)

    @property
    def order_known(self) -> bool:
        """Whether it is known which end of the stack is the base; True for a single slice."""
        return self.orientation.size(self.grid.size)[2] == 1 or tells_apex(self.grid)

    def reversed(self) -> Self:
        """The same frame with the slices in the reverse order."""
        return replace(self, matrix=np.diag([1.0, 1.0, -1.0]) @ self.matrix)

    def unreversed(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Values (..., D, H, W) of the reversed frame, in the order of this frame.

        Args:
            values: values in the reversed frame; a slice that it lacks gets those of a neighbour.
        """
        # Of an odd number of free or surplus slices, one more lies behind than before.
        odd = (self.shape[0] - self.orientation.size(self.grid.size)[2]) % 2
        place = np.arange(self.shape[0])[::-1] - odd
        result: npt.NDArray[Any] = np.take(values, place.clip(0), -3)
        return result

    @property
    def start(self) -> npt.NDArray[np.float64]:
        """Position in the frame of the first voxel, in the frame's order; slices align with slices."""
        result: npt.NDArray[np.float64] = super().start
        result[2] = math.floor((self.shape[0] - self.orientation.size(self.grid.size)[2]) / 2)
        return result


@dataclass(frozen=True, eq=False)
class VoxelFrame(Frame):
    """A frame that aligns voxels along the axes that keep their resolution.

    An offset of half a voxel would blur them needlessly.
    """

    @property
    def start(self) -> npt.NDArray[np.float64]:
        """Position in the frame of the first voxel, an integer along those axes."""
        result: npt.NDArray[np.float64] = super().start
        kept = np.isclose(self.scale, 1, atol=_SAME_SCALE)
        # If the centre lies between two voxels, always take the first, whatever the rounding error.
        result[kept] = np.floor(result[kept] + 0.25)
        return result


@dataclass(frozen=True, eq=False)
class FineFrame(Frame):
    """The frame of the fine slices that a network gives for the thick slices of its own frame.

    Attributes:
        first: position of the image's first pixel, see `start`.
    """

    first: npt.NDArray[np.float64]

    @classmethod
    def of_thick(cls, thick: Frame, factor: int, grid: Grid) -> Self:
        """Slice i of the thick frame becomes the fine slices ``factor * i`` and on.

        Args:
            thick: the frame of the thick slices.
            factor: fine slices for each of them.
            grid: what is asked for: the image's grid, or that with more slices in place of each, which is
                `anatozoo.tasks.restore.fine_grid`.
        """
        across = thick.orientation.axes[2]
        finer = grid.size[across] / thick.grid.size[across]
        per_pixel = np.ones(3)
        per_pixel[across] = finer
        matrix = np.diag([1.0, 1.0, factor]) @ thick.matrix / per_pixel
        # In thick slices, from the centre of the image's first slice to that of the first asked for.
        first = thick.start.copy()
        first[2] += thick.scale[2] * (1 / finer - 1) / 2
        first[2] = factor * first[2] + (factor - 1) / 2
        return cls(grid, (factor * thick.shape[0], *thick.shape[1:]), matrix, first)

    @property
    def start(self) -> npt.NDArray[np.float64]:
        """Position in the frame of the image's first pixel, in the frame's order."""
        return self.first


def fit_frame(grid: Grid, spec: FrameSpec, *, whole: bool = False) -> Frame:
    """The frame of a stack or volume, aligned with its voxels and slices where possible.

    Args:
        grid: the image's grid.
        spec: settings of the frame; ``"slices"`` gives a `StackFrame`, for the others see `Frame.fit`.
        whole: enlarge the frame if the image reaches beyond it.

    Raises:
        GeometryError: ``"spacing"`` for an image without spacing.
        ConfigError: ``"slices"`` in 2-D, or see `Frame.fit`.
    """
    frame: Frame
    if spec.fit == "slices":
        if grid.dims != 3:
            raise ConfigError("fit='slices' is for stacks of slices; choose pad, stretch or spacing in 2-D.")
        frame = StackFrame.of_stack(grid, spec.shape, spec.long_side or 0)
    else:
        if spec.fit == "spacing" and grid.spacing_mm is None:
            raise GeometryError(
                "this model works at a resolution in millimetres, but the image's spacing is unknown; give "
                "spacing_mm."
            )
        frame = VoxelFrame.fit(grid, spec)
    if not whole:
        return frame
    # A rounding error must not add a pixel.
    needed = np.ceil(np.abs(frame.matrix) @ np.asarray(grid.size) - 1e-6)[::-1]
    larger = tuple(max(side, int(own)) for side, own in zip(spec.shape, needed, strict=True))
    return type(frame)(grid, larger, frame.matrix)

"""The frame of a network: resampling of images into it, and of maps and fields out of it.

Positions are ``(x, y[, z])`` in pixels, integers at pixel centres; arrays are (H, W) or (D, H, W).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from anatozoo.errors import ConfigError, GeometryError
from anatozoo.frames.geometry import Geometry, interpolate_along
from anatozoo.frames.spec import FrameSpec
from anatozoo.io.grid import Grid
from anatozoo.io.intensity import Intensity, Range, to_unit_range
from anatozoo.io.orientation import Orientation

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Frame:
    """Affine map from the pixels of an image to a network's frame, centre on centre.

    Volumes with known directions are turned so that x, y and z run to the patient's left, back and head,
    along the nearest axis; oblique angles are kept. The content of the frame is therefore the same, bit for
    bit, for every order of storage.

    Attributes:
        grid: the image's grid.
        shape: the frame's shape, (H, W) or (D, H, W).
        matrix: (n, n), frame pixels per image pixel: a factor per axis, with axes exchanged or flipped.
    """

    grid: Grid
    shape: tuple[int, ...]
    matrix: Array

    @classmethod
    def fit(cls, grid: Grid, spec: FrameSpec) -> Self:
        """Choose the scale.

        Args:
            grid: the image's grid.
            spec: settings of the frame. ``"pad"`` resizes the image in proportion and pads it, ``"stretch"``
                resizes it to the frame, ``"spacing"`` resamples it and crops or pads.

        Raises:
            GeometryError: ``"spacing"`` for an image without spacing.
            ConfigError: the image has another number of dimensions, or the fit is ``"slices"``.
        """
        shape, fit, spacing_mm = spec.shape, spec.fit, spec.spacing_mm
        if len(shape) != grid.dims:
            raise ConfigError(f"a frame of {spec} does not take an image of {grid.dims} dimensions.")
        turn = Orientation.to_patient(grid).turn
        size = np.abs(turn) @ np.asarray(grid.size, dtype=np.float64)
        target = np.asarray(shape[::-1], dtype=np.float64)
        if fit == "stretch":
            scale = target / size
        elif fit == "pad":
            # Pixels need not be square: the body keeps its proportions, not the grid of pixels.
            steps = np.abs(turn) @ grid.proportions
            scale = steps * (target / (size * steps)).min()
        elif fit == "spacing":
            if not spacing_mm or len(spacing_mm) != grid.dims:
                raise ConfigError(f"fit='spacing' needs spacing_mm with {grid.dims} numbers.")
            if grid.spacing_mm is None:
                raise GeometryError(
                    "this model works at a resolution in millimetres, but the image's spacing is unknown; "
                    "give spacing_mm, or of a pair moving_spacing_mm and fixed_spacing_mm."
                )
            scale = np.abs(turn) @ grid.spacing_mm / np.asarray(spacing_mm)
        else:
            raise ConfigError(f"fit={fit!r} is unknown; choose pad, stretch or spacing.")
        return cls(grid, shape, scale[:, None] * turn)

    @cached_property
    def orientation(self) -> Orientation:
        """The order of the image's axes in the frame."""
        return Orientation.of_turn(self.matrix)

    @property
    def scale(self) -> Array:
        """(n,): frame pixels per image pixel along each axis of the frame."""
        result: Array = np.abs(self.matrix).sum(1)
        return result

    @property
    def start(self) -> Array:
        """Position in the frame of the image's first pixel, in the frame's order."""
        size = np.asarray(self.orientation.size(self.grid.size))
        result: Array = (np.asarray(self.shape[::-1]) - 1) / 2 - self.scale * ((size - 1) / 2)
        return result

    @property
    def offset(self) -> Array:
        """Position in the frame of the image's first pixel."""
        first = self.orientation.points(np.zeros(self.grid.dims), self.grid.size)
        result: Array = self.start + self.scale * first
        return result

    @property
    def spacing_mm(self) -> tuple[float, ...] | None:
        """Millimetres per pixel of the frame along its own axes; None for images without spacing."""
        if self.grid.spacing_mm is None:
            return None
        per_mm = np.abs(self.matrix) @ (1 / np.asarray(self.grid.spacing_mm))
        return tuple(float(step) for step in 1 / per_mm)

    @property
    def cuts(self) -> bool:
        """Whether the image reaches beyond the frame by more than half a pixel."""
        size = np.abs(self.matrix) @ np.asarray(self.grid.size)
        return bool((size > np.asarray(self.shape[::-1]) + 1).any())

    def image(
        self,
        pixels: npt.NDArray[np.float32],
        intensity: Intensity = "percentiles",
        black_white: Range | None = None,
    ) -> npt.NDArray[np.float32]:
        """An image in the frame, in [0, 1] by `anatozoo.io.intensity.to_unit_range`, 0 around it."""
        flat = to_unit_range(self.orientation.apply(pixels), intensity, black_white)
        if self.grid.dims == 2:
            return self.geometry.image_to_target(flat)
        return self.resample(self.smooth(flat, "nearest"), 1).astype(np.float32)

    def shares(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Shares or probabilities (D, H, W) in the frame, 0 around them."""
        turned = self.orientation.apply(values)
        result: npt.NDArray[np.float32] = self.resample(self.smooth(turned, "constant"), 1)
        return result

    def labels(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A label map in the frame, nearest neighbour, 0 around it."""
        if self.grid.dims == 2:
            return self.geometry.mask_to_target(values)
        return self.resample(self.orientation.apply(values), 0)

    def to_source(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Smooth values of the frame, such as probabilities, on the image's grid; 0 beyond the frame."""
        from scipy.ndimage import affine_transform

        turned: npt.NDArray[np.float32] = affine_transform(
            values,
            np.diag(self.scale[::-1]),
            self.start[::-1],
            output_shape=self.orientation.size(self.grid.size)[::-1],
            order=1,
            mode="grid-constant",
        )
        return self.orientation.undo(turned)

    @property
    def geometry(self) -> Geometry:
        """The map of a 2-D frame as a `Geometry`, which resamples images, masks and points."""
        scale, size = np.diag(self.matrix), np.asarray(self.grid.size)
        corner = (np.asarray(self.shape[::-1]) - size * scale) / 2
        width, height = self.grid.size
        return Geometry((width, height), (self.shape[1], self.shape[0]), tuple(scale), tuple(corner))

    def smooth(self, turned: npt.NDArray[np.float32], mode: str, least: float = 1.0) -> npt.NDArray[Any]:
        """Blur a volume against aliasing, about as much as averaging over each frame voxel.

        Args:
            turned: (D, H, W) in the order of the frame, see `orientation`.
            mode: values beyond its border, ``"nearest"`` or ``"constant"``.
            least: axes with at least this scale are not blurred.
        """
        from scipy.ndimage import gaussian_filter

        scale = self.scale[::-1]  # along the axes of the array
        if not (scale < least).any():
            return turned
        result: npt.NDArray[Any] = gaussian_filter(turned, np.where(scale < 1, 0.4 / scale, 0.0), mode=mode)
        return result

    def resample(self, turned: npt.NDArray[Any], order: int, mode: str = "grid-constant") -> npt.NDArray[Any]:
        """A volume in the frame.

        Args:
            turned: (D, H, W) in the order of the frame, see `orientation`.
            order: 0 uses the nearest voxel, 1 interpolates linearly.
            mode: values around it: ``"grid-constant"`` is 0, ``"nearest"`` repeats its border.
        """
        from scipy.ndimage import affine_transform

        back = np.linalg.inv(np.diag(self.scale))
        first = -back @ self.start
        result: npt.NDArray[Any] = affine_transform(
            turned, back[::-1, ::-1], first[::-1], output_shape=self.shape, order=order, mode=mode
        )
        return result


def displacement_between(
    field: npt.NDArray[np.floating[Any]], moving: Frame, fixed: Frame
) -> npt.NDArray[np.float32]:
    """Convert a field of the frame to a field between the images.

    Args:
        field: ``(n, *frame shape)`` frame pixels, axes in the order of the array.
        moving: the moving image's frame.
        fixed: the fixed image's frame, of the same shape.

    Returns:
        ``(*fixed shape, n)`` float32: displacement from a fixed pixel to its position in moving pixels,
        (x, y[, z]). Beyond the frame, the field keeps its value at the border.
    """
    dims, size = fixed.grid.dims, fixed.grid.size
    index = [np.arange(side, dtype=np.float64) for side in size]
    # Frame axis i runs along one axis of the fixed image, so that places on it are a line, and the field is
    # interpolated along one axis after another.
    along = np.abs(fixed.matrix).argmax(1)
    lines = [fixed.matrix[i, j] * index[j] + fixed.offset[i] for i, j in enumerate(along)]
    order = [dims - 1 - along.tolist().index(j) for j in reversed(range(dims))]
    back = np.linalg.inv(moving.matrix)
    result = np.empty((*fixed.grid.shape, dims), np.float32)
    for to, i in enumerate(np.abs(back).argmax(1)):
        values = field[dims - 1 - i].astype(np.float64)
        for axis in range(dims):
            values = interpolate_along(values, lines[dims - 1 - axis], axis)
        place = values.transpose(order)
        place += _along_axis(lines[i] - moving.offset[i], along[i], dims)
        place *= back[to, i]
        result[..., to] = place - _along_axis(index[to], to, dims)
    return result


def _along_axis(line: Array, axis: int, dims: int) -> Array:
    """A line of values along an axis, counted (x, y[, z]), of an array of so many dimensions."""
    return line.reshape([-1 if dims - 1 - axis == a else 1 for a in range(dims)])

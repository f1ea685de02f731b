"""Crop, pad and resize as one object: forward and back, for points, images and masks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import cv2
import numpy as np
import numpy.typing as npt

from anatozoo.errors import GeometryError

Pair = tuple[float, float]
Size = tuple[int, int]

_FIELDS = ("source_size", "target_size", "scale", "offset")
_EMPTY_WIDTH = 1e-9


@dataclass(frozen=True)
class Geometry:
    """Axis-aligned affine map from the pixels of a source image to those of a target frame.

    Points are ``(x, y)`` with integers at pixel centres, hence per axis
    ``target = (source + 0.5) * scale + offset - 0.5``.

    Attributes:
        source_size: ``(width, height)`` of the source image in pixels.
        target_size: ``(width, height)`` of the target frame in pixels.
        scale: target pixels per source pixel, ``(sx, sy)``, positive.
        offset: position of the source image's outer left and top edges in the target, in target pixels.

    Raises:
        GeometryError: a size is not positive, or a scale or offset is not finite.
    """

    source_size: Size
    target_size: Size
    scale: Pair
    offset: Pair

    def __post_init__(self) -> None:
        for name in ("source_size", "target_size"):
            object.__setattr__(self, name, _checked_size(name, getattr(self, name)))
        for name in ("scale", "offset"):
            object.__setattr__(self, name, _checked_pair(name, getattr(self, name)))
        if min(self.scale) <= 0:
            raise GeometryError(f"scale must be positive, not {self.scale}.")

    @classmethod
    def fit(
        cls,
        source_size: Size,
        target_size: Size,
        *,
        crop: tuple[int, int, int, int] | None = None,
        mode: Literal["pad", "stretch"] = "pad",
        aspect: float = 1.0,
    ) -> Self:
        """Fit an image, or a crop of it, into a target frame.

        Args:
            source_size: ``(width, height)`` of the image in pixels.
            target_size: ``(width, height)`` of the frame in pixels.
            crop: ``(left, top, right, bottom)`` in source pixels, right and bottom exclusive; the part
                to fit. It may reach beyond the image. ``None`` takes the whole image.
            mode: ``"pad"`` keeps the proportions of the body and centres; ``"stretch"`` fills the frame.
            aspect: height over width of a source pixel; target pixels are square with ``"pad"``.

        Raises:
            GeometryError: a size or the aspect is not positive, the crop is empty or the mode is unknown.
        """
        source_size = _checked_size("source_size", source_size)
        target_size = _checked_size("target_size", target_size)
        left, top, right, bottom = crop if crop is not None else (0, 0, *source_size)
        if right <= left or bottom <= top:
            raise GeometryError(f"crop {crop} is empty; give (left, top, right, bottom) in pixels.")
        sx, sy = target_size[0] / (right - left), target_size[1] / (bottom - top)
        if not 0 < aspect < math.inf:
            raise GeometryError(f"aspect must be positive, not {aspect!r}; 1 for square pixels.")
        if mode == "pad":
            sx = min(sx, sy / aspect)
            sy = sx * aspect
        elif mode != "stretch":
            raise GeometryError(f"mode must be 'pad' or 'stretch', not {mode!r}.")
        offset = (
            (target_size[0] - (left + right) * sx) / 2,
            (target_size[1] - (top + bottom) * sy) / 2,
        )
        return cls(source_size, target_size, (sx, sy), offset)

    def points_to_target(self, xy: Any) -> Any:
        """Map points ``(..., 2)`` from source to target pixels.

        Args:
            xy: array-like (result: float64 array) or a floating torch tensor (result: same dtype, device).

        Raises:
            GeometryError: the last axis does not hold x and y.
        """
        xy, scale, offset = self._operands(xy)
        return (xy + 0.5) * scale + (offset - 0.5)

    def points_to_source(self, xy: Any) -> Any:
        """Map points ``(..., 2)`` from target to source pixels; the inverse of `points_to_target`.

        Raises:
            GeometryError: the last axis does not hold x and y.
        """
        xy, scale, offset = self._operands(xy)
        return (xy - (offset - 0.5)) / scale - 0.5

    def image_to_target(self, image: npt.ArrayLike, fill: float = 0.0) -> npt.NDArray[np.float32]:
        """Resample a source image onto the target frame.

        Shrinking averages over each target pixel's area (no aliasing); enlarging is bilinear. Both keep
        intensities exactly where `points_to_target` puts them.

        Args:
            image: ``(H, W)`` of `source_size`, any real dtype.
            fill: value outside the image.

        Returns:
            ``(h, w)`` float32 of `target_size`.

        Raises:
            GeometryError: the image is not of `source_size`.
        """
        pixels = np.asarray(image)
        self._check_shape(pixels, self.source_size, "image")
        # The sum over any rectangle is four look-ups in the integral image, and a linear look-up between
        # its nodes counts pixels that are partly inside: an exact area average at any scale and offset.
        integral = cv2.integral(pixels.astype(np.float32, copy=False), sdepth=cv2.CV_64F)
        rows, columns = self._footprint(1), self._footprint(0)
        sums = rows.box_sums(np.asarray(integral, dtype=np.float64), axis=0)
        sums = columns.box_sums(sums, axis=1)
        mean = sums / (rows.box_width[:, None] * columns.box_width[None, :])
        inside = rows.inside[:, None] * columns.inside[None, :]
        return (mean * inside + fill * (1.0 - inside)).astype(np.float32)

    def mask_to_target(self, labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Resample labels ``(H, W)`` onto the target frame, nearest neighbour, 0 outside the image.

        Raises:
            GeometryError: the array is not of `source_size`.
        """
        self._check_shape(labels, self.source_size, "label map")
        return _nearest(labels, *self._target_grid_in_source())

    def image_to_source(self, image: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Resample smooth values of the target frame, such as probabilities, onto the source grid.

        Linear if the source is the finer grid, an average over each source pixel's area if it is coarser;
        0 beyond the frame.

        Args:
            image: ``(h, w)`` of `target_size`, any real dtype.

        Returns:
            ``(H, W)`` float32 of `source_size`.

        Raises:
            GeometryError: the array is not of `target_size`.
        """
        values = np.asarray(image)
        self._check_shape(values, self.target_size, "image")
        if min(self.scale) > 1:
            (sx, sy), (ox, oy) = self.scale, self.offset
            back = Geometry(self.target_size, self.source_size, (1 / sx, 1 / sy), (-ox / sx, -oy / sy))
            return back.image_to_target(values)
        xs, ys = (p.astype(np.float32) for p in self._source_grid_in_target())
        # Columns first: most of the work is then copying whole rows, which is fast.
        result = interpolate_along(interpolate_along(values.astype(np.float32), xs, axis=1), ys, axis=0)
        result[(ys < -0.5) | (ys > values.shape[0] - 0.5)] = 0
        result[:, (xs < -0.5) | (xs > values.shape[1] - 0.5)] = 0
        return result

    def to_dict(self) -> dict[str, list[float]]:
        """The four fields as JSON values."""
        return {name: list(getattr(self, name)) for name in _FIELDS}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The geometry from `to_dict`.

        Raises:
            GeometryError: a field is missing, unknown or malformed.
        """
        if set(values) != set(_FIELDS):
            raise GeometryError(f"a geometry has the fields {_FIELDS}, not {sorted(values)}.")
        return cls(**{name: values[name] for name in _FIELDS})

    def _operands(self, xy: Any) -> tuple[Any, Any, Any]:
        """Bring points, scale and offset to one array type."""
        is_tensor = hasattr(xy, "new_tensor")
        points: Any = xy if is_tensor else np.asarray(xy, dtype=np.float64)
        if points.ndim == 0 or points.shape[-1] != 2:
            raise GeometryError(f"points have shape (..., 2), not {tuple(points.shape)}.")
        if is_tensor:
            if not points.is_floating_point():
                raise GeometryError(f"points must be floating-point, not {points.dtype}.")
            return points, points.new_tensor(self.scale), points.new_tensor(self.offset)
        return points, np.asarray(self.scale), np.asarray(self.offset)

    def _footprint(self, axis: int) -> _Footprint:
        return _Footprint.of(
            self.source_size[axis], self.target_size[axis], self.scale[axis], self.offset[axis]
        )

    def _source_grid_in_target(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Target x of every source column and target y of every source row."""
        (width, height), (sx, sy), (ox, oy) = self.source_size, self.scale, self.offset
        xs = (np.arange(width, dtype=np.float64) + 0.5) * sx + ox - 0.5
        ys = (np.arange(height, dtype=np.float64) + 0.5) * sy + oy - 0.5
        return xs, ys

    def _target_grid_in_source(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Source x of every target column and source y of every target row."""
        (width, height), (sx, sy), (ox, oy) = self.target_size, self.scale, self.offset
        xs = (np.arange(width, dtype=np.float64) + 0.5 - ox) / sx - 0.5
        ys = (np.arange(height, dtype=np.float64) + 0.5 - oy) / sy - 0.5
        return xs, ys

    @staticmethod
    def _check_shape(array: npt.NDArray[Any], size: Size, what: str) -> None:
        if array.shape != (size[1], size[0]):
            raise GeometryError(
                f"the {what} has shape {array.shape}, but this geometry is for {(size[1], size[0])} "
                "(height, width); use the geometry made for this image."
            )


@dataclass(frozen=True, eq=False)
class _Footprint:
    """Along one axis, the interval of the source over which each of the ``n`` target pixels averages.

    Attributes:
        edges: edges of the averaged boxes, in source pixels from the image's outer edge: the first ``n``
            are lower edges, the last ``n`` upper ones. Boxes that touch share theirs (``n + 1`` in all).
        box_width: width of each box within the image (1 for boxes outside, as divisor).
        inside: share of each target pixel within the image, in [0, 1].
    """

    edges: npt.NDArray[np.float64]
    box_width: npt.NDArray[np.float64]
    inside: npt.NDArray[np.float64]

    @classmethod
    def of(cls, source: int, target: int, scale: float, offset: float) -> Self:
        edges = np.clip((np.arange(target + 1) - offset) / scale, 0, source)
        inside = np.clip(np.diff(edges) * scale, 0.0, 1.0)
        if scale > 1:
            # A box one source pixel wide over piecewise constant pixels is linear interpolation. Enlarging is
            # therefore bilinear, and the axes may differ.
            centres = (np.arange(target) + 0.5 - offset) / scale
            edges = np.clip(np.concatenate([centres - 0.5, centres + 0.5]), 0, source)
        width = edges[-target:] - edges[:target]
        empty = width < _EMPTY_WIDTH
        return cls(edges, np.where(empty, 1.0, width), np.where(empty, 0.0, inside))

    def box_sums(self, cumulative: npt.NDArray[np.float64], axis: int) -> npt.NDArray[np.float64]:
        """Sum over each box, from cumulative sums whose node ``k`` is the edge before pixel ``k``."""
        nodes = np.moveaxis(interpolate_along(cumulative, self.edges, axis), axis, 0)
        count = len(self.box_width)
        return np.moveaxis(nodes[-count:] - nodes[:count], 0, axis)


def interpolate_along(values: npt.NDArray[Any], positions: npt.NDArray[Any], axis: int) -> npt.NDArray[Any]:
    """Interpolate linearly along one axis at float indices, clamped to the ends; keeps the type of values."""
    positions = np.clip(positions, 0, values.shape[axis] - 1)
    lower = np.minimum(positions.astype(np.intp), max(values.shape[axis] - 2, 0))
    upper = np.minimum(lower + 1, values.shape[axis] - 1)
    weight = (positions - lower).reshape([-1 if a == axis else 1 for a in range(values.ndim)])
    steps = np.diff(lower)
    if not weight.any() and len(steps) and steps[0] > 0 and (steps == steps[0]).all():
        # Nodes at whole steps, as from 1024 pixels to 512, are there already.
        every = slice(int(lower[0]), int(lower[-1]) + 1, int(steps[0]))
        return values[tuple(every if a == axis else slice(None) for a in range(values.ndim))]
    result = np.take(values, lower, axis=axis)
    if weight.any():  # integer positions are common and take half the time
        result += weight * (np.take(values, upper, axis=axis) - result)
    return result


def _nearest(
    labels: npt.NDArray[Any], xs: npt.NDArray[np.float64], ys: npt.NDArray[np.float64]
) -> npt.NDArray[Any]:
    """Look up labels at the pixel nearest to each column and row position, 0 outside."""
    # Half-way positions are rounded up, floor(x + 0.5): np.rint would alternate and double some rows.
    columns, rows = (np.floor(p + 0.5).astype(np.intp) for p in (xs, ys))
    height, width = labels.shape
    result = labels[np.ix_(np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1))]
    result[(rows < 0) | (rows >= height)] = 0
    result[:, (columns < 0) | (columns >= width)] = 0
    return result


def _checked_size(name: str, size: Any) -> Size:
    """The size as two positive ints."""
    width, height = _checked_pair(name, size)
    if width < 1 or height < 1 or width != int(width) or height != int(height):
        raise GeometryError(f"{name} must be two positive whole numbers (width, height), not {size}.")
    return int(width), int(height)


def _checked_pair(name: str, pair: Any) -> Pair:
    """The pair as two finite floats."""
    try:
        first, second = (float(value) for value in pair)
    except (TypeError, ValueError) as error:
        raise GeometryError(f"{name} must be two numbers (x, y), not {pair!r}.") from error
    if not (math.isfinite(first) and math.isfinite(second)):
        raise GeometryError(f"{name} must be finite, not {pair!r}.")
    return first, second

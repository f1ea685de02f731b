"""Images with their place in space, 2-D or 3-D."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from anatozoo.errors import GeometryError
from anatozoo.io.nifti_space import UNIT_ASSUMED

if TYPE_CHECKING:
    from anatozoo.io.dicom_source import DicomSource


@dataclass(frozen=True)
class Grid:
    """Where the pixels of an image lie: ``physical = origin + direction @ (spacing * index)``, as in ITK.

    Indices and sizes are ``(x, y[, z])``, whole numbers being pixel centres.

    Attributes:
        size: pixels along each axis.
        spacing_mm: millimetres per pixel, None where unknown; physical coordinates are then in pixels.
        origin: physical position of the first pixel's centre; None is zero.
        direction: rows of the n × n matrix whose columns are the axes' directions; None is the identity.
        stored: the steps as a file states them without a unit, None where it states one or nothing.
        remarks: flags of what the file leaves in doubt, as ``spacing_unit_assumed_mm``.
        aspect: height over width of a pixel in 2-D, where the spacing is unknown; in 3-D always 1.

    Raises:
        GeometryError: the numbers are of different dimensions, a size or spacing is not positive, or the
            directions do not span the space.
    """

    size: tuple[int, ...]
    spacing_mm: tuple[float, ...] | None = None
    origin: tuple[float, ...] | None = None
    direction: tuple[float, ...] | None = None
    stored: tuple[float, ...] | None = field(default=None, compare=False, repr=False)
    remarks: tuple[str, ...] = field(default=(), compare=False, repr=False)
    aspect: float = 1.0

    def __post_init__(self) -> None:
        n = len(self.size)
        if n not in (2, 3) or any(int(s) != s or s < 1 for s in self.size):
            raise GeometryError(f"size must be two or three positive whole numbers, not {self.size!r}.")
        object.__setattr__(self, "size", tuple(int(s) for s in self.size))
        for name, count in (("spacing_mm", n), ("origin", n), ("direction", n * n)):
            value = getattr(self, name)
            if value is None:
                continue
            numbers = tuple(float(v) for v in value)
            if len(numbers) != count or not all(math.isfinite(v) for v in numbers):
                raise GeometryError(f"{name} must be {count} finite numbers in {n}-D, not {value!r}.")
            object.__setattr__(self, name, numbers)
        if self.spacing_mm is not None and min(self.spacing_mm) <= 0:
            raise GeometryError(f"spacing_mm must be positive, not {self.spacing_mm!r}; None if unknown.")
        if not 0 < self.aspect < math.inf:
            raise GeometryError(f"aspect must be positive, not {self.aspect!r}; 1 for square pixels.")
        if abs(np.linalg.det(self.axes)) < 1e-6:
            raise GeometryError(f"the directions {self.direction!r} do not span the space.")

    @property
    def dims(self) -> int:
        """2 or 3."""
        return len(self.size)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array: (H, W) or (D, H, W)."""
        return self.size[::-1]

    @property
    def axes(self) -> npt.NDArray[np.float64]:
        """Direction of each axis, one column each; the identity where unknown."""
        n = self.dims
        return np.eye(n) if self.direction is None else np.asarray(self.direction).reshape(n, n)

    @property
    def proportions(self) -> npt.NDArray[np.float64]:
        """How long a pixel is along each axis: in millimetres, or where that is unknown against its width."""
        if self.spacing_mm is not None:
            return np.asarray(self.spacing_mm)
        return np.array([1.0, self.aspect]) if self.dims == 2 else np.ones(self.dims)

    @property
    def steps(self) -> npt.NDArray[np.float64]:
        """(n, n): the physical step from one pixel to the next along each axis, one column each."""
        return self.axes * (1.0 if self.spacing_mm is None else np.asarray(self.spacing_mm))

    def to_physical(self, index: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Physical positions (..., n) of pixel positions (..., n)."""
        return np.asarray(index) @ self.steps.T + (0.0 if self.origin is None else np.asarray(self.origin))

    def with_spacing(self, spacing_mm: float | Sequence[float]) -> Grid:
        """The same grid with another spacing, one number or (x, y[, z]).

        Raises:
            GeometryError: it is not positive, or has another number of dimensions.
        """
        values = (spacing_mm,) * self.dims if isinstance(spacing_mm, int | float) else spacing_mm
        remarks = tuple(flag for flag in self.remarks if flag != UNIT_ASSUMED)
        return replace(self, spacing_mm=tuple(float(step) for step in values), remarks=remarks)

    def in_pixels(self) -> Grid:
        """The same grid with everything about space forgotten but, in 2-D, the proportions of a pixel."""
        if self.dims == 3:
            return Grid(self.size)
        width, height = self.proportions
        return Grid(self.size, aspect=float(height / width))

    def to_dict(self) -> dict[str, list[float] | None]:
        """The four fields as JSON values."""
        names = ("size", "spacing_mm", "origin", "direction")
        values = {name: getattr(self, name) for name in names}
        return {name: None if value is None else list(value) for name, value in values.items()}

    def differs_from(self, other: Grid) -> str | None:
        """Differences between two grids, in words; None if there are none. Unknown values never differ.

        Steps without a unit are compared with one another as they are stored.
        """
        if self.size != other.size:
            return f"{' x '.join(map(str, self.size))} against {' x '.join(map(str, other.size))} pixels"
        for name in ("spacing_mm", "origin", "direction"):
            a, b = getattr(self, name), getattr(other, name)
            if a is not None and b is not None and not np.allclose(a, b, rtol=1e-3, atol=1e-3):
                return f"{name} {a} against {b}"
        a, b = self.stored, other.stored
        if a is not None and b is not None and not np.allclose(a, b, rtol=1e-3, atol=1e-3):
            return f"spacing {a} against {b}, of no unit"
        return None


@dataclass(frozen=True, eq=False)
class GridImage:
    """An image as read, with its grid.

    Attributes:
        pixels: (H, W) or (D, H, W) float32, finite, in the units of the source; 2-D radiographs bone white.
        grid: where the pixels lie.
        name: file name without its suffix, or ``"array"``.
        source: the path as given, None for an image from memory.
        flags: remarks of the reader.
        black_white: what stands for black and white in `pixels`; None finds it from them, see
            `anatozoo.io.intensity.full_scale`.
        dicom: the DICOM instances that it was read from; None of anything else.
    """

    pixels: npt.NDArray[np.float32]
    grid: Grid
    name: str = "array"
    source: str | None = None
    flags: tuple[str, ...] = ()
    black_white: tuple[float, float] | None = None
    dicom: DicomSource | None = None

    def with_spacing(self, spacing_mm: float | Sequence[float]) -> GridImage:
        """The same image with another spacing, one number or (x, y[, z]), which nobody assumed.

        Raises:
            GeometryError: it is not positive, or has another number of dimensions.
        """
        flags = tuple(flag for flag in self.flags if flag != UNIT_ASSUMED)
        return replace(self, grid=self.grid.with_spacing(spacing_mm), flags=flags)


def grid_of_itk(image: Any) -> Grid:
    """The grid of a SimpleITK image."""
    return Grid(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())


def itk_image(values: npt.NDArray[Any], grid: Grid, *, vector: bool = False) -> Any:
    """A SimpleITK image of an array on a grid.

    Args:
        values: ``(*shape)``, or ``(*shape, n)`` with `vector`.
        grid: where it lies; where the spacing is unknown, ITK's 1.
        vector: whether the last axis holds the components of vectors.
    """
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.ascontiguousarray(values), isVector=vector)
    if grid.spacing_mm is not None:
        image.SetSpacing(grid.spacing_mm)
    if grid.origin is not None:
        image.SetOrigin(grid.origin)
    if grid.direction is not None:
        image.SetDirection(grid.direction)
    return image

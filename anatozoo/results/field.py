"""The result of a registration model: a field, with warping, metrics and export."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from anatozoo.errors import ConfigError, GeometryError
from anatozoo.io.grid import Grid, itk_image
from anatozoo.results.base import Formats, Names, Result, read_only, write_json, write_picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Kind = Literal["auto", "labels", "image", "points"]
_NEAR_PX = 1e-3
_INVERSE_ROUNDS = 100


def _write_field(result: RegistrationResult, path: Path) -> Path:
    from anatozoo.io.writers import write_itk

    return write_itk(path, result.field_image(), units_known=result.is_metric)


def _write_warped(result: RegistrationResult, path: Path) -> Path:
    from anatozoo.io.writers import write_itk

    return write_itk(path, itk_image(result.warped, result.fixed_grid), units_known=result.is_metric)


@dataclass(frozen=True, eq=False, repr=False)
class RegistrationResult(Result):
    """A field that maps positions of the fixed image to positions of the moving one.

    ``moving position = fixed pixel + displacement_px[fixed pixel]``, in pixels of the moving image; positions
    are ``(x, y[, z])`` with integers at pixel centres, while arrays are ``(H, W)`` or ``(D, H, W)``. If the
    two grids differ, the displacement includes the map from one grid to the other.

    `save` knows ``"field"`` (``_displacement.nii.gz``) and ``"mha"`` (``_displacement.mha``), the
    displacement in millimetres on the fixed grid, which SimpleITK, ITK-SNAP and Slicer read as such;
    ``"warped"`` (``_warped.nii.gz``), ``"json"``, and ``"png"`` (``_registration.png``, the plot).

    Attributes:
        checkpoint: name of the checkpoint.
        version: version of the checkpoint.
        moving: path or name of the moving image.
        fixed: path or name of the fixed image.
        moving_grid: grid of the moving image.
        fixed_grid: grid of the fixed image.
        displacement_px: ``(*fixed shape, n)`` float32, read-only.
        alignment: ``(n, n)``, moving pixels per fixed pixel without deformation; the identity for images of
            one size.
        moving_pixels: the moving image, float32, read-only.
        fixed_pixels: the fixed image, float32, read-only.

    Raises:
        GeometryError: shapes contradict, numbers are not finite, or only one of the spacings is known.
    """

    formats: ClassVar[Formats] = Formats(
        "registrations",
        {
            "field": {"_displacement.nii.gz": _write_field},
            "mha": {"_displacement.mha": _write_field},
            "warped": {"_warped.nii.gz": _write_warped},
            "json": {".json": write_json},
            "png": {"_registration.png": write_picture},
        },
        default=("field", "warped", "json", "png"),
    )
    head: ClassVar[Names] = ("checkpoint", "version", "moving", "fixed", "moving_grid", "fixed_grid", "flags")

    checkpoint: str
    version: str
    moving: str
    fixed: str
    moving_grid: Grid
    fixed_grid: Grid
    displacement_px: npt.NDArray[np.float32] = field(repr=False)
    alignment: npt.NDArray[np.float64] = field(repr=False)
    moving_pixels: npt.NDArray[np.float32] = field(repr=False)
    fixed_pixels: npt.NDArray[np.float32] = field(repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        n = self.fixed_grid.dims
        if self.moving_grid.dims != n:
            raise GeometryError(f"a {self.moving_grid.dims}-D image cannot be registered to a {n}-D one.")
        if (self.moving_grid.spacing_mm is None) != (self.fixed_grid.spacing_mm is None):
            raise GeometryError("one image has a spacing and the other has none; give both or neither.")
        shapes = {
            "displacement_px": (*self.fixed_grid.shape, n),
            "alignment": (n, n),
            "moving_pixels": self.moving_grid.shape,
            "fixed_pixels": self.fixed_grid.shape,
        }
        for name, shape in shapes.items():
            kind = np.float64 if name == "alignment" else np.float32
            array = np.asarray(getattr(self, name), dtype=kind).view()
            if array.shape != shape or not np.isfinite(array).all():
                raise GeometryError(f"{name} must be finite and of shape {shape}, not {array.shape}.")
            self._put(**{name: read_only(array)})

    @property
    def stem(self) -> str:
        """Start of the names of its files: ``MOVING_to_FIXED``."""
        from anatozoo.io.files import stem_of

        return "_to_".join(stem_of(Path(name)) or "array" for name in (self.moving, self.fixed))

    @property
    def about(self) -> str:
        """Size and spacing of the fixed image."""
        from anatozoo.results.words import size_words

        return size_words(self.fixed_grid.size, self.fixed_grid.spacing_mm)

    @property
    def dims(self) -> int:
        """2 or 3."""
        return self.fixed_grid.dims

    @property
    def is_metric(self) -> bool:
        """Whether the spacings are known."""
        return self.fixed_grid.spacing_mm is not None

    def _positions(self) -> npt.NDArray[np.float64]:
        """Position of each fixed pixel in the moving image, ``(*fixed shape, n)`` moving pixels."""
        return np.stack(self._places()[::-1], -1)

    def _places(self) -> list[npt.NDArray[np.float64]]:
        """`_positions` along each axis of the array, (*fixed shape) each."""
        axes = np.indices(self.fixed_grid.shape, np.float64, sparse=True)
        return [axis + self.displacement_px[..., -1 - i] for i, axis in enumerate(axes)]

    def _physical(self) -> npt.NDArray[np.float64]:
        """Displacement in physical coordinates: millimetres, or pixels without spacing."""
        positions = self._positions()
        here = self.fixed_grid.to_physical(positions - self.displacement_px)
        return self.moving_grid.to_physical(positions) - here

    @property
    def deformation_px(self) -> npt.NDArray[np.float64]:
        """``(*fixed shape, n)``: the displacement without the alignment of the grids, in fixed pixels.

        Zero where the model only aligned the frames of the two images.
        """
        return (self._positions() - self._aligned()) @ np.linalg.inv(self.alignment).T

    @property
    def displacement_mm(self) -> npt.NDArray[np.float64] | None:
        """``(*fixed shape, n)`` millimetres in the space of origins and directions; None without spacings."""
        return self._physical() if self.is_metric else None

    @cached_property
    def warped(self) -> npt.NDArray[np.float32]:
        """The moving image on the fixed grid, float32; beyond its border its smallest value."""
        return read_only(self._sample(self.moving_pixels, linear=True))

    @cached_property
    def jacobian(self) -> npt.NDArray[np.float32]:
        """Jacobian determinant of the deformation at each fixed pixel.

        1 without deformation, whatever the sizes of the images; 0 or less where the field folds.
        """
        slopes = [np.gradient(self._positions(), axis=a) for a in reversed(range(self.dims))]
        determinant = np.linalg.det(np.stack(slopes, -1)) / np.linalg.det(self.alignment)
        return read_only(determinant.astype(np.float32))

    @property
    def folding_fraction(self) -> float:
        """Share of the fixed pixels where the field folds: the Jacobian determinant is not positive."""
        return float(np.mean(self.jacobian <= 0))

    def warp(self, x: Any, kind: Kind = "auto") -> npt.NDArray[Any]:
        """Warp labels, an image or points of the moving image to the fixed one.

        Args:
            x: a label map or image on the moving grid (array, tensor, path, PIL or SimpleITK image), or
                points (N, n) in pixels of the moving image.
            kind: ``"labels"`` uses the nearest pixel; ``"image"`` interpolates; ``"points"``. ``"auto"``
                takes integers, booleans and files as labels, floating-point numbers as an image, and (N, n)
                as points: use ``"image"`` for images of 8 or 16 bits.

        Returns:
            Labels or image on the fixed grid, labels in their type; beyond the moving image's border 0, or
            the image's smallest value. Points (N, n) float64 in pixels of the fixed image, NaN for points
            outside it. An empty mask stays empty.

        Raises:
            GeometryError: the grid is not that of the moving image.
            ImageError: `x` cannot be read.
            ConfigError: `kind` is unknown.
        """
        from anatozoo.io.read import read_grid_image, read_labels

        if kind not in ("auto", "labels", "image", "points"):
            raise ConfigError(f"kind={kind!r} is unknown; choose auto, labels, image or points.")
        is_path = isinstance(x, str | os.PathLike)
        shape = None if is_path else getattr(x, "shape", None)
        if kind == "auto":
            is_list = shape is not None and len(shape) == 2 and shape[1] == self.dims
            if shape is not None and is_list and tuple(shape) != self.moving_grid.shape:
                kind = "points"
            else:
                kind = "image" if _is_floating(x) else "labels"
        if kind == "points":
            return self._points_to_fixed(_checked_points(x, self.dims))
        if kind == "labels":
            values, grid = read_labels(x, self.dims)
            self._require_moving(grid)
            return self._sample(values, linear=False)
        if isinstance(x, np.ndarray):
            # Any numeric map is accepted, including binary and constant ones.
            self._require_moving(Grid(x.shape[::-1]))
            return self._sample(x.astype(np.float32), linear=True)
        image = read_grid_image(x, self.dims, allow_any_modality=True)
        self._require_moving(image.grid)
        return self._sample(image.pixels, linear=True)

    def points_to_moving(self, points: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Positions in the moving image of points (N, n) of the fixed one, in pixels of each.

        The field is interpolated linearly; beyond the fixed image its border is repeated.
        """
        xy = _checked_points(points, self.dims)
        return xy + self._displacement_at(xy)

    def _require_moving(self, grid: Grid) -> None:
        if difference := self.moving_grid.differs_from(grid):
            raise GeometryError(
                f"this lies on another grid than the moving image ({difference}); resample it to that first."
            )

    def _sample(self, values: npt.NDArray[Any], *, linear: bool) -> npt.NDArray[Any]:
        from scipy.ndimage import map_coordinates

        places = self._places()
        # As in ITK, an image ends at the outer edges of its pixels.
        inside = np.logical_and.reduce(
            [(p >= -0.5) & (p < side - 0.5) for p, side in zip(places, values.shape, strict=True)]
        )
        if linear:
            fill = values.min()
            found = map_coordinates(values, places, order=1, mode="nearest", output=np.float32)
        else:
            fill = values.dtype.type(0)
            # Half-way positions are rounded up, as in ITK.
            index = [np.floor(p + 0.5).astype(np.intp) for p in places]
            limits = [side - 1 for side in values.shape]
            found = values[tuple(i.clip(0, most) for i, most in zip(index, limits, strict=True))]
        found[~inside] = fill
        return found

    def _displacement_at(self, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        from scipy.ndimage import map_coordinates

        at = points.T[::-1]
        parts = [
            map_coordinates(self.displacement_px[..., i], at, order=1, mode="nearest", output=np.float64)
            for i in range(self.dims)
        ]
        return np.stack(parts, -1)

    def _points_to_fixed(self, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Solve position + displacement = point; the alignment is the first guess of the slope."""
        back = np.linalg.inv(self.alignment).T
        found = (points - self._displacement_at(np.zeros_like(points))) @ back
        error = points - found - self._displacement_at(found)
        step = np.ones(len(points))
        for _ in range(_INVERSE_ROUNDS):
            if not len(points) or np.linalg.norm(error, axis=1).max() < 0.1 * _NEAR_PX:
                break
            tried = found + step[:, None] * (error @ back)
            next_error = points - tried - self._displacement_at(tried)
            better = np.linalg.norm(next_error, axis=1) < np.linalg.norm(error, axis=1)
            found[better], error[better] = tried[better], next_error[better]
            step = np.where(better, np.minimum(1.0, 1.5 * step), 0.5 * step)
        limits = np.asarray(self.fixed_grid.size) - 0.5
        missed = (np.linalg.norm(error, axis=1) > _NEAR_PX) | ((found < -0.5) | (found > limits)).any(1)
        found[missed] = np.nan
        return found

    def as_sitk_transform(self) -> Any:
        """A ``SimpleITK.DisplacementFieldTransform`` for ``sitk.Resample(moving, fixed, transform)``.

        It works in the physical space of the given images. Without spacings that means pixels: images must
        then have ITK's default spacing of 1, origin 0 and identity direction.
        """
        import SimpleITK as sitk

        return sitk.DisplacementFieldTransform(
            sitk.Cast(self.field_image(np.float64), sitk.sitkVectorFloat64)
        )

    def field_image(self, kind: type[np.floating[Any]] = np.float32) -> Any:
        """A ``SimpleITK.Image`` of the displacement in physical coordinates, on the fixed grid."""
        return itk_image(self._physical().astype(kind), self.fixed_grid, vector=True)

    def plot(self) -> Figure:
        """Draw moving, fixed and warped image, the deformed grid and the difference, with matplotlib.

        In 3-D the three middle slices are shown.
        """
        from anatozoo.results.draw.field import plot_registration

        return plot_registration(self)

    def to_dict(self) -> dict[str, Any]:
        """Summary of the field as JSON values; null where millimetres are unknown."""
        deformation = self.deformation_px
        in_mm = None
        if self.is_metric:
            in_mm = _summary(np.linalg.norm(deformation @ self.fixed_grid.steps.T, axis=-1))
        return super().to_dict() | {
            "deformation_px": _summary(np.linalg.norm(deformation, axis=-1)),
            "deformation_mm": in_mm,
            "jacobian": {
                "min": round(float(self.jacobian.min()), 4),
                "max": round(float(self.jacobian.max()), 4),
            },
            "folding_fraction": round(self.folding_fraction, 6),
        }

    def _aligned(self) -> npt.NDArray[np.float64]:
        """Positions under the alignment alone, centre on centre: the model's starting point."""
        centre = (np.asarray(self.fixed_grid.size) - 1) / 2
        middle = (np.asarray(self.moving_grid.size) - 1) / 2
        return (self._positions() - self.displacement_px - centre) @ self.alignment.T + middle


def _is_floating(x: Any) -> bool:
    kind = getattr(x, "dtype", None)
    if kind is not None:
        return "float" in str(kind)
    if hasattr(x, "GetPixelIDTypeAsString"):
        return "float" in x.GetPixelIDTypeAsString()
    return False


def _checked_points(points: Any, dims: int) -> npt.NDArray[np.float64]:
    if hasattr(points, "detach"):
        points = points.detach().cpu().numpy()
    xy = np.asarray(points, dtype=np.float64)
    if xy.ndim != 2 or xy.shape[1] != dims or not np.isfinite(xy).all():
        raise GeometryError(f"points must be finite and of shape (N, {dims}), not {xy.shape}.")
    return xy


def _summary(length: npt.NDArray[np.float64]) -> dict[str, float]:
    return {"mean": round(float(length.mean()), 4), "max": round(float(length.max()), 4)}

"""Shapes that a model has drawn or varied: landmarks of several organs, several times."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from anatozoo.errors import GeometryError
from anatozoo.results.base import Formats, Names, Result, read_only, write_json, write_picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CSV_HEADER = ("shape", "organ", "index", "x_px", "y_px")


def _write_table(result: ShapeSet, path: Path) -> Path:
    from anatozoo.io.landmarks import rounded
    from anatozoo.io.writers import write_csv

    rows = [
        [number, organ, index, x, y]
        for number, shape in enumerate(result)
        for organ, points in shape.items()
        for index, (x, y) in enumerate(rounded(points))
    ]
    return write_csv(path, CSV_HEADER, rows)


@dataclass(frozen=True, eq=False, repr=False)
class ShapeSet(Result):
    """Several shapes; a sequence of mappings organ -> (N, 2) pixels.

    `save` knows ``"png"`` (``_shapes.png``), ``"json"`` and ``"csv"`` (``_shapes.csv``).

    Attributes:
        checkpoint: name of the checkpoint.
        version: its version.
        size: (width, height) of the frame in pixels.
        organs: landmarks per organ, in order.
        points: (n, N, 2) float64, (x, y) in pixels of the frame, all organs in order; read-only.
        captions: what each shape is.

    Raises:
        GeometryError: points are of another shape or not finite, or captions are more or fewer.
    """

    formats: ClassVar[Formats] = Formats(
        "sets of shapes",
        {
            "png": {"_shapes.png": write_picture},
            "json": {".json": write_json},
            "csv": {"_shapes.csv": _write_table},
        },
        default=("png", "json"),
    )
    head: ClassVar[Names] = ("checkpoint", "version", "size", "captions", "flags")

    checkpoint: str
    version: str
    size: tuple[int, int]
    organs: Mapping[str, int]
    points: npt.NDArray[np.float64] = field(repr=False)
    captions: tuple[str, ...] = field(repr=False)

    @property
    def about(self) -> str:
        """Number of shapes, and their organs."""
        return f"{len(self)} shapes of {', '.join(self.organs)} in {self.size[0]} x {self.size[1]} px"

    def __post_init__(self) -> None:
        super().__post_init__()
        points = np.array(self.points, np.float64)
        wanted = (len(self.captions), sum(self.organs.values()), 2)
        if points.shape != wanted or not len(points) or not np.isfinite(points).all():
            raise GeometryError(f"points must be finite, of the shape {wanted}, not {points.shape}.")
        self._put(points=read_only(points))

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, index: int) -> dict[str, npt.NDArray[np.float64]]:
        """Landmarks of a shape, organ -> (N, 2)."""
        ends = np.cumsum(list(self.organs.values()))
        parts = np.split(self.points[index], ends[:-1])
        return dict(zip(self.organs, parts, strict=True))

    def __iter__(self) -> Iterator[dict[str, npt.NDArray[np.float64]]]:
        return (self[index] for index in range(len(self)))

    @property
    def stem(self) -> str:
        """Default start of its file names: the name of the checkpoint."""
        return self.checkpoint

    @cached_property
    def clean(self) -> npt.NDArray[np.bool_]:
        """(n,) whether no contour of a shape crosses itself; see `anatozoo.metrics.contours`."""
        from anatozoo.metrics.contours import self_intersections

        return np.array([not any(map(self_intersections, shape.values())) for shape in self])

    def plot(self) -> Figure:
        """Draw the shapes beside one another; of more than 40 the first 40."""
        from anatozoo.results.draw.shapes import plot_shapes

        return plot_shapes(list(self), self.captions, self.size, [not clean for clean in self.clean])

    def to_dict(self) -> dict[str, Any]:
        """Captions, which shapes are clean, and landmarks with 3 decimals, one mapping for each shape."""
        from anatozoo.io.landmarks import rounded

        shapes = [{organ: rounded(points) for organ, points in shape.items()} for shape in self]
        return super().to_dict() | {"clean": self.clean.tolist(), "shapes": shapes}

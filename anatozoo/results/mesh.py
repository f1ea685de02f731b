"""Closed surfaces of organs on the grid of a stack."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from anatozoo.errors import GeometryError
from anatozoo.io.grid import Grid, itk_image
from anatozoo.meshes.files import ENDING, export, write_heart
from anatozoo.meshes.heart import SHEETS, HeartMesh, heart_faces
from anatozoo.meshes.quality import SurfaceQuality, surface_quality
from anatozoo.meshes.surface import Faces, Surfaces, Vertices, enclosed, inside
from anatozoo.results.base import (
    Formats,
    GridResult,
    Names,
    read_only,
    write_grid,
    write_json,
    write_picture,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from anatozoo.metrics.measurements import Measurement


@dataclass(frozen=True, eq=False)
class OrganMesh:
    """The closed surface of one organ.

    Attributes:
        organ: its name.
        vertices: (N, 3) x, y, z in the grid's pixels, whose centres are whole numbers.
        faces: (F, 3) triangles, anticlockwise seen from outside.
        grid: of the image.
    """

    organ: str
    vertices: Vertices = field(repr=False)
    faces: Faces = field(repr=False)
    grid: Grid

    @property
    def vertices_mm(self) -> Vertices | None:
        """(N, 3) vertices in the space of the image, None where the spacing is unknown."""
        return None if self.grid.spacing_mm is None else self.grid.to_physical(self.vertices)

    def volume_ml(self) -> float | None:
        """Volume in millilitres; None where the spacing is unknown: 1 mm is never assumed."""
        spacing = self.grid.spacing_mm
        return None if spacing is None else self.volume_px() * float(np.prod(spacing)) / 1000

    def volume_px(self) -> float:
        """Volume in voxels."""
        return enclosed(self.vertices - self.vertices.mean(axis=0), self.faces)

    def to_mask(self) -> npt.NDArray[np.bool_]:
        """(D, H, W) the pixels of the grid whose centres lie inside."""
        return inside(self.vertices, self.faces, self.grid.shape)

    def quality(self) -> SurfaceQuality:
        """Shape of the triangles, in millimetres where they are known, and whether the surface is sound."""
        return surface_quality(self.vertices * self.grid.proportions, self.faces)

    def plot(self) -> Figure:
        """Draw the surface."""
        from anatozoo.results.draw.mesh import plot_meshes

        return plot_meshes({self.organ: self.drawable()}, (self.organ,))

    def drawable(self) -> tuple[Vertices, Faces]:
        """Vertices in the space of the image, and triangles anticlockwise seen from outside there."""
        turned = np.linalg.det(self.grid.axes) < 0  # a grid may be left-handed
        return self.grid.to_physical(self.vertices), self.faces[:, ::-1] if turned else self.faces

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the surface in millimetres, as VTK, PLY, STL or OBJ by the suffix.

        Raises:
            ConfigError: the suffix is another one, or PyVista and trimesh are missing.
            OutputError: the file cannot be written.
        """
        return export(path, {self.organ: self.drawable()})


def _write_heart(result: MeshResult, path: Path) -> Path:
    return write_heart(path, result.heart)


def _export(result: MeshResult, path: Path) -> Path:
    return export(path, {organ: mesh.drawable() for organ, mesh in result.meshes.items()})


@dataclass(frozen=True, eq=False, repr=False)
class MeshResult(GridResult):
    """Closed surfaces of the parts of a heart, with corresponding vertices, on the grid of the source.

    `save` knows ``"safetensors"`` (``_mesh.safetensors``, without loss, which `anatozoo.meshes.files` reads),
    ``"json"``, ``"vtk"``, ``"ply"``, ``"stl"`` and ``"obj"`` (``_mesh.vtp`` and so on, in millimetres, or
    pixels where the spacing is unknown), ``"nifti"`` or ``"mha"`` (``_mask.nii.gz``, the labels inside the
    surfaces) and ``"picture"`` (``_mesh.png``).

    Attributes:
        heart: the surfaces.
        dice: organ -> Dice of the pixels inside and the mask that the surface was built from; empty if it was
            built from none.
        flags: what to look at, see `anatozoo.meshes.heart.HeartMesh`; empty is good.

    Raises:
        GeometryError: the surfaces lie on another grid.
    """

    formats: ClassVar[Formats] = Formats(
        "meshes",
        {
            "safetensors": {ENDING: _write_heart},
            "json": {".json": write_json},
            "vtk": {"_mesh.vtp": _export},
            "ply": {"_mesh.ply": _export},
            "stl": {"_mesh.stl": _export},
            "obj": {"_mesh.obj": _export},
            "nifti": {"_mask.nii.gz": write_grid},
            "mha": {"_mask.mha": write_grid},
            "picture": {"_mesh.png": write_picture},
        },
        default=("safetensors", "json"),
        packages=dict.fromkeys(("vtk", "ply", "stl", "obj"), ("pyvista", "trimesh")),
        extra="mesh",
    )
    head: ClassVar[Names] = (*GridResult.head, "labels")
    dpi: ClassVar[int] = 100

    heart: HeartMesh = field(repr=False)
    dice: Mapping[str, float] = field(default_factory=dict, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.heart.surfaces.grid != self.grid:
            raise GeometryError("the surfaces lie on another grid than the result.")

    @property
    def surfaces(self) -> Surfaces:
        """All surfaces, with common vertices and the sheet that each belongs to."""
        return self.heart.surfaces

    @property
    def organs(self) -> tuple[str, ...]:
        """Names of the organs, in the order of their labels."""
        return SHEETS

    @property
    def labels(self) -> dict[str, int]:
        """Value of each organ in `mask`; 0 is background."""
        return {organ: value for value, organ in enumerate(self.organs, start=1)}

    @cached_property
    def meshes(self) -> dict[str, OrganMesh]:
        """Organ -> its closed surface with vertices of its own."""
        found = {}
        for organ in self.organs:
            used, faces = np.unique(self.surfaces.faces[organ], return_inverse=True)
            found[organ] = OrganMesh(organ, self.surfaces.vertices[used], faces.reshape(-1, 3), self.grid)
        return found

    @cached_property
    def masks(self) -> dict[str, npt.NDArray[np.bool_]]:
        """Organ -> (D, H, W) the pixels inside its surface; those of two organs may overlap."""
        return {organ: read_only(mesh.to_mask()) for organ, mesh in self.meshes.items()}

    @cached_property
    def mask(self) -> npt.NDArray[np.uint8]:
        """(D, H, W) label map; a pixel in two organs is that of the first."""
        found = np.zeros(self.grid.shape, np.uint8)
        for organ in reversed(self.organs):
            found[self.masks[organ]] = self.labels[organ]
        return read_only(found)

    @cached_property
    def quality(self) -> dict[str, SurfaceQuality]:
        """Organ -> quality of its surface."""
        return {organ: mesh.quality() for organ, mesh in self.meshes.items()}

    @property
    def volumes_ml(self) -> dict[str, float] | None:
        """Volume of each organ in millilitres; None where the spacing is unknown."""
        return self.surfaces.volume_ml()

    @property
    def measurements(self) -> list[Measurement]:
        """Volume of each organ in millilitres; in voxels where the spacing is unknown."""
        from anatozoo.metrics.measurements import Measurement

        volumes = self.volumes_ml
        if volumes is not None:
            return [Measurement("volume", organ, value, "ml") for organ, value in volumes.items()]
        return [
            Measurement("volume", organ, mesh.volume_px(), "voxels") for organ, mesh in self.meshes.items()
        ]

    def as_sitk(self) -> Any:
        """A ``SimpleITK.Image`` of the labels in the stack's space."""
        return itk_image(self.mask, self.grid)

    def plot(self) -> Figure:
        """Draw the surfaces in space, the base above and the right ventricle to the right."""
        from anatozoo.results.draw.mesh import plot_meshes

        places = self.heart.aligned() * (1, 1, -1)  # the base lies above
        drawn, seen = {}, set[tuple[int, ...]]()
        for organ, faces in heart_faces(self.heart.size, mirrored=True).items():
            # A wall that two organs share is drawn once.
            corners = [tuple(face) for face in np.sort(faces, axis=1).tolist()]
            drawn[organ] = places, faces[[each not in seen for each in corners]]
            seen.update(corners)
        return self._titled(plot_meshes(drawn, self.organs))

    def to_dict(self) -> dict[str, Any]:
        """Everything except the vertices as JSON values; null where millimetres are unknown."""
        return super().to_dict() | {
            "vertices": len(self.surfaces.vertices),
            "measurements": [each.to_dict() for each in self.measurements],
            "dice": {organ: round(value, 5) for organ, value in self.dice.items()},
            "quality": {organ: asdict(each) for organ, each in self.quality.items()},
        }

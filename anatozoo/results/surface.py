"""A surface of any anatomy, with the vertices of a template."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from anatozoo.meshes.files import export
from anatozoo.meshes.surface import Faces, Vertices, enclosed, open_edges
from anatozoo.meshes.template import ORGAN
from anatozoo.results.base import Formats, Names, Result, write_json, write_picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from anatozoo.metrics.measurements import Measurement


def _export(result: SurfaceResult, path: Path) -> Path:
    return export(path, {ORGAN: (result.vertices, result.faces)})


@dataclass(frozen=True, eq=False, repr=False)
class SurfaceResult(Result):
    """A surface in millimetres, in the place of the mesh that was given.

    `save` knows ``"vtk"``, ``"ply"``, ``"stl"`` and ``"obj"`` (``_mesh.vtp`` and so on), ``"json"`` and
    ``"picture"`` (``_mesh.png``).

    Attributes:
        checkpoint: name of the checkpoint.
        version: version of the checkpoint.
        image: path of the mesh, or ``"array"``.
        vertices: (N, 3) in millimetres, in the order of the template.
        faces: (F, 3) triangles, the template's.
        flags: what to look at; empty is good.
    """

    formats: ClassVar[Formats] = Formats(
        "surfaces",
        {
            "vtk": {"_mesh.vtp": _export},
            "ply": {"_mesh.ply": _export},
            "stl": {"_mesh.stl": _export},
            "obj": {"_mesh.obj": _export},
            "json": {".json": write_json},
            "picture": {"_mesh.png": write_picture},
        },
        default=("vtk", "json"),
        packages=dict.fromkeys(("vtk", "ply", "stl", "obj"), ("pyvista", "trimesh")),
        extra="mesh",
    )
    head: ClassVar[Names] = ("checkpoint", "version", "image", "flags")
    dpi: ClassVar[int] = 100

    checkpoint: str
    version: str
    image: str
    vertices: Vertices = field(repr=False)
    faces: Faces = field(repr=False)

    @property
    def stem(self) -> str:
        """Default start of its file names: the name of the mesh without suffix."""
        return Path(self.image).stem

    @property
    def landmarks(self) -> dict[str, Vertices]:
        """The vertices, which correspond between meshes, as those of one organ."""
        return {ORGAN: self.vertices}

    @property
    def volume_ml(self) -> float | None:
        """Volume in millilitres; None of an open surface."""
        places = self.vertices - self.vertices.mean(axis=0)
        return None if open_edges(self.faces) else enclosed(places, self.faces) / 1000

    @property
    def measurements(self) -> list[Measurement]:
        """Volume in millilitres, of a closed surface."""
        from anatozoo.metrics.measurements import Measurement

        volume = self.volume_ml
        return [] if volume is None else [Measurement("volume", ORGAN, volume, "ml")]

    def plot(self) -> Figure:
        """Draw the surface."""
        from anatozoo.results.draw.mesh import plot_meshes

        return plot_meshes({ORGAN: (self.vertices, self.faces)}, (ORGAN,))

    def to_dict(self) -> dict[str, Any]:
        """Everything except the vertices as JSON values."""
        return super().to_dict() | {
            "vertices": len(self.vertices),
            "triangles": len(self.faces),
            "measurements": [each.to_dict() for each in self.measurements],
        }

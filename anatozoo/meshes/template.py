"""Meshes of any anatomy in correspondence with a template: their files, and their place beside it."""

import os
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import scipy  # its parts are imported where they are used first: predictions of images need none

from anatozoo.errors import DataError, GeometryError
from anatozoo.meshes.files import read_surface
from anatozoo.meshes.pyramid import Pyramid
from anatozoo.meshes.surface import Faces, Vertices, enclosed, open_edges

ORGAN = "surface"
"""What its one organ is called: a template does not say which it is."""
SIZES = (0.2, 5.0)
"""How many times as large as its template a mesh may be: organs vary less, and units differ by more."""


@dataclass(frozen=True, eq=False)
class Placed:
    """A mesh and its place in the frame of the template.

    Attributes:
        vertices: (N, 3) turned as the template is, in millimetres from the middle of the mesh.
        centre: (3,) middle of the mesh where it came from.
        turn: (3, 3) from there to the template's frame.
    """

    vertices: Vertices
    centre: npt.NDArray[np.float64]
    turn: npt.NDArray[np.float64]

    def back(self, vertices: Vertices) -> Vertices:
        """Vertices (N, 3) in the template's frame, where the mesh came from."""
        return vertices @ self.turn + self.centre


@dataclass(frozen=True, eq=False)
class Template:
    """A mesh whose triangles others share.

    Attributes:
        vertices: (N, 3) in millimetres.
        faces: (F, 3) triangles.
    """

    vertices: Vertices
    faces: Faces

    @classmethod
    def of(cls, pyramid: Pyramid, name: str) -> "Template":
        """The finest mesh of a pyramid.

        Raises:
            DataError: it is one of hearts; the message calls it `name`.
        """
        if pyramid.template is None:
            raise DataError(f"{name} is a pyramid of hearts, which need no template; leave it out.")
        return cls(pyramid.template, pyramid.faces[0])

    @cached_property
    def closed(self) -> bool:
        """Whether the surface has no open edge."""
        return open_edges(self.faces) == 0

    def read(self, path: str | os.PathLike[str]) -> Vertices:
        """(N, 3) vertices of a file that has the triangles of the template.

        Raises:
            DataError: it cannot be read, or has others.
        """
        vertices, faces = read_surface(path)
        if faces.shape != self.faces.shape or len(vertices) != len(self.vertices):
            raise DataError(
                f"{path} has {len(vertices)} vertices and {len(faces)} triangles, the template "
                f"{len(self.vertices)} and {len(self.faces)}; meshes must be in correspondence with it."
            )
        if other := int((faces != self.faces).any(axis=1).sum()):
            raise DataError(
                f"{path} has as many triangles as the template, but {other} join other vertices: they "
                "are in another order, or without correspondence. Write all meshes by one program, in one "
                "format."
            )
        return vertices

    def place(self, vertices: Vertices, name: str) -> Placed:
        """Move and turn a mesh onto the template, as well as that is possible without scaling.

        Args:
            vertices: (N, 3) in millimetres.
            name: of the mesh, for messages.

        Raises:
            DataError: there are more or fewer vertices than the template's, or it is inside out or mirrored.
            GeometryError: a vertex is not finite, or the mesh is far smaller or larger than the template.
        """
        if vertices.shape != self.vertices.shape:
            raise DataError(
                f"{name}: vertices {vertices.shape} are not {self.vertices.shape}, the template's."
            )
        if not np.isfinite(vertices).all():
            raise GeometryError(f"{name}: a vertex is no finite number.")
        centre = vertices.mean(axis=0)
        own, whole = vertices - centre, self.vertices - self.vertices.mean(axis=0)
        times = float(np.sqrt(np.square(own).sum() / np.square(whole).sum()))
        if not SIZES[0] <= times <= SIZES[1]:
            raise GeometryError(
                f"{name} is {times:.3g} times as large as the template: another unit? Both are taken "
                "to be in millimetres; write them in one unit."
            )
        if self.closed and enclosed(own, self.faces) * enclosed(whole, self.faces) < 0:
            raise DataError(
                f"{name} is mirrored, or inside out, beside the template: an organ of the other side? Mirror "
                "it first, or take it out."
            )
        turn, _ = scipy.spatial.transform.Rotation.align_vectors(whole, own)
        matrix = turn.as_matrix()
        return Placed(own @ matrix.T, centre, matrix)

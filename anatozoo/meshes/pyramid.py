"""A mesh, coarser ones, and the matrices that lead from each to the next: what networks on meshes need."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import scipy  # its parts are imported where they are used first: predictions of images need none

from anatozoo.errors import ConfigError, DataError
from anatozoo.meshes.surface import Faces, Vertices


@dataclass(frozen=True, eq=False)
class Step:
    """One step of a pyramid.

    Attributes:
        down: (coarse, fine) sparse: each coarse vertex is one of the fine ones.
        up: (fine, coarse) sparse: linear interpolation; rows sum to 1.
    """

    down: "scipy.sparse.csr_matrix"
    up: "scipy.sparse.csr_matrix"


@dataclass(frozen=True, eq=False)
class Pyramid:
    """Meshes of one topology, each coarser than the one before.

    Attributes:
        faces: (F, 3) triangles of each mesh, the finest first.
        steps: from each mesh to the next.
        template: (N, 3) vertices of the finest mesh in millimetres; None of hearts, which need none.
    """

    faces: tuple[Faces, ...]
    steps: tuple[Step, ...]
    template: Vertices | None = None

    @classmethod
    def empty(cls, counts: Sequence[int]) -> "Pyramid":
        """Meshes of so many vertices, at least two sizes, without triangles and with matrices of zeros."""
        none = np.empty((0, 3), np.int64)
        down = [scipy.sparse.csr_matrix(pair[::-1], dtype=float) for pair in pairwise(counts)]
        return cls((none,) * len(counts), tuple(Step(each, each.T.tocsr()) for each in down))

    @property
    def counts(self) -> list[int]:
        """How many vertices each mesh has."""
        coarser = [step.down.shape[0] for step in self.steps]
        first = self.steps[0].down.shape[1] if self.steps else int(self.faces[0].max()) + 1
        return [first, *coarser]

    @property
    def graphs(self) -> "list[scipy.sparse.csr_matrix]":
        """(N, N) of the vertices of each mesh: 1 where a triangle has both."""
        return [graph(faces, count) for faces, count in zip(self.faces, self.counts, strict=True)]

    def cut(self, steps: int) -> "Pyramid":
        """The first so many steps alone.

        Raises:
            ConfigError: there are fewer.
        """
        if steps > len(self.steps):
            raise ConfigError(
                f"the pyramid has {len(self.steps)} coarser meshes, and {steps} are needed, one for each of "
                "model.widths; take fewer widths, or build it with more --levels."
            )
        return replace(self, faces=self.faces[: steps + 1], steps=self.steps[:steps])

    def check(self, name: str) -> None:
        """Make sure that the parts belong together.

        Args:
            name: of the file, for the message.

        Raises:
            DataError: they do not.
        """
        counts = self.counts
        sizes = list(pairwise(counts))
        sound = (
            all(len(each) and each.min() >= 0 for each in self.faces)
            and all(int(each.max()) < count for each, count in zip(self.faces, counts, strict=True))
            and [step.down.shape[::-1] for step in self.steps] == sizes
            and [step.up.shape for step in self.steps] == sizes
            and all(np.isfinite(m.data).all() for step in self.steps for m in (step.down, step.up))
        )
        template = self.template
        if not sound or (
            template is not None and (template.shape != (counts[0], 3) or not np.isfinite(template).all())
        ):
            raise DataError(f"the parts of the pyramid in {name} do not belong together; build it again.")


def graph(faces: Faces, count: int) -> "scipy.sparse.csr_matrix":
    """(N, N) of the vertices of a mesh: 1 where a triangle has both.

    Args:
        faces: (F, 3) triangles.
        count: N.
    """
    pairs = np.vstack([faces[:, pair] for pair in ([0, 1], [1, 2], [2, 0])])
    found = scipy.sparse.csr_matrix((np.ones(len(pairs)), pairs.T), (count, count))
    return ((found + found.T) > 0).astype(np.float32)

"""Build meshes of hearts from stacks of label maps in files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from anatozoo.errors import DataError, ImageError
from anatozoo.io.grid import Grid
from anatozoo.io.label_codes import LabelCodes
from anatozoo.io.read import read_labels
from anatozoo.meshes.files import write_pyramid
from anatozoo.meshes.heart import SHEETS, heart_mesh, heart_pyramid
from anatozoo.meshes.sheets import SheetSize
from anatozoo.metrics.functional import dice
from anatozoo.results.mesh import MeshResult
from anatozoo.serve.files import FileTask
from anatozoo.serve.inputs import MASK_ENDING, Found
from anatozoo.serve.manifest import Layout, Row
from anatozoo.serve.options import DEFAULT_OPTIONS, ReadOptions
from anatozoo.serve.plan import Job
from anatozoo.serve.sources import SOURCE

PYRAMID = "pyramid.safetensors"
"""Matrices from each size of the meshes of a folder to the next."""
UNKNOWN_SPACING = "unknown_spacing"
"""Flag of meshes in pixels, which have no volume."""
MEASURES = ("dice", "volume_ml", "scaled_jacobian", "crossings")
"""What the table says of each organ."""


@dataclass(frozen=True, eq=False)
class Stack:
    """Masks of a heart as read.

    Attributes:
        masks: organ -> (D, H, W).
        grid: of the masks.
        name: path or name of the source.
    """

    masks: Mapping[str, npt.NDArray[np.bool_]]
    grid: Grid
    name: str


@dataclass(eq=False)
class HeartMesher:
    """What builds meshes, as a task names a checkpoint.

    Attributes:
        size: of each sheet.
        codes: organs of the values of label maps.
    """

    size: SheetSize
    codes: LabelCodes
    checkpoint_name: str = "heart-mesh"
    checkpoint_version: str = "2"

    @property
    def facts(self) -> tuple[object, ...]:
        """What else decides the result."""
        return (self.size.rings, self.size.angles, sorted(self.codes.ranges.items()))

    def read(self, path: Path, spacing_mm: Sequence[float] | None = None) -> Stack:
        """Read a label map.

        Args:
            path: of the file.
            spacing_mm: (x, y, z), in place of what the file says.

        Raises:
            ImageError: it cannot be read, is not 3-D, or holds no whole numbers.
            DataError: a value has no name.
            GeometryError: the spacing is not positive.
        """
        labels, grid = read_labels(path, 3)
        try:
            masks = self.codes.masks(labels, SHEETS)
        except DataError as error:
            raise DataError(f"the label map {path.name!r}: {error}") from error
        if not any(mask.any() for mask in masks.values()):
            raise ImageError(f"the label map {path.name!r} shows nothing.")
        return Stack(masks, grid if spacing_mm is None else grid.with_spacing(spacing_mm), str(path))

    def build(self, stack: Stack) -> MeshResult:
        """The mesh of a stack.

        Raises:
            DataError: the stack shows no whole heart.
        """
        heart = heart_mesh(stack.masks, stack.grid, self.size)
        found = heart.surfaces.to_masks()
        flags = [*stack.grid.remarks, *heart.flags]
        flags += [UNKNOWN_SPACING] if stack.grid.spacing_mm is None else []
        flags += heart.size_flags()
        return MeshResult(
            self.checkpoint_name,
            self.checkpoint_version,
            stack.name,
            stack.grid,
            replace(heart, flags=tuple(flags)),
            dice={organ: dice(found[organ], stack.masks[organ]) for organ in SHEETS},
            flags=tuple(flags),
        )


class BuildMeshes(FileTask[Stack, MeshResult]):
    """Build meshes of hearts from label maps in files, and write the pyramid that belongs to all of them.

    Args:
        mesher: what builds them.
        found: the label maps.
        options: how they are read.

    Raises:
        OptionError: an option is not for masks.
    """

    one: ClassVar[str] = "stack"
    done: ClassVar[tuple[str, ...]] = ("built",)
    doing: ClassVar[str] = "building meshes"
    accepts: ClassVar[tuple[str, ...]] = ("spacing_mm",)
    ending: ClassVar[str] = MASK_ENDING
    measures: ClassVar[bool] = True
    layout: ClassVar[Layout] = Layout(
        details=("models", SOURCE),
        numbers=tuple(f"{measure}/{organ}" for organ in SHEETS for measure in MEASURES),
    )
    formats = MeshResult.formats

    def __init__(self, mesher: HeartMesher, found: Found, options: ReadOptions = DEFAULT_OPTIONS) -> None:
        super().__init__([mesher], found, options, axes=3)
        self.mesher = mesher

    def read(self, job: Job[Path]) -> Stack:
        """Read a label map."""
        return self.mesher.read(job.source, self.options.spacing_mm)

    def compute_one(self, item: Stack) -> MeshResult:
        """Build one mesh."""
        return self.mesher.build(item)

    def save(
        self, result: MeshResult, job: Job[Path], folder: Path, formats: Sequence[str]
    ) -> dict[str, str]:
        """Write the mesh; the row says how well it holds the mask, and how good its triangles are."""
        with self.plotting:
            self.told(result, job).save(folder, formats, job.stem)
        volumes = result.volumes_ml or {}
        more = {f"dice/{organ}": f"{value:.5f}" for organ, value in result.dice.items()}
        more |= {f"volume_ml/{organ}": f"{value:.3f}" for organ, value in volumes.items()}
        for organ, quality in result.quality.items():
            more[f"scaled_jacobian/{organ}"] = f"{quality.scaled_jacobian:.4f}"
            more[f"crossings/{organ}"] = str(quality.crossings)
        return more

    def finish(self, folder: Path, rows: Sequence[Row]) -> None:
        """Write the pyramid."""
        write_pyramid(folder / PYRAMID, heart_pyramid(self.mesher.size))

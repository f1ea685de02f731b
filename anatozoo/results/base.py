"""What results of volumes share: where their voxels lie, and how they become files and pictures."""

from __future__ import annotations

import io
import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from anatozoo.io.grid import Grid
from anatozoo.text import in_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DEFAULT_FORMATS = ("nifti", "picture", "json")
_DPI = 100


class SavedVolume:
    """A result whose voxels lie on a grid.

    Subclasses have `grid`, `image` and `flags`, say their `formats`, and implement `as_sitk`, `plot` and
    `to_dict`.

    Attributes:
        formats: kind of file -> what it adds to the stem of the image's name.
    """

    formats: ClassVar[Mapping[str, tuple[str, ...]]]

    checkpoint: str
    version: str
    image: str
    grid: Grid
    flags: tuple[str, ...]

    @property
    def size(self) -> tuple[int, ...]:
        """(width, height, depth) in voxels."""
        return self.grid.size

    @property
    def spacing_mm(self) -> tuple[float, ...] | None:
        """(x, y, z) millimetres per voxel, None where unknown."""
        return self.grid.spacing_mm

    @abstractmethod
    def as_sitk(self) -> Any:
        """A ``SimpleITK.Image`` of the voxels in their place."""

    @abstractmethod
    def plot(self) -> Figure:
        """Draw the result. The figure is none of pyplot's, so nothing is left open; notebooks display it."""

    def to_dict(self) -> dict[str, Any]:
        """All but the voxels as JSON values; null where millimetres are unknown."""
        return {
            "schema_version": 1,
            "checkpoint": self.checkpoint,
            "version": self.version,
            "image": self.image,
            "size": list(self.size),
            "spacing_mm": list(self.spacing_mm) if self.spacing_mm else None,
            "grid": self.grid.to_dict(),
        }

    def save(
        self,
        directory: str | os.PathLike[str],
        formats: Sequence[str] = DEFAULT_FORMATS,
        stem: str | None = None,
    ) -> list[Path]:
        """Write files, each of them atomically.

        Args:
            directory: folder, created if it does not exist.
            formats: ``"nifti"`` or ``"mha"`` (the voxels, with spacing, origin and directions),
                ``"picture"`` (PNG, the plot), ``"json"``.
            stem: start of the file names; None takes the name of the volume without its suffix.

        Returns:
            The paths.

        Raises:
            ConfigError: a format is unknown, or `stem` is no file name.
            GeometryError: ``"mha"`` without a spacing.
            OutputError: a file cannot be written.
        """
        from anatozoo.io.files import stem_of
        from anatozoo.io.writers import output_files

        chosen = stem_of(Path(self.image)) if stem is None else stem
        files = output_files(directory, chosen, formats, self.formats)
        return [self._write(path, kind) for path, kind in files]

    def _write(self, path: Path, kind: str) -> Path:
        from anatozoo.io import writers

        if kind == "json":
            return writers.write_json(path, self.to_dict())
        if kind == "picture":
            return writers.write_bytes(path, self._repr_png_())
        return writers.write_itk(path, self.as_sitk(), units_known=self.spacing_mm is not None)

    def _put_title(self, figure: Figure) -> None:
        """Name of the volume, checkpoint and flags above a picture."""
        flags = ", ".join(flag.replace("_", " ") for flag in self.flags)
        name = self.image.replace("\\", "/").rsplit("/", 1)[-1]
        title = f"{in_figure(name)}   {self.checkpoint} {self.version}" + (f"\n{flags}" if flags else "")
        figure.suptitle(title, fontsize=9, color="#b35900" if flags else "#555555")

    def _repr_png_(self) -> bytes:
        """Picture for notebooks, where a result on a line of its own shows itself."""
        buffer = io.BytesIO()
        self.plot().savefig(buffer, format="png", dpi=_DPI)
        return buffer.getvalue()

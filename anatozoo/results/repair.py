"""What a model that repairs masks answers: the mask before and after, and what changed."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from anatozoo.errors import GeometryError
from anatozoo.io.grid import Grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Labels = npt.NDArray[np.uint8]
Masks = dict[str, npt.NDArray[np.bool_]]

FORMATS: dict[str, tuple[str, ...]] = {
    "png": ("_mask.png",),
    "nifti": ("_mask.nii.gz",),
    "mha": ("_mask.mha",),
    "picture": ("_repair.png",),
    "json": (".json",),
}
"""Formats of `RepairResult.save`, and what each adds to the stem of the mask's name."""

DEFAULT_FORMATS = ("png", "picture", "json")
"""Formats of 2-D masks where none are chosen."""
VOLUME_FORMATS = ("nifti", "picture", "json")
"""The same of volumes, which PNG cannot hold."""


@dataclass(frozen=True)
class Plausibility:
    """What can be said of an organ's mask without a reference.

    Attributes:
        pixels: how many pixels or voxels it has.
        components: connected parts.
        holes: enclosed parts of the background.
    """

    pixels: int
    components: int
    holes: int


@dataclass(frozen=True, eq=False)
class RepairResult:
    """A mask as it was given and as a model repaired it, both on the grid on which it was given.

    Attributes:
        checkpoint: name of the checkpoint.
        version: its version.
        image: path or name of the mask, or ``"array"``.
        grid: where its pixels lie.
        classes: organs in the order of their labels 1, 2, ...
        before: (H, W) or (D, H, W) uint8, the mask as given, read-only; where it was given as probabilities,
            the most probable labels.
        after: the repaired mask, the same.
        flags: what to look at, such as ``"large_change_heart"``, ``"restored_heart"``, ``"removed_heart"``,
            ``"missing_heart"``; empty is good.

    Raises:
        GeometryError: the label maps do not lie on the grid, or a label has no class.
    """

    checkpoint: str
    version: str
    image: str
    grid: Grid
    classes: tuple[str, ...]
    before: Labels = field(repr=False)
    after: Labels = field(repr=False)
    flags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))
        object.__setattr__(self, "flags", tuple(dict.fromkeys(self.flags)))
        if not self.classes or len(set(self.classes)) != len(self.classes):
            raise GeometryError(f"a repaired mask needs different classes, not {self.classes}.")
        for name in ("before", "after"):
            labels = np.asarray(getattr(self, name)).view()
            if labels.dtype != np.uint8 or labels.shape != self.grid.shape:
                raise GeometryError(
                    f"{name} must be uint8 and of shape {self.grid.shape}, not {labels.dtype} {labels.shape}."
                )
            if labels.max() > len(self.classes):
                raise GeometryError(
                    f"{name} holds {labels.max()}, but there are {len(self.classes)} classes."
                )
            labels.flags.writeable = False
            object.__setattr__(self, name, labels)

    @property
    def dims(self) -> int:
        """2 or 3."""
        return self.grid.dims

    @property
    def size(self) -> tuple[int, ...]:
        """(width, height[, depth]) in pixels."""
        return self.grid.size

    @property
    def spacing_mm(self) -> tuple[float, ...] | None:
        """(x, y[, z]) millimetres per pixel, None where unknown."""
        return self.grid.spacing_mm

    @property
    def organs(self) -> tuple[str, ...]:
        """Names of the organs, in the order of their labels."""
        return self.classes

    @property
    def labels(self) -> dict[str, int]:
        """Value of each organ in the label maps; 0 is background."""
        return {organ: value for value, organ in enumerate(self.classes, start=1)}

    @property
    def mask(self) -> Labels:
        """The repaired label map; the same as `after`."""
        return self.after

    @cached_property
    def masks(self) -> Masks:
        """Repaired mask of each organ, bool; a pixel belongs to one organ alone."""
        return {organ: _read_only(self.after == value) for organ, value in self.labels.items()}

    @cached_property
    def changed(self) -> npt.NDArray[np.bool_]:
        """Where before and after differ, bool."""
        return _read_only(self.before != self.after)

    @cached_property
    def dice(self) -> dict[str, float]:
        """Dice of each organ between before and after; NaN where it is in neither."""
        return change_in_dice(label_table(self.before, self.after, len(self.classes)), self.classes)

    @cached_property
    def plausibility_before(self) -> dict[str, Plausibility]:
        """Size, parts and holes of each organ as given."""
        return {organ: _plausibility(self.before == value) for organ, value in self.labels.items()}

    @cached_property
    def plausibility_after(self) -> dict[str, Plausibility]:
        """Size, parts and holes of each organ after the repair."""
        return {organ: _plausibility(mask) for organ, mask in self.masks.items()}

    @property
    def areas_px(self) -> dict[str, int]:
        """Number of pixels or voxels of each organ after the repair."""
        return {organ: int(np.count_nonzero(mask)) for organ, mask in self.masks.items()}

    @property
    def areas_mm2(self) -> dict[str, float] | None:
        """Area of each organ of a 2-D mask after the repair; None without a spacing, and of volumes."""
        return self._in_mm() if self.dims == 2 else None

    @property
    def volumes_mm3(self) -> dict[str, float] | None:
        """Volume of each organ after the repair; None without a spacing, and of 2-D masks."""
        return self._in_mm() if self.dims == 3 else None

    def _in_mm(self) -> dict[str, float] | None:
        if self.spacing_mm is None:
            return None
        return {organ: count * math.prod(self.spacing_mm) for organ, count in self.areas_px.items()}

    def plot(self) -> Figure:
        """Draw the mask before and after, and the difference, with matplotlib.

        In 3-D the slices through the middle of the anatomy are shown. The figure is none of pyplot's, so
        nothing is left open; notebooks display it.
        """
        from anatozoo.results.draw.repair import plot_repair

        return plot_repair(self)

    def save(
        self,
        directory: str | os.PathLike[str],
        formats: Sequence[str] | None = None,
        stem: str | None = None,
    ) -> list[Path]:
        """Write files, each of them atomically.

        Args:
            directory: folder, created if it does not exist.
            formats: ``"png"`` (``_mask.png``, a palette picture whose pixels are the labels; 2-D alone),
                ``"nifti"`` or ``"mha"`` (``_mask.nii.gz``, ``_mask.mha``, with spacing, origin and
                directions), ``"picture"`` (``_repair.png``, the plot), ``"json"``. None takes the mask as
                PNG, or of a volume as NIfTI, the picture and the JSON.
            stem: start of the file names; None takes the name of the mask without its suffix, and without
                ``_mask``.

        Returns:
            The paths.

        Raises:
            ConfigError: a format is unknown, or `stem` is no file name.
            GeometryError: ``"png"`` of a volume, or ``"mha"`` without a spacing.
            OutputError: a file cannot be written.
        """
        from anatozoo.io.files import stem_of
        from anatozoo.io.writers import output_files

        wanted = (DEFAULT_FORMATS if self.dims == 2 else VOLUME_FORMATS) if formats is None else formats
        chosen = stem_of(Path(self.image)).removesuffix("_mask") if stem is None else stem
        return [self._write(path, kind) for path, kind in output_files(directory, chosen, wanted, FORMATS)]

    def _write(self, path: Path, kind: str) -> Path:
        from anatozoo.io import writers

        if kind == "json":
            return writers.write_json(path, self.to_dict())
        if kind == "picture":
            from anatozoo.results.draw.repair import figure_bytes

            return writers.write_bytes(path, figure_bytes(self.plot()))
        if kind == "png":
            from anatozoo.results.draw.segmentation import label_palette

            if self.dims != 2:
                raise GeometryError("PNG cannot hold a volume; save its mask as 'nifti' or 'mha'.")
            return writers.write_label_png(path, self.after, label_palette(self.classes))
        from anatozoo.io.grid import itk_image

        return writers.write_itk(
            path, itk_image(self.after, self.grid), units_known=self.spacing_mm is not None
        )

    def to_dict(self) -> dict[str, Any]:
        """All but the label maps as JSON values; null where millimetres are unknown or an organ is absent."""
        before, after = self.plausibility_before, self.plausibility_after
        in_mm = self._in_mm()
        sizes = in_mm and {organ: round(value, 3) for organ, value in in_mm.items()}
        return {
            "schema_version": 1,
            "checkpoint": self.checkpoint,
            "version": self.version,
            "image": self.image,
            "size": list(self.size),
            "spacing_mm": list(self.spacing_mm) if self.spacing_mm else None,
            "grid": self.grid.to_dict(),
            "flags": list(self.flags),
            "labels": self.labels,
            "changed_fraction": round(float(self.changed.mean()), 6),
            "dice": {organ: None if math.isnan(d) else round(d, 6) for organ, d in self.dice.items()},
            "before": {organ: vars(found) for organ, found in before.items()},
            "after": {organ: vars(found) for organ, found in after.items()},
            "areas_mm2" if self.dims == 2 else "volumes_mm3": sizes,
        }

    def _repr_png_(self) -> bytes:
        """Picture for notebooks, where a result on a line of its own shows itself."""
        from anatozoo.results.draw.repair import figure_bytes

        return figure_bytes(self.plot())


def label_table(before: Labels, after: Labels, classes: int) -> npt.NDArray[np.int64]:
    """Number of pixels with each label before (rows) and after (columns), (1 + classes, 1 + classes)."""
    count = classes + 1
    # Few pixels change, and counting the others takes a fraction of the time of counting pairs.
    table = np.diag([np.count_nonzero(before == value) for value in range(count)])
    places = np.flatnonzero((before != after).ravel())
    old, new = (labels.ravel()[places].astype(np.intp) for labels in (before, after))
    changed = np.bincount(old * count + new, minlength=count * count).reshape(count, count)
    result: npt.NDArray[np.int64] = table + changed - np.diag(changed.sum(1))
    return result


def change_in_dice(table: npt.NDArray[np.int64], classes: Sequence[str]) -> dict[str, float]:
    """Dice of each organ between before and after, from `label_table`; NaN where it is in neither."""
    both, either = np.diag(table), table.sum(0) + table.sum(1)
    return {
        organ: float(2 * both[value] / either[value]) if either[value] else math.nan
        for value, organ in enumerate(classes, start=1)
    }


def _plausibility(mask: npt.NDArray[np.bool_]) -> Plausibility:
    from anatozoo.metrics.plausibility import components, holes

    return Plausibility(int(np.count_nonzero(mask)), components(mask), holes(mask))


def _read_only(array: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    array.flags.writeable = False
    return array

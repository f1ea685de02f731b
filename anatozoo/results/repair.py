"""The result of a model that repairs masks: the mask before and after, and the changes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from anatozoo.io.grid import itk_image
from anatozoo.results.base import (
    Formats,
    GridResult,
    Names,
    read_only,
    write_grid,
    write_json,
    write_labels,
    write_picture,
)
from anatozoo.results.dicom_files import PLANE, VOLUME
from anatozoo.results.labels import LabelMap, Labels, checked_labels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from anatozoo.metrics.measurements import Measurement

_FORMATS = Formats(
    "repaired masks",
    {
        "png": {"_mask.png": write_labels},
        "nifti": {"_mask.nii.gz": write_grid},
        "mha": {"_mask.mha": write_grid},
        "picture": {"_repair.png": write_picture},
        "json": {".json": write_json},
    },
    default=("png", "picture", "json"),
)


@dataclass(frozen=True)
class Plausibility:
    """Measures of an organ's mask without a reference.

    Attributes:
        pixels: number of pixels or voxels.
        components: connected parts.
        holes: enclosed parts of the background.
    """

    pixels: int
    components: int
    holes: int


@dataclass(frozen=True, eq=False, repr=False)
class RepairResult(LabelMap, GridResult):
    """A mask before and after the repair by a model, both on the grid of the given mask.

    `save` knows ``"png"`` (``_mask.png``, a palette picture whose pixels are the labels; 2-D alone),
    ``"nifti"`` or ``"mha"`` (``_mask.nii.gz``, ``_mask.mha``, with spacing, origin and directions),
    ``"picture"`` (``_repair.png``, the plot) and ``"json"``.

    Attributes:
        classes: organs in the order of their labels 1, 2, ...
        before: (H, W) or (D, H, W) uint8, the given mask, read-only; from probabilities, the most probable
            labels.
        after: the repaired mask, of the same shape and type.
        flags: what to look at, such as ``"large_change_heart"``, ``"restored_heart"``, ``"removed_heart"``,
            ``"missing_heart"``; empty is good.
        volume_formats: the formats of volumes, which PNG cannot hold.

    Raises:
        GeometryError: the label maps do not lie on the grid, or a label has no class.
    """

    formats: ClassVar[Formats] = replace(_FORMATS, writers={**_FORMATS.writers, **PLANE})
    volume_formats: ClassVar[Formats] = Formats(
        "repaired volumes",
        {name: files for name, files in _FORMATS.writers.items() if name != "png"} | VOLUME,
        default=("nifti", "picture", "json"),
    )
    head: ClassVar[Names] = (*GridResult.head, "labels")

    classes: tuple[str, ...]
    before: Labels = field(repr=False)
    after: Labels = field(repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._put(classes=tuple(self.classes))
        for name in ("before", "after"):
            labels = checked_labels(getattr(self, name), self.grid.shape, self.classes, f"mask {name}")
            self._put(**{name: labels})

    @property
    def stem(self) -> str:
        """Start of the names of its files: the name of the mask without its suffix and ``_mask``."""
        return super().stem.removesuffix("_mask")

    @property
    def default_formats(self) -> tuple[str, ...]:
        """The mask as PNG (volumes as NIfTI), the picture and the JSON."""
        return (self.formats if self.dims == 2 else self.volume_formats).default

    @property
    def dims(self) -> int:
        """2 or 3."""
        return self.grid.dims

    @property
    def mask(self) -> Labels:
        """The repaired label map, equal to `after`."""
        return self.after

    @cached_property
    def changed(self) -> npt.NDArray[np.bool_]:
        """Pixels that differ between before and after, bool."""
        return read_only(self.before != self.after)

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

    @property
    def measurements(self) -> list[Measurement]:
        """Area or volume of each organ after the repair, and of chests the cardiothoracic ratio."""
        from anatozoo.metrics.measurements import cardiothoracic, sizes
        from anatozoo.metrics.plausibility import chest_lines

        found = sizes(self.areas_px, self.spacing_mm, self.dims)
        return found if self.dims == 3 else found + cardiothoracic(chest_lines(self.masks), self.spacing_mm)

    def as_sitk(self) -> Any:
        """A ``SimpleITK.Image`` of the repaired labels, with spacing, origin and directions."""
        return itk_image(self.after, self.grid)

    def plot(self) -> Figure:
        """Draw the mask before and after, and the difference, with matplotlib.

        In 3-D the slices through the centre of the anatomy are shown.
        """
        from anatozoo.results.draw.repair import plot_repair

        return self._titled(plot_repair(self.before, self.after, self.classes, self.spacing_mm))

    def to_dict(self) -> dict[str, Any]:
        """Everything except label maps as JSON values; null for unknown millimetres and absent organs."""
        before, after = self.plausibility_before, self.plausibility_after
        in_mm = self._in_mm()
        sizes = in_mm and {organ: round(value, 3) for organ, value in in_mm.items()}
        return super().to_dict() | {
            "changed_fraction": round(float(self.changed.mean()), 6),
            "dice": {organ: None if math.isnan(d) else round(d, 6) for organ, d in self.dice.items()},
            "before": {organ: vars(found) for organ, found in before.items()},
            "after": {organ: vars(found) for organ, found in after.items()},
            "measurements": [each.to_dict() for each in self.measurements],
            "areas_mm2" if self.dims == 2 else "volumes_mm3": sizes,
        }


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

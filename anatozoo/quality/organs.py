"""Segmentations with named organs in any form, and the organs that two of them share."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from anatozoo.errors import DataError, GeometryError
from anatozoo.io.annotation import Annotation
from anatozoo.io.grid import Grid
from anatozoo.io.landmarks import draw_organ_mask
from anatozoo.io.raw import read_raw
from anatozoo.metrics.plausibility import centroid, organ_masks
from anatozoo.organs import PAIRS, parts_of

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class OrganMasks:
    """A segmentation, read by `read_organs`.

    Attributes:
        masks: organ -> bool, (H, W) or (D, H, W); they may overlap.
        grid: grid of the pixels.
    """

    masks: dict[str, Bools]
    grid: Grid

    @cached_property
    def anything(self) -> Bools:
        """Pixels of any organ."""
        return np.logical_or.reduce(list(self.masks.values()))

    def whole(self, organ: str) -> Bools | None:
        """Mask of an organ, or of its two sides; None if it is unknown."""
        parts = (organ,) if organ in self.masks else parts_of(organ)
        known = all(part in self.masks for part in parts)
        return np.logical_or.reduce([self.masks[part] for part in parts]) if known else None


def read_organs(
    mask: Any,
    classes: Sequence[str] | None = None,
    *,
    spacing_mm: float | Sequence[float] | None = None,
) -> OrganMasks:
    """Read a segmentation in any form; all signals call this.

    Args:
        mask: label map (array, path, tensor, PIL or SimpleITK image), organ -> mask, a model's result, an
            `Annotation` or `OrganMasks`.
        classes: names of the values 1, 2, ... of a label map, which needs them.
        spacing_mm: one number or (x, y[, z]) in mm, if the source has none.

    Raises:
        DataError: a label map or a value without a name, or no organ.
        GeometryError: the masks differ in shape.
        ImageError: the segmentation cannot be read.
    """
    found = mask if isinstance(mask, OrganMasks) else _read(mask, classes)
    shapes = {organ: values.shape for organ, values in found.masks.items()}
    if strange := [organ for organ, shape in shapes.items() if shape != found.grid.shape]:
        raise GeometryError(
            f"the mask of {strange[0]} has the shape {shapes[strange[0]]}, the others {found.grid.shape}."
        )
    return found if spacing_mm is None else OrganMasks(found.masks, found.grid.with_spacing(spacing_mm))


def pair_of(organ: str) -> str | None:
    """The pair that an organ belongs to, such as ``lungs``; None for a single organ."""
    return next((pair for pair, parts in PAIRS.items() if organ in parts), None)


def has_organ(names: Iterable[str], organ: str) -> bool:
    """Whether an organ, or both of its sides, are among these."""
    there = set(names)
    return organ in there or there.issuperset(parts_of(organ))


def common_organs(ours: Iterable[str], theirs: Iterable[str]) -> list[str]:
    """Organs that both segmentations have, in the order of the second; pairs if one joins the two sides.

    Raises:
        DataError: they share no organ.
    """
    first, second = list(ours), list(theirs)
    found = []
    for organ in second:
        pair = pair_of(organ)
        if has_organ(first, organ):
            found.append(organ)
        elif pair is not None and pair in first and has_organ(second, pair):
            found.append(pair)
    if not found:
        raise DataError(
            f"the segmentation has {', '.join(first)}, the other side {', '.join(second)}: none is shared."
        )
    return list(dict.fromkeys(found))


def exclusive_labels(side: OrganMasks, organs: Sequence[str]) -> npt.NDArray[np.uint8]:
    """Label map of these organs, later ones over earlier ones."""
    labels = np.zeros(side.grid.shape, np.uint8)
    for value, organ in enumerate(organs, start=1):
        mask = side.whole(organ)
        if mask is not None:
            labels[mask] = value
    return labels


def labels_for(found: OrganMasks, organs: Sequence[str]) -> npt.NDArray[np.uint8]:
    """Label map of a model's organs, in its order; pairs that the mask joins are cut in two.

    Raises:
        DataError: no organ in common, or a pair in a volume, which cannot be cut.
    """
    common_organs(found.masks, organs)
    masks = dict(found.masks)
    for pair, parts in PAIRS.items():
        if pair in masks and pair not in organs and any(part in organs for part in parts):
            if found.grid.dims != 2:
                raise DataError(f"{pair} of a volume cannot be told apart; give {' and '.join(parts)}.")
            masks |= dict(zip(parts, _sides(masks[pair]), strict=True))
    return exclusive_labels(OrganMasks(masks, found.grid), organs)


def _sides(mask: Bools) -> tuple[Bools, Bools]:
    """The parts left and right of the centroid in the image: the patient's right and left side."""
    is_left = np.arange(mask.shape[1]) < centroid(mask)[0]
    return mask & is_left, mask & ~is_left


def _read(mask: Any, classes: Sequence[str] | None) -> OrganMasks:
    if isinstance(mask, Annotation):
        size = (mask.size[0], mask.size[1])
        drawn = {organ: draw_organ_mask(points, size) for organ, points in mask.landmarks.items()}
        return OrganMasks(drawn | dict(mask.masks), Grid(mask.size, mask.spacing_mm))
    named = mask if isinstance(mask, Mapping) else getattr(mask, "masks", None)
    if isinstance(named, Mapping):
        masks = {str(organ): np.asarray(values) != 0 for organ, values in named.items()}
        if not masks:
            raise DataError("the segmentation has no organ.")
        grid = getattr(mask, "grid", None)
        if not isinstance(grid, Grid):
            grid = Grid(next(iter(masks.values())).shape[::-1], getattr(mask, "spacing_mm", None))
        return OrganMasks(masks, grid)
    if not classes:
        raise DataError("a label map needs `classes`, the names of its values 1, 2, ...")
    _, values, grid = read_raw(mask)
    try:
        masks = organ_masks(values, classes)
    except GeometryError as error:
        raise DataError(f"{error} `classes` are the names of the values 1, 2, ...") from error
    return OrganMasks(masks, Grid(np.shape(values)[::-1]) if grid is None else grid)

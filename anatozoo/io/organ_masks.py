"""Masks of several organs of one 2-D image, which may overlap, be missing, or show both sides as one."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from anatozoo.errors import ImageError
from anatozoo.io.annotation import PAIRS, parts_of
from anatozoo.io.annotations import Entry
from anatozoo.io.grid import Grid
from anatozoo.io.label_codes import WHITE, LabelCodes, check_known, white_words
from anatozoo.io.masks import NEAR_WHOLE, Classes
from anatozoo.io.raw import read_raw

Mask = npt.NDArray[np.bool_]
MIN_SIDE = 4


@dataclass(frozen=True, eq=False)
class OrganMasks:
    """Masks of one image.

    Attributes:
        masks: organ, or a pair such as ``"lungs"``, -> (H, W) bool, each with at least one pixel.
        grid: where the pixels lie.
        name: path or name of the source, or ``"array"``.
    """

    masks: Mapping[str, Mask]
    grid: Grid
    name: str = "array"

    @property
    def exclusive(self) -> bool:
        """Whether no pixel belongs to two organs, as in a label map, where one organ cuts another."""
        return not any((one & other).any() for one, other in combinations(self.masks.values(), 2))


def read_organ_masks(
    x: Any,
    organs: Sequence[str],
    *,
    classes: Classes | LabelCodes = None,
    spacing_mm: float | Sequence[float] | None = None,
) -> OrganMasks:
    """Read the masks of one image.

    Args:
        x: path, array, tensor, PIL or SimpleITK image, a result with masks, or `OrganMasks`. As numbers it
            is a label map (H, W), or one plane of 0 and 1 (or 255) per organ, first axis; planes may overlap.
        organs: those that the model knows.
        classes: names of the labels 1, 2, ..., or value -> name, of the planes in order; ``"lungs"`` and
            ``"clavicles"`` are both sides in one. None takes `organs`. Of results, their own names count.
        spacing_mm: one number or (x, y), in place of what the source says.

    Raises:
        ImageError, DataError: it is not a mask, is not 2-D, holds values without a name or organs that the
            model does not know, or shows nothing.
        GeometryError: the spacing is not positive, or masks of one image differ in size.
    """
    if isinstance(x, OrganMasks):
        found = x
    elif not isinstance(x, np.ndarray) and hasattr(x, "masks") and hasattr(x, "organs"):
        grid = getattr(x, "grid", None) or Grid(tuple(x.size), x.spacing_mm)
        found = OrganMasks(dict(x.masks), grid, str(getattr(x, "image", "result")))
    elif isinstance(x, str | os.PathLike):
        path = Path(os.fsdecode(x))
        found = read_entry(Entry({None: path}), organs, str(path), _codes(classes))
    else:
        label, values, known = read_raw(x)
        what = label.replace("image", "mask")
        masks = _of_values(np.asarray(values), organs, classes, what)
        size = next(iter(masks.values())).shape[::-1]
        found = OrganMasks(masks, known if known is not None and known.size == size else Grid(size))
    if spacing_mm is not None:
        found = replace(found, grid=found.grid.with_spacing(spacing_mm))
    return checked(found, organs)


def read_entry(entry: Entry, organs: Sequence[str], name: str, codes: LabelCodes | None) -> OrganMasks:
    """The masks that the files of an image hold.

    Args:
        entry: the files.
        organs: those that the model knows.
        name: what messages call the source.
        codes: what the values of label maps mean; None takes `organs` in order.

    Raises:
        DataError, ImageError, GeometryError: see `read_organ_masks`.
    """
    from anatozoo.io.landmarks import draw_organ_mask

    # Only ranges of values ask for soft edges; without them, a reader says what is wrong with such a file.
    ranged = codes is not None and any(low != high for pairs in codes.ranges.values() for low, high in pairs)
    stored = entry.read(codes if ranged else None)
    grid = stored.grid
    if grid is None:
        raise ImageError(f"{name!r} holds landmarks or run lengths of an image of unknown size; give masks.")
    if grid.dims != 2:
        raise ImageError(f"{name!r} is 3-D; landmarks are of 2-D radiographs.")
    masks = dict(stored.masks)
    labels = stored.as_stored().labels
    if labels is not None:
        masks |= _of_values(labels, organs, codes, repr(Path(name).name))
    if stored.row is not None:
        masks |= stored.row.masks((grid.size[0], grid.size[1]))
    for organ, points in stored.landmarks.items():
        if organ not in masks:
            masks[organ] = draw_organ_mask(points, (grid.size[0], grid.size[1]))
    return checked(OrganMasks(masks, grid, name), organs)


def checked(found: OrganMasks, organs: Sequence[str]) -> OrganMasks:
    """The masks without empty ones, and without a pair both of whose sides are there.

    Raises:
        ImageError: they are not 2-D, show nothing or one organ everywhere, or organs that the model does not
            know.
    """
    what = f"the mask {Path(found.name).name!r}"
    known = [*organs, *(pair for pair, parts in PAIRS.items() if set(parts) <= set(organs))]
    if stray := [organ for organ in found.masks if organ not in known]:
        raise ImageError(
            f"{what} has {', '.join(stray)}, which this model does not know; it takes {', '.join(known)}. "
            "Leave other organs out."
        )
    for organ, mask in found.masks.items():
        if mask.ndim != 2 or min(mask.shape) < MIN_SIDE:
            raise ImageError(
                f"{what} has the shape {mask.shape}; 2-D masks of {MIN_SIDE} pixels and more are needed."
            )
        if mask.all():
            raise ImageError(f"{what} is {organ} everywhere, which says nothing of its shape.")
    shown = {organ: mask for organ, mask in found.masks.items() if mask.any()}
    if not shown:
        raise ImageError(f"{what} is empty: it shows no organ.")
    whole = {o: m for o, m in shown.items() if o not in PAIRS or not all(p in shown for p in parts_of(o))}
    return replace(found, masks=whole)


def _codes(classes: Classes | LabelCodes) -> LabelCodes | None:
    """What the values of label maps mean; None where nobody said."""
    if classes is None or isinstance(classes, LabelCodes):
        return classes
    named = classes if isinstance(classes, Mapping) else dict(enumerate(classes, start=1))
    ranges: dict[str, tuple[tuple[int, int], ...]] = {}
    for value, name in named.items():
        ranges[str(name)] = (*ranges.get(str(name), ()), (int(value), int(value)))
    return LabelCodes(ranges)


def _of_values(
    values: npt.NDArray[Any], organs: Sequence[str], classes: Classes | LabelCodes, what: str
) -> dict[str, Mask]:
    """Organ -> mask, from a label map or from planes."""
    if values.dtype.kind not in "biuf" or not values.size:
        raise ImageError(f"{what} holds {values.dtype} of shape {values.shape}; a mask holds numbers.")
    if values.ndim == 3 and values.shape[-1] in (3, 4) and min(values.shape[:2]) > MIN_SIDE:
        raise ImageError(
            f"{what} is a colour picture of shape {values.shape}; save the mask with one value per pixel, or "
            "give planes of organs first, (C, H, W)."
        )
    if values.ndim not in (2, 3):
        raise ImageError(
            f"{what} is {values.ndim}-D; give a label map (H, W) or one plane per organ (C, H, W)."
        )
    if values.dtype.kind == "f":
        whole = np.rint(values)
        if not np.isfinite(values).all() or np.abs(values - whole).max() > NEAR_WHOLE:
            raise ImageError(
                f"{what} holds fractions, NaN or infinity; landmarks are of masks with whole numbers: take "
                "the most probable label of each pixel first."
            )
        values = whole.astype(np.int64)
    codes = _codes(classes) or _codes(list(organs))
    assert codes is not None
    if values.ndim == 3:
        return _of_planes(values, list(codes.organs), what)
    present = [int(value) for value in np.unique(values) if value]
    if present == [WHITE] and codes.unknown(present):
        if len(codes.organs) > 1:
            raise ImageError(white_words(what, codes.organs))
        return {codes.organs[0]: values == WHITE}
    names = {low: name for name, ranges in codes.ranges.items() for low, high in ranges if low == high}
    if codes.unknown(present):
        check_known(values, names, what, "name them by --labels or classes={value: organ}, or set them to 0")
    return codes.masks(values)


def _of_planes(values: npt.NDArray[Any], names: Sequence[str], what: str) -> dict[str, Mask]:
    if len(values) != len(names):
        raise ImageError(
            f"{what} has the shape {values.shape}: neither one value per pixel nor one plane, first axis, "
            f"for each of {', '.join(names)}. Name the planes by classes."
        )
    found = {}
    for name, plane in zip(names, values, strict=True):
        held = [int(value) for value in np.unique(plane) if value]
        if len(held) > 1 or not set(held) <= {1, WHITE}:
            raise ImageError(
                f"{what}: the plane of {name} holds {held[:5]}; a plane holds 0 and 1, or 0 and 255."
            )
        found[name] = plane != 0
    return found

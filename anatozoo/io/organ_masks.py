"""Masks of several organs of one 2-D image, which may overlap, be missing, or show both sides as one."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from anatozoo.errors import GeometryError, ImageError
from anatozoo.io.annotation import misspelt
from anatozoo.io.annotations import Entry
from anatozoo.io.grid import Grid
from anatozoo.io.label_codes import WHITE, LabelCodes, check_known, white_words
from anatozoo.io.masks import MIN_SIDE, NEAR_WHOLE, Classes, check_kind
from anatozoo.io.memory import memory_name
from anatozoo.io.raw import read_raw
from anatozoo.organs import PAIRS, parts_of, with_pairs

Mask = npt.NDArray[np.bool_]
Spacing = float | Sequence[float] | None


@dataclass(frozen=True, eq=False)
class OrganMasks:
    """Masks of one image.

    Attributes:
        masks: organ, or a pair such as ``"lungs"``, -> (H, W) bool; once checked, each with a pixel.
        grid: where the pixels lie.
        name: path or name of the source, or ``"array"``.
    """

    masks: Mapping[str, Mask]
    grid: Grid
    name: str = "array"


def read_organ_masks(
    x: Any,
    organs: Sequence[str],
    *,
    classes: Classes | LabelCodes = None,
    spacing_mm: Spacing = None,
) -> OrganMasks:
    """Read the masks of one image.

    Args:
        x: path, bytes, binary file object, array, tensor, PIL or SimpleITK image, a result with masks, or
            `OrganMasks`. As numbers it is a label map (H, W), or one plane of 0 and 1 (or 255) per organ,
            first axis; planes may overlap.
        organs: those that the model knows.
        classes: names of the labels 1, 2, ..., or value -> name, of the planes in order; ``"lungs"`` and
            ``"clavicles"`` are both sides in one. None takes `organs`. Of results, their own names count.
        spacing_mm: one number or (x, y), in place of what the source says.

    Raises:
        ImageError, DataError: it is not a mask, is not 2-D, holds values without a name or organs that the
            model does not know, or shows nothing.
        GeometryError: the spacing is not positive, or masks of one image differ in size.
    """
    if isinstance(x, str | os.PathLike):
        path = Path(os.fsdecode(x))
        return read_entry(Entry({None: path}), organs, str(path), _codes(classes), spacing_mm)
    if isinstance(x, OrganMasks):
        found = x
    elif not isinstance(x, np.ndarray) and hasattr(x, "masks") and hasattr(x, "organs"):
        grid = getattr(x, "grid", None) or Grid(tuple(x.size), x.spacing_mm)
        found = OrganMasks(dict(x.masks), grid, str(getattr(x, "image", "result")))
    else:
        label, values, known = read_raw(x)
        what = label if memory_name(x) else label.replace("image", "mask")
        masks = _of_values(np.asarray(values), organs, classes, what)
        size = next(iter(masks.values())).shape[::-1]
        grid = known if known is not None and known.size == size else Grid(size)
        found = OrganMasks(masks, grid, memory_name(x) or "array")
    return checked(found, organs, spacing_mm)


def read_entry(
    entry: Entry, organs: Sequence[str], name: str, codes: LabelCodes | None, spacing_mm: Spacing = None
) -> OrganMasks:
    """The masks that the files of an image hold.

    Args:
        entry: the files.
        organs: those that the model knows.
        name: what messages call the source.
        codes: what the values of label maps mean; None takes `organs` in order.
        spacing_mm: one number or (x, y), in place of what the files say.

    Raises:
        DataError, ImageError, GeometryError: see `read_organ_masks`.
    """
    from anatozoo.io.landmarks import draw_organ_mask

    # By their names alone, for files of other organs may hold anything.
    _check_names([organ for organ in entry.files if organ is not None], organs, name)
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
    return checked(OrganMasks(masks, grid, name), organs, spacing_mm)


def checked(found: OrganMasks, organs: Sequence[str], spacing_mm: Spacing = None) -> OrganMasks:
    """The masks as booleans, without empty ones, and without a pair both of whose sides are there.

    Args:
        found: the masks: booleans, 0 and 1, or 0 and 255.
        organs: those that the model knows.
        spacing_mm: one number or (x, y), in place of the grid's.

    Raises:
        ImageError: they are not 2-D, hold other values, show nothing or one organ everywhere, or organs that
            the model does not know.
        GeometryError: the spacing is not positive, or a mask has another size than the grid.
    """
    if spacing_mm is not None:
        found = replace(found, grid=found.grid.with_spacing(spacing_mm))
    _check_names(found.masks, organs, found.name)
    what = f"the mask {Path(found.name).name!r}"
    shown = {}
    for organ, given in found.masks.items():
        mask = _as_bool(np.asarray(given), f"{what}: the mask of {organ}", found.grid)
        if mask.all():
            raise ImageError(f"{what} is {organ} everywhere, which says nothing of its shape.")
        if mask.any():
            shown[organ] = mask
    if not shown:
        raise ImageError(f"{what} is empty: it shows no organ.")
    whole = {o: m for o, m in shown.items() if o not in PAIRS or not all(p in shown for p in parts_of(o))}
    return replace(found, masks=whole)


def _check_names(names: Collection[str], organs: Sequence[str], name: str) -> None:
    """Refuse masks of organs that the model does not know, with those that look like a misspelt one."""
    known = with_pairs(organs)
    if stray := [organ for organ in names if organ not in known]:
        meant = [f"{organ} looks like {near}. " for organ, near in misspelt(names, known).items()]
        raise ImageError(
            f"the mask {Path(name).name!r} has {', '.join(stray)}, which this model does not know; it takes "
            f"{', '.join(known)}. {''.join(meant)}Leave other organs out."
        )


def _as_bool(mask: npt.NDArray[Any], what: str, grid: Grid) -> Mask:
    if mask.ndim != 2 or min(mask.shape) < MIN_SIDE:
        raise ImageError(
            f"{what} has the shape {mask.shape}; 2-D masks of {MIN_SIDE} pixels and more are needed."
        )
    if mask.shape != grid.shape:
        sizes = (" x ".join(map(str, size)) for size in (mask.shape[::-1], grid.size))
        raise GeometryError(f"{what} is {' pixels, but the image '.join(sizes)}; all masks need one size.")
    if mask.dtype == bool:
        return mask
    held = [value for value in np.unique(mask).tolist() if value]
    if held not in ([], [1], [WHITE]):
        raise ImageError(f"{what} holds {held[:5]}; the mask of an organ holds 0 and 1, or 0 and 255.")
    return mask != 0


def _codes(classes: Classes | LabelCodes) -> LabelCodes | None:
    """What the values of label maps mean; None where nobody said."""
    return classes if classes is None or isinstance(classes, LabelCodes) else LabelCodes.of(classes)


def _of_values(
    values: npt.NDArray[Any], organs: Sequence[str], classes: Classes | LabelCodes, what: str
) -> dict[str, Mask]:
    """Organ -> mask, from a label map or from planes, whose values `checked` looks at."""
    check_kind(values, what, 2)
    if values.dtype.kind == "f":
        whole = np.rint(values)
        if np.abs(values - whole).max() > NEAR_WHOLE:
            raise ImageError(
                f"{what} holds fractions; landmarks are of masks with whole numbers: take the most probable "
                "label of each pixel first."
            )
        values = whole.astype(np.int64)
    codes = _codes(classes) or LabelCodes.of(organs)
    names = codes.organs
    if values.ndim == 3:
        if len(values) != len(names):
            raise ImageError(
                f"{what} has the shape {values.shape}: neither one value per pixel nor one plane, first "
                f"axis, for each of {', '.join(names)}. Name the planes by classes."
            )
        return dict(zip(names, values, strict=True))
    if values.dtype.kind == "b" and len(names) > 1:
        raise ImageError(
            f"{what} holds true and false, which is a mask of one organ, but there are {len(names)}: "
            f"{', '.join(names)}. Name its organ by classes, or give a label map or one plane per organ."
        )
    present = [int(value) for value in np.unique(values) if value]
    if present == [WHITE] and codes.unknown(present):
        if len(names) > 1:
            raise ImageError(white_words(what, names))
        return {names[0]: values == WHITE}
    if codes.unknown(present):
        single = {low: name for name, ranges in codes.ranges.items() for low, high in ranges if low == high}
        check_known(values, single, what, "name them by --labels or classes={value: organ}, or set them to 0")
    return codes.masks(values)

"""Masks as users have them: files, arrays, label maps, probabilities, results of segmenters."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from anatozoo.errors import ImageError
from anatozoo.io.grid import Grid
from anatozoo.io.label_codes import WHITE, edge_values, soft_words
from anatozoo.io.limits import MAX_VOXELS
from anatozoo.io.memory import input_name, memory_name
from anatozoo.io.raw import read_raw
from anatozoo.organs import PAIRS

if TYPE_CHECKING:
    from anatozoo.io.dicom_source import DicomSource

MIN_SIDE = 4
NEAR_WHOLE = 1e-3
"""How far from a whole number a label may be that came through arithmetic."""
SUM_TOLERANCE = 0.02
"""How far from 1 probabilities may sum up, after half precision or 8 bits."""

Labels = npt.NDArray[np.uint8]
Planes = npt.NDArray[np.float32]
Classes = Sequence[str] | Mapping[int, str] | None


@dataclass(frozen=True, eq=False)
class MaskInput:
    """A mask as read.

    Attributes:
        labels: (H, W) or (D, H, W) uint8, values in the order of the model's organs.
        grid: where its pixels lie.
        name: path or name of the source, or ``"array"``.
        planes: ``(organs, ...)`` float32 in [0, 1], where it was given as probabilities.
        dicom: of a result, the DICOM instances that it was found in.
    """

    labels: Labels
    grid: Grid
    name: str
    planes: Planes | None = None
    dicom: DicomSource | None = None


def read_mask(
    x: Any,
    organs: Sequence[str],
    dims: int,
    *,
    classes: Classes = None,
    spacing_mm: float | Sequence[float] | None = None,
) -> MaskInput:
    """Read a mask and bring its labels into the order of a model's organs.

    Args:
        x: path, bytes, binary file object, array, tensor, PIL or SimpleITK image, a result with organs and
            masks, or a `MaskInput`. As numbers it is one of

            * a label map, (H, W) or (D, H, W): whole numbers, or numbers within 0.001 of whole ones. For a
              model of one organ also booleans, 0 and 255, or the organ's probability in [0, 1];
            * one plane per organ, or per background and organ, first axis: 0 and 1, booleans, or
              probabilities that sum to 1. Planes of the organs alone may overlap: later ones cover earlier.
        organs: the model's organs.
        dims: 2 or 3.
        classes: names of the labels 1, 2, ... or value -> name, of the planes in order; None takes the
            model's organs. ``"lungs"`` may be given as both lungs. For results, their own names count.
        spacing_mm: one number or (x, y[, z]), in place of what the source says.

    Raises:
        ImageError: it is not a mask, has another number of dimensions, holds labels that the model does not
            know, NaN or fractions, shows nothing, or shows one organ everywhere.
        GeometryError: the spacing is not positive.
    """
    if isinstance(x, MaskInput):
        return x if spacing_mm is None else replace(x, grid=x.grid.with_spacing(spacing_mm))
    if not isinstance(x, np.ndarray) and hasattr(x, "masks") and hasattr(x, "organs"):
        labels, grid, name = _of_result(x, organs, dims)
        planes = None
    else:
        label, values, known = read_raw(x)
        is_file = isinstance(x, str | os.PathLike) or memory_name(x) is not None
        name = input_name(x) if is_file else "array"
        what = f"the mask {Path(name).name!r}" if is_file else label.replace("image", "mask")
        values = np.asarray(values)
        check_kind(values, what, dims)
        table = _value_table(classes, organs, what)
        if values.ndim == dims:
            labels, planes = _from_map(values, organs, table, what, named=classes is not None)
        else:
            labels, planes = _from_planes(values, organs, classes, what)
        grid = known if known is not None and known.dims == dims else Grid(labels.shape[::-1])
    if spacing_mm is not None:
        grid = grid.with_spacing(spacing_mm)
    _check_content(labels, organs, name)
    return MaskInput(labels, grid, name, planes, getattr(x, "dicom", None))


def _of_result(result: Any, organs: Sequence[str], dims: int) -> tuple[Labels, Grid, str]:
    """Label map of a segmenter's result, organs matched by name."""
    masks = dict(result.masks)
    grid = getattr(result, "grid", None) or Grid(tuple(result.size), result.spacing_mm)
    if grid.dims != dims:
        raise ImageError(f"the result is {grid.dims}-D, but this model repairs {dims}-D masks.")
    labels, used = np.zeros(grid.shape, np.uint8), set()
    for value, organ in enumerate(organs, start=1):
        parts = [organ] if organ in masks else [p for p in PAIRS.get(organ, ()) if p in masks]
        for part in parts:
            labels[np.asarray(masks[part], bool)] = value
            used.add(part)
    if stray := [organ for organ in masks if organ not in used]:
        raise ImageError(
            f"the result has {', '.join(stray)}, which this model does not know; it repairs "
            f"{', '.join(organs)}. Choose a model for these organs, or give a label map with `classes`."
        )
    return labels, grid, str(getattr(result, "image", "result"))


def check_kind(values: npt.NDArray[Any], what: str, dims: int) -> None:
    """Refuse what is neither a label map of so many dimensions nor planes of such, by what it seems to be.

    Args:
        values: as given.
        what: what messages call it.
        dims: 2 or 3.

    Raises:
        ImageError: it holds no numbers, too many, NaN or infinity, is a colour picture, has a side below
            `MIN_SIDE`, or another number of dimensions.
    """
    axes = "(H, W)" if dims == 2 else "(D, H, W)"
    if values.dtype.kind not in "biuf" or not values.size:
        raise ImageError(f"{what} holds {values.dtype} of shape {values.shape}; a mask holds numbers.")
    if values.size > MAX_VOXELS:
        raise ImageError(f"{what} has over {MAX_VOXELS} (2**27) values; shrink it first.")
    if values.ndim == 3 and values.shape[-1] in (3, 4) and min(values.shape[:2]) > MIN_SIDE and dims == 2:
        raise ImageError(
            f"{what} is a colour picture of shape {values.shape}; save the mask with one value per pixel, or "
            "give planes of organs first, (C, H, W)."
        )
    if values.ndim not in (dims, dims + 1):
        raise ImageError(f"{what} is {values.ndim}-D, but this model takes {dims}-D masks {axes}.")
    shape = values.shape[-dims:]
    if min(shape) < MIN_SIDE:
        raise ImageError(f"{what} has the shape {values.shape}; every side needs {MIN_SIDE} pixels.")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ImageError(f"{what} holds NaN or infinity; write 0 where there is nothing.")


def _value_table(classes: Classes, organs: Sequence[str], what: str) -> dict[int, int]:
    """Value in the mask -> label of the model."""
    named = dict(enumerate(organs, start=1))
    if isinstance(classes, Mapping):
        named = {int(value): str(name) for value, name in classes.items()}
    elif classes is not None:
        named = dict(enumerate(map(str, classes), start=1))
    table = {}
    for value, name in named.items():
        label = _label_of(name, organs)
        if label is None or not 0 < value < 2**31:
            raise ImageError(
                f"classes of {what}: {value} for {name!r} cannot be used; this model knows "
                f"{', '.join(organs)}, and values are above 0."
            )
        table[value] = label
    return table


def _label_of(name: str, organs: Sequence[str]) -> int | None:
    for label, organ in enumerate(organs, start=1):
        if name == organ or name in PAIRS.get(organ, ()):
            return label
    return None


def _from_map(
    values: npt.NDArray[Any], organs: Sequence[str], table: Mapping[int, int], what: str, *, named: bool
) -> tuple[Labels, Planes | None]:
    alone = len(organs) == 1 and not named
    if values.dtype.kind == "b":
        if not alone:
            raise ImageError(
                f"{what} holds true and false, but the model has {len(organs)} organs: {', '.join(organs)}. "
                "Give a label map, or one plane per organ."
            )
        return values.astype(np.uint8), None
    if values.dtype.kind == "f":
        whole = np.rint(values)
        if np.abs(values - whole).max() <= NEAR_WHOLE:
            values = whole
        elif alone and values.min() >= 0 and values.max() <= 1:
            planes = values[None].astype(np.float32)
            return (planes[0] > 0.5).astype(np.uint8), planes
        else:
            raise ImageError(
                f"{what} holds fractions such as {_example(values, whole):.4g}; labels are whole numbers, "
                f"and probabilities have one plane for background and for each of {', '.join(organs)}."
            )
    own = all(value == label for value, label in table.items())
    if own and values.dtype == np.uint8 and values.max() <= len(organs):
        return np.array(values, order="C"), None  # what most masks are
    present = _present(values)
    if alone and set(present) <= {0, WHITE} and WHITE in present:
        return (values == WHITE).astype(np.uint8), None
    if stray := [value for value in present if value and value not in table]:
        if edges := edge_values(values):
            raise ImageError(soft_words(what, edges, max(present)))
        raise ImageError(
            f"{what} holds the labels {', '.join(map(str, stray[:5]))}, which this model does not know: it "
            "has "
            + ", ".join(f"{value} {organs[label - 1]}" for value, label in table.items())
            + ". Say what they are by classes={value: organ}, or set others to 0."
        )
    if own:
        return np.array(values, np.uint8, order="C"), None
    labels = np.zeros(values.shape, np.uint8)
    for value in present:
        if value:
            labels[values == value] = table[value]
    return labels, None


def _present(values: npt.NDArray[Any]) -> list[int]:
    """Distinct values, sorted."""
    if values.dtype == np.uint8:
        import cv2

        counts = cv2.calcHist([np.ascontiguousarray(values).reshape(1, -1)], [0], None, [256], [0, 256])
        return [int(value) for value in np.flatnonzero(counts)]
    return [int(value) for value in np.unique(values)]


def _example(values: npt.NDArray[Any], whole: npt.NDArray[Any]) -> float:
    return float(values.flat[np.abs(values - whole).argmax()])


def _from_planes(
    values: npt.NDArray[Any], organs: Sequence[str], classes: Classes, what: str
) -> tuple[Labels, Planes | None]:
    names = (
        list(organs)
        if classes is None
        else list(classes.values() if isinstance(classes, Mapping) else classes)
    )
    count = len(values)
    if count not in (len(names), len(names) + 1):
        raise ImageError(
            f"{what} has the shape {values.shape}: neither one value per pixel nor one plane, first axis, "
            f"for each of {', '.join(names)}, with or without background. This model repairs "
            f"{values.ndim - 1}-D masks; give the slices of a volume one by one."
        )
    hard = values.dtype.kind in "biu"
    if values.dtype == np.uint8 and set(_present(values)) <= {0, WHITE}:
        values = values == WHITE  # as pictures of masks have it
    low, high = float(values.min()), float(values.max())
    if low < -NEAR_WHOLE or high > 1 + NEAR_WHOLE:
        raise ImageError(
            f"{what} has planes with values from {low:.4g} to {high:.4g}; masks hold 0 and 1, and "
            "probabilities lie within: apply softmax to logits."
        )
    planes = np.clip(values.astype(np.float32), 0, 1)
    if count == len(names) + 1:
        total = planes.sum(0)
        worst = float(total.flat[np.abs(total - 1).argmax()])
        if abs(worst - 1) > SUM_TOLERANCE:
            raise ImageError(
                f"{what} has background and organs that sum to {worst:.4g} at a pixel; probabilities sum to "
                "1. Leave background out if organs may overlap."
            )
        planes = planes[1:] / total
    merged = np.zeros((len(organs), *planes.shape[1:]), np.float32)
    for plane, name in zip(planes, names, strict=True):
        label = _label_of(str(name), organs)
        assert label is not None  # checked with the table of values
        np.maximum(merged[label - 1], plane, out=merged[label - 1])
    if float(merged.sum(0).max()) > 1 + SUM_TOLERANCE:
        merged = _covered(merged)
    labels = _largest(merged)
    return labels, None if hard else merged


def _covered(planes: Planes) -> Planes:
    """Shares of planes that may overlap: what a later organ leaves of an earlier one."""
    left = np.ones_like(planes[0])
    result = np.empty_like(planes)
    for index in reversed(range(len(planes))):
        result[index] = planes[index] * left
        left = left * (1 - planes[index])
    return result


def _largest(planes: Planes) -> Labels:
    """The most probable label, background taking what the organs leave."""
    best = 1 - planes.sum(0)
    labels = np.zeros(best.shape, np.uint8)
    for value, plane in enumerate(planes, start=1):
        labels[plane > best] = value
        np.maximum(best, plane, out=best)
    return labels


def _check_content(labels: Labels, organs: Sequence[str], name: str) -> None:
    first, what = int(labels.flat[0]), f"the mask {Path(name).name!r}"
    if not (labels == first).all():
        return
    if first == 0:
        raise ImageError(f"{what} is empty: where there is no organ, there is nothing to repair.")
    raise ImageError(f"{what} is {organs[first - 1]} everywhere, which says nothing of its shape.")

"""How much two masks overlap and how their sizes differ, and any such metric for each class of label maps.

Masks are (H, W) or (D, H, W), booleans or 0 and 1, as arrays or tensors. Where both are empty every metric is
NaN; where one is empty, overlap is 0.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from anatozoo.errors import GeometryError
from anatozoo.metrics.surface import Spacing, as_array, known_spacing, pair

T = TypeVar("T")


def dice(prediction: ArrayLike, reference: ArrayLike) -> float:
    """Dice coefficient ``2|A∩B| / (|A| + |B|)`` in 0..1; NaN where both are empty.

    Raises:
        GeometryError: shapes differ or a value is neither 0 nor 1.
    """
    common, found, true = _counts(prediction, reference)
    return 2 * common / (found + true) if found or true else float("nan")


def iou(prediction: ArrayLike, reference: ArrayLike) -> float:
    """Intersection over union ``|A∩B| / (|A| + |B| − |A∩B|)`` in 0..1; NaN where both are empty.

    Raises:
        GeometryError: shapes differ or a value is neither 0 nor 1.
    """
    common, found, true = _counts(prediction, reference)
    return common / (found + true - common) if found or true else float("nan")


def sensitivity(prediction: ArrayLike, reference: ArrayLike) -> float:
    """Sensitivity (recall) ``|A∩B| / |B|``: share of the reference that was found, in 0..1.

    NaN where both are empty; 0 where one is, as for every overlap here. Libraries that give NaN for an empty
    reference leave an invented organ out of the mean.

    Raises:
        GeometryError: shapes differ or a value is neither 0 nor 1.
    """
    return _share(*_counts(prediction, reference))


def precision(prediction: ArrayLike, reference: ArrayLike) -> float:
    """Precision (positive predictive value) ``|A∩B| / |A|``: share of the prediction that is right, in 0..1.

    NaN where both are empty; 0 where one is, so that an organ that was not found never scores better than one
    that was.

    Raises:
        GeometryError: shapes differ or a value is neither 0 nor 1.
    """
    common, found, true = _counts(prediction, reference)
    return _share(common, true, found)


def size_error_px(prediction: ArrayLike, reference: ArrayLike) -> float:
    """Number of pixels (3-D: voxels) that the prediction has more than the reference; negative if fewer.

    NaN where both are empty.

    Raises:
        GeometryError: shapes differ or a value is neither 0 nor 1.
    """
    _, found, true = _counts(prediction, reference)
    return float(found - true) if found or true else float("nan")


def relative_size_error(prediction: ArrayLike, reference: ArrayLike) -> float:
    """Difference of areas or volumes over the reference's: 0.1 is 10 % too large, −1 not found; no unit.

    NaN where the reference is empty, whatever the prediction: there is nothing to relate it to, and an
    invented organ is seen in the overlap and in `size_error_px`.

    Raises:
        GeometryError: shapes differ or a value is neither 0 nor 1.
    """
    _, found, true = _counts(prediction, reference)
    return (found - true) / true if true else float("nan")


def area_error_mm2(prediction: ArrayLike, reference: ArrayLike, spacing_mm: Spacing) -> float:
    """Area of the prediction less that of the reference, in square millimetres; NaN where both are empty.

    Args:
        prediction: mask (H, W).
        reference: mask of the same shape.
        spacing_mm: millimetres per pixel, one number or (x, y).

    Raises:
        GeometryError: masks are 3-D, shapes differ, a value is neither 0 nor 1, or the spacing is None or not
            positive.
    """
    return _size_error(prediction, reference, spacing_mm, 2)


def volume_error_ml(prediction: ArrayLike, reference: ArrayLike, spacing_mm: Spacing) -> float:
    """Volume of the prediction less that of the reference, in millilitres; NaN where both are empty.

    Args:
        prediction: mask (D, H, W).
        reference: mask of the same shape.
        spacing_mm: millimetres per voxel, one number or (x, y, z).

    Raises:
        GeometryError: masks are 2-D, shapes differ, a value is neither 0 nor 1, or the spacing is None or not
            positive.
    """
    return _size_error(prediction, reference, spacing_mm, 3) / 1000


def per_class(
    metric: Callable[..., T],
    prediction: ArrayLike,
    reference: ArrayLike,
    classes: Sequence[str] | Mapping[str, int],
    **options: Any,
) -> dict[str, T]:
    """Apply a metric of masks to each class of two label maps.

    Args:
        metric: of two masks, such as `dice` or `hausdorff_px`.
        prediction: label map (H, W) or (D, H, W), array or tensor.
        reference: label map of the same shape.
        classes: names of the values 1, 2, ... in order, or each name's value; 0 is background.
        options: further arguments of the metric, such as ``percentile=95``.

    Returns:
        class -> the metric's value.

    Raises:
        GeometryError: shapes differ, a map holds a value that is neither 0 nor a class (NaN included), or the
            metric refuses the masks or options.
    """
    values = dict(classes) if isinstance(classes, Mapping) else {c: i for i, c in enumerate(classes, start=1)}
    ours, truth = (_class_masks(side, values) for side in (prediction, reference))
    return {name: metric(ours[name], truth[name], **options) for name in values}


def _class_masks(labels: ArrayLike, values: Mapping[str, int]) -> dict[str, np.ndarray]:
    array = as_array(labels)
    masks = {name: array == value for name, value in values.items()}
    if len({0, *values.values()}) != 1 + len(values):
        raise GeometryError(f"classes {dict(values)} must have different values, none of them 0.")
    # Values differ, so that each pixel counts once; a sum is much cheaper than sorting all pixels.
    known = np.count_nonzero(array == 0) + sum(map(np.count_nonzero, masks.values()))
    if known != array.size:
        unknown = np.unique(array[~np.isin(array, [0, *values.values()])])
        raise GeometryError(
            f"a label map holds {', '.join(map(str, unknown[:8]))}{', ...' if len(unknown) > 8 else ''}, "
            f"but its classes are {dict(values)}; name all that it holds."
        )
    return masks


def _counts(prediction: ArrayLike, reference: ArrayLike) -> tuple[int, int, int]:
    """Numbers of pixels of the intersection, the prediction and the reference."""
    a, b = pair(prediction, reference)
    return int(np.count_nonzero(a & b)), int(np.count_nonzero(a)), int(np.count_nonzero(b))


def _share(common: int, other: int, whole: int) -> float:
    if not whole:
        return 0.0 if other else float("nan")
    return common / whole


def _size_error(prediction: ArrayLike, reference: ArrayLike, spacing_mm: Spacing, ndim: int) -> float:
    a, b = pair(prediction, reference)
    if a.ndim != ndim:
        kinds = {2: "an area is of (H, W)", 3: "a volume is of (D, H, W)"}
        raise GeometryError(f"{kinds[ndim]}, and the masks are {a.shape}.")
    return size_error_px(a, b) * float(known_spacing(spacing_mm, ndim).prod())

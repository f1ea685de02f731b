"""What the metrics of `anatozoo.metrics.classes` take: batches of masks, and the spacings of their images."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from anatozoo.errors import GeometryError
from anatozoo.metrics.plausibility import organ_masks
from anatozoo.metrics.surface import Mask, Spacing, as_array

Batch = Tensor | npt.NDArray[Any] | Sequence[Any]
Index = Tensor | Sequence[int] | None


def check_lengths(**batches: Batch) -> None:
    """Refuse batches of different numbers of images, or of none.

    Raises:
        GeometryError: the numbers differ, or one is 0.
    """
    lengths = {name: len(batch) for name, batch in batches.items()}
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        raise GeometryError(f"a batch has the same number of images everywhere, at least one, not {lengths}.")


def spacings(spacing_mm: Any, count: int) -> list[Spacing]:
    """The spacing of each of `count` images: None, one number or (x, y[, z]) for all, or (count, n).

    Raises:
        GeometryError: another shape, or a list of tensors per axis.
    """
    if spacing_mm is None:
        return [None] * count
    if isinstance(spacing_mm, list | tuple) and any(isinstance(part, Tensor) for part in spacing_mm):
        raise GeometryError(
            "spacing_mm is a list of tensors, which is how data loaders turn tuples round, axis by axis; let "
            "the data set give tensors (x, y[, z]), so that a batch has (B, n)."
        )
    values = np.asarray(as_array(spacing_mm), dtype=np.float64)
    if values.ndim < 2:
        return [tuple(np.atleast_1d(values).tolist())] * count
    if values.ndim > 2 or len(values) != count:
        raise GeometryError(f"spacing_mm of shape {values.shape} for {count} images must be (n,) or (B, n).")
    return [tuple(row) for row in values.tolist()]


def class_masks(batch: Batch, classes: Sequence[str], dims: int) -> list[list[Mask]]:
    """For each image of a batch the mask of each class, on the CPU.

    Args:
        batch: label maps (B, ...), or channels (B, C + 1, ...) with background first, or (B, C, ...) without;
            see `anatozoo.metrics.classes`.
        classes: the C classes in order.
        dims: 2 or 3, the number of axes of a mask: it tells channels from slices.

    Raises:
        GeometryError: another shape, an unknown label, NaN, or a channel of masks outside 0..1.
    """
    return [_masks(image, classes, dims) for image in batch]


def _masks(image: Any, classes: Sequence[str], dims: int) -> list[Mask]:
    values = image.detach() if isinstance(image, Tensor) else np.asarray(image)
    if values.ndim == dims:
        return list(organ_masks(values, classes).values())
    if values.ndim != dims + 1 or len(values) not in (len(classes), len(classes) + 1):
        labels, n = ("(B, H, W)", "H, W") if dims == 2 else ("(B, D, H, W)", "D, H, W")
        raise GeometryError(
            f"an image of shape {tuple(values.shape)} does not fit dims={dims} and {len(classes)} classes: "
            f"batches are label maps {labels}, or (B, {len(classes) + 1}, {n}) with background first, or "
            f"(B, {len(classes)}, {n}) without."
        )
    channels = values if isinstance(values, Tensor) else torch.from_numpy(values)
    if len(channels) == len(classes) + 1:
        numbers = _largest(channels)
        return [as_array(numbers == i) for i in range(1, len(channels))]
    low, high = channels.aminmax()
    if not bool((low >= 0) & (high <= 1)):
        raise GeometryError(
            f"masks of classes without background are booleans or probabilities, not {float(low):.4g} to "
            f"{float(high):.4g}; look for NaN, and apply sigmoid to logits."
        )
    return [as_array(mask) for mask in channels > 0.5]


def _largest(channels: Tensor) -> Tensor:
    """Number of the largest channel of (C, ...), the first of equals; `argmax` takes several times longer."""
    largest = channels[0]
    labels = torch.zeros(largest.shape, dtype=torch.int16, device=largest.device)
    for i, channel in enumerate(channels[1:], start=1):
        labels.masked_fill_(channel > largest, i)
        largest = torch.maximum(largest, channel)
    if bool((largest != largest).any()):  # the maximum passes NaN on
        raise GeometryError("a prediction or reference holds NaN; look where it came from.")
    return labels

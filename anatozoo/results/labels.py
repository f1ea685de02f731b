"""The result of a model that labels pixels, and the base class of label maps."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from anatozoo.errors import GeometryError
from anatozoo.results.base import Formats, read_only
from anatozoo.results.segmentation import Outlines, SegmentationResult
from anatozoo.results.votes import Variance, Votes, spread, with_variance

Labels = npt.NDArray[np.uint8]


class LabelMap:
    """Base class of results with a label map; they have `classes` and `mask`."""

    classes: tuple[str, ...]

    @property
    @abstractmethod
    def mask(self) -> Labels:
        """The label map, 0 for background."""

    @property
    def organs(self) -> tuple[str, ...]:
        """Names of the organs, in the order of their labels."""
        return self.classes

    @property
    def labels(self) -> dict[str, int]:
        """Value of each organ in `mask`; 0 is background."""
        return {organ: value for value, organ in enumerate(self.classes, start=1)}

    @cached_property
    def masks(self) -> dict[str, npt.NDArray[np.bool_]]:
        """Mask of each organ, bool and read-only; a pixel belongs to one organ only."""
        return {organ: read_only(self.mask == value) for organ, value in self.labels.items()}


@dataclass(frozen=True, eq=False, repr=False)
class LabelResult(LabelMap, Votes, SegmentationResult):
    """Organs on one image as a label map, on the grid of the given image.

    Those of ensembles also hold what `Votes` says, and `save` knows ``"variance"``, a file of that map.

    Attributes:
        voted_formats: the formats of ensembles' results.
        label_map: ``(H, W)`` uint8 on the source grid, 0 for background and 1, 2, ... for `classes`,
            read-only.
        classes: organs of the label map, in the order of their labels.

    Raises:
        GeometryError: size, spacing, pixels and label map contradict, or a label has no class.
    """

    voted_formats: ClassVar[Formats] = with_variance(SegmentationResult.formats)

    label_map: Labels = field(repr=False)
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        self._put(classes=tuple(self.classes))
        super().__post_init__()
        self._put(label_map=checked_labels(self.label_map, self.size[::-1], self.classes))
        self.check_votes(self.size[::-1], self.voted_formats)

    @property
    def mask(self) -> Labels:
        """The label map."""
        return self.label_map

    def outlines(self) -> Outlines:
        """Lines through the centres of the outermost pixels, one for each part and hole of an organ."""
        from anatozoo.results.draw.style import mask_outlines

        return {organ: mask_outlines(mask) for organ, mask in self.masks.items()}

    def heat(self) -> Variance | None:
        """Of ensembles the standard deviation of the members' probabilities, relative to the largest one."""
        return None if self.variance is None else spread(self.variance)

    def to_dict(self) -> dict[str, Any]:
        """What `SegmentationResult.to_dict` says, of ensembles also members, disagreement and variance."""
        return super().to_dict() | self.votes_dict()


def checked_labels(
    labels: Any, shape: tuple[int, ...], classes: Sequence[str], name: str = "label map"
) -> Labels:
    """A read-only view of a label map.

    Args:
        labels: the label map, 0 for background and 1, 2, ... for `classes`.
        shape: (H, W) or (D, H, W) that it must have.
        classes: names of the labels.
        name: its name in messages.

    Raises:
        GeometryError: it is not uint8 of that shape, or a label has no class.
    """
    array = np.asarray(labels)
    if array.dtype != np.uint8 or array.shape != shape:
        raise GeometryError(
            f"the {name} of {array.dtype} {array.shape} does not fit the grid {shape}; "
            "give uint8 of this shape."
        )
    if not classes or len(set(classes)) != len(classes) or array.max() > len(classes):
        raise GeometryError(
            f"the {name} holds labels up to {array.max()}, which need as many different classes, "
            f"not {classes}."
        )
    return read_only(array.view())

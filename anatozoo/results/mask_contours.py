"""What a model answers that finds the landmarks of masks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from anatozoo.io.annotation import shown_box
from anatozoo.organs import parts_of
from anatozoo.results.base import Formats, read_only
from anatozoo.results.contours import ContourResult
from anatozoo.results.segmentation import SegmentationResult

Points = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False, repr=False)
class MaskContourResult(ContourResult):
    """Landmarks of the organs that a mask shows, in pixels of the mask, and how well they reproduce it.

    Attributes:
        landmarks: organ -> ``(N, 2)``, of the organs that the mask shows.
        guessed: organ -> ``(N, 2)`` of the model's other organs: where they would be, judged by those that
            the mask shows. `landmarks` does not contain them, so that nobody trains on them.
        given: organ, or a pair such as ``"lungs"``, -> the mask as it was given, ``(H, W)`` bool.
        everything: the model's organs, in the order of their labels.
    """

    formats: ClassVar[Formats] = replace(SegmentationResult.formats, default=("json",))

    guessed: Mapping[str, Points] = field(default_factory=dict, kw_only=True)
    given: Mapping[str, Mask] = field(default_factory=dict, repr=False, kw_only=True)
    everything: tuple[str, ...] = field(default=(), kw_only=True)

    @property
    def organs(self) -> tuple[str, ...]:
        """The model's organs, in the order of their labels, those that the mask does not show included."""
        return self.everything or tuple(self.landmarks)

    @cached_property
    def mask(self) -> npt.NDArray[np.uint8]:
        """Label map ``(H, W)`` uint8 of `landmarks`, values of `labels`; later organs cover earlier."""
        labels = np.zeros(self.size[::-1], np.uint8)
        for organ, drawn in self.masks.items():
            labels[drawn] = self.labels[organ]
        return read_only(labels)

    @cached_property
    def reproduced(self) -> dict[str, tuple[Mask, Mask]]:
        """What was given -> the mask drawn from its landmarks, and the given one, both ``(H, W)`` bool.

        Where the given masks do not overlap, as in a label map, one organ may cut another; there the drawn
        mask is cut by the other given ones, because pixels of another organ say nothing about this one.
        """
        found, box = {}, self._box
        given = {name: mask[box] for name, mask in self.given.items()}
        often = np.sum(list(given.values()), axis=0, dtype=np.uint8)
        for name, mask in self.given.items():
            drawn = np.zeros_like(mask)
            for part in parts_of(name):
                drawn[box] |= self.masks[part][box]
            if not (given[name] & (often > 1)).any():
                drawn[box] &= given[name] | (often == 0)
            found[name] = drawn, mask
        return found

    @cached_property
    def _box(self) -> tuple[slice, ...]:
        """What holds all given and drawn masks; the rest of a large picture is empty."""
        return shown_box(*self.given.values(), *self.masks.values()) or (slice(None), slice(None))

    @cached_property
    def dice(self) -> dict[str, float]:
        """Dice of each given mask and the one drawn from the landmarks, see `reproduced`."""
        from anatozoo.metrics.functional import dice

        return {name: dice(*(mask[self._box] for mask in pair)) for name, pair in self.reproduced.items()}

    @cached_property
    def _distances(self) -> dict[str, Any]:
        from anatozoo.metrics.functional import surface_distances

        return {name: surface_distances(*pair) for name, pair in self.reproduced.items()}

    @cached_property
    def hd_px(self) -> dict[str, float]:
        """Hausdorff distance of the two, in pixels."""
        return {name: each.hausdorff(missing="worst") for name, each in self._distances.items()}

    @cached_property
    def hd_mm(self) -> dict[str, float] | None:
        """The same in millimetres; None where the spacing is unknown."""
        if self.spacing_mm is None:
            return None
        spacing = self.spacing_mm
        return {
            name: each.in_mm(spacing).hausdorff(missing="worst") for name, each in self._distances.items()
        }

    def to_dict(self) -> dict[str, Any]:
        """What `ContourResult.to_dict` says, the agreement with the given masks, and guessed landmarks."""
        from anatozoo.io.landmarks import rounded

        in_mm = self.hd_mm
        agreement = {
            name: {"dice": round(self.dice[name], 5), "hd_px": round(self.hd_px[name], 3)}
            | ({} if in_mm is None else {"hd_mm": round(in_mm[name], 3)})
            for name in self.given
        }
        return super().to_dict() | {
            "agreement": agreement,
            "guessed": {organ: rounded(points) for organ, points in self.guessed.items()},
        }

"""The result of a model that predicts contours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from anatozoo.errors import DataError
from anatozoo.results.base import read_only
from anatozoo.results.segmentation import Outlines, SegmentationResult


@dataclass(frozen=True, eq=False)
class ContourResult(SegmentationResult):
    """Organs on one image by their contours, in pixels of the image as it was given.

    Attributes:
        landmarks: organ -> ``(N, 2)`` float64, ``(x, y)`` in source pixels, pixel centres being whole
            numbers; read-only. Points may lie outside the image.

    Raises:
        GeometryError: landmarks are not ``(N, 2)`` and finite, size, spacing and pixels contradict, or no
            organ is named.
    """

    landmarks: dict[str, npt.NDArray[np.float64]] = field()

    def __post_init__(self) -> None:
        from anatozoo.io.landmarks import check_points

        super().__post_init__()
        self._put(landmarks={organ: check_points(points, organ) for organ, points in self.landmarks.items()})

    @property
    def organs(self) -> tuple[str, ...]:
        """Names of the organs, in the order of their labels."""
        return tuple(self.landmarks)

    @cached_property
    def mask(self) -> npt.NDArray[np.uint8]:
        """Label map ``(H, W)`` uint8 on the source grid, values of `labels`; later organs cover earlier."""
        from anatozoo.io.landmarks import draw_label_map

        return read_only(draw_label_map(self.landmarks, self.size))

    @cached_property
    def masks(self) -> dict[str, npt.NDArray[np.bool_]]:
        """Mask of each organ, ``(H, W)`` bool, without overlap removed: the heart does not cut a lung."""
        from anatozoo.io.landmarks import draw_organ_mask

        drawn = {organ: draw_organ_mask(points, self.size) for organ, points in self.landmarks.items()}
        return {organ: read_only(mask) for organ, mask in drawn.items()}

    def outlines(self) -> Outlines:
        """The landmarks of each organ, one closed line."""
        return {organ: [points] for organ, points in self.landmarks.items()}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> ContourResult:
        """The result from `to_dict`, without pixels; derived values are computed again.

        Raises:
            DataError: a key is missing, or the result was a label map, which is not part of the JSON.
            GeometryError: the values are not possible, see the class.
        """
        try:
            if not value["landmarks"]:
                raise DataError(
                    f"{value['image']}: this result has no landmarks; its label map is in the _mask file."
                )
            return cls(
                checkpoint=value["checkpoint"],
                version=value["version"],
                image=value["image"],
                size=value["size"],
                spacing_mm=value["spacing_mm"],
                landmarks=dict(value["landmarks"]),
                flags=tuple(value["flags"]),
            )
        except KeyError as error:
            raise DataError(
                f"the key {error} is missing; give the JSON file of a segmentation result."
            ) from error

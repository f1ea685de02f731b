"""How probable each organ is at each pixel: kept small, and drawn on the source grid when asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Shares = Callable[[], dict[str, Floats]]
"""Gives for each organ (H, W) or (D, H, W) in 0..1 on the source grid."""


@dataclass(frozen=True, eq=False)
class SampledContours:
    """The share of samples of a latent code whose contour covers a pixel.

    Args:
        landmarks: organ -> (samples, N, 2), x and y in source pixels.
        size: (width, height) of the source.
    """

    landmarks: Mapping[str, npt.NDArray[np.float32]]
    size: tuple[int, int]

    def __call__(self) -> dict[str, Floats]:
        """The shares, organ by organ."""
        from anatozoo.io.landmarks import draw_organ_mask

        found = {}
        for organ, samples in self.landmarks.items():
            count = np.zeros(self.size[::-1], np.float32)
            for points in samples:
                count += draw_organ_mask(points, self.size)
            found[organ] = (count / len(samples)).astype(np.float32)
        return found


@dataclass(frozen=True, eq=False)
class FrameProbabilities:
    """Probabilities in a network's frame, in steps of 1/255.

    Args:
        organs: their names.
        values: (organs, ...) uint8, 255 for 1.
        to_source: resamples one of them, as floats, onto the source grid.
    """

    organs: Sequence[str]
    values: npt.NDArray[np.uint8]
    to_source: Callable[[Floats], Floats]

    @classmethod
    def of(cls, organs: Sequence[str], probability: Floats, to_source: Callable[[Floats], Floats]) -> Shares:
        """Keep probabilities (organs, ...) in 0..1."""
        return cls(tuple(organs), np.rint(probability * 255).astype(np.uint8), to_source)

    def __call__(self) -> dict[str, Floats]:
        """The probabilities on the source grid, organ by organ."""
        return {
            organ: self.to_source(values.astype(np.float32) / np.float32(255)).clip(0, 1)
            for organ, values in zip(self.organs, self.values, strict=True)
        }

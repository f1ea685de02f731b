"""Landmarks in a network's frame, from landmarks or from hand-drawn contours.

Hand-drawn contours are spaced evenly, with a fixed start and direction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from anatozoo.data.base import CaseDataset
from anatozoo.data.case import Case, Drawn
from anatozoo.data.framed import frame_spacing
from anatozoo.errors import DataError
from anatozoo.frames.frame import Frame
from anatozoo.frames.geometry import Geometry
from anatozoo.frames.spec import FrameSpec
from anatozoo.io.landmarks import Points
from anatozoo.nn.graphs import organ_slices

STARTS: dict[str, tuple[tuple[float, float], bool]] = {
    "lung_right": ((0.79, 0.0), False),
    "lung_left": ((0.27, 0.0), True),
    "heart": ((0.04, 0.79), True),
    "clavicle_right": ((0.1, 0.01), True),
    "clavicle_left": ((0.89, 0.0), False),
}
"""Start of the contours of the public landmark data set, as shares of their bounding box (x, y), and
whether they run clockwise in the image."""
ELSEWHERE = ((0.5, 0.0), True)
"""For all other organs: the top, clockwise."""


class LandmarkDataset(CaseDataset):
    """Landmarks in the square network frame.

    Items hold ``landmarks`` (N, 2) in [0, 1], ``landmark_weight`` (N,), and ``spacing_mm`` (x, y) of the
    frame's pixels, NaN where it is unknown.

    Args:
        cases: the cases.
        counts: landmarks per organ, in the network's order.
        frame: what the network sees, a square.
        whole: refuse cases that lack the landmarks of an organ.
    """

    def __init__(
        self, cases: Sequence[Case], counts: Mapping[str, int], frame: FrameSpec, *, whole: bool = False
    ) -> None:
        super().__init__(cases)
        self.slices, self.spec, self.whole = organ_slices(counts), frame, whole

    def read(self, case: Case) -> dict[str, Tensor]:
        """Landmarks in the frame.

        Raises:
            DataError: an organ has another number of landmarks than the network, or none where all are
                needed.
        """
        found = case.read_drawn(list(self.slices))
        lacking = [organ for organ in self.slices if organ not in found.landmarks]
        if self.whole and lacking:
            raise DataError(
                f"{case.id} has no landmarks of {', '.join(lacking)}, and this model learns whole shapes: "
                "leave the case out, or these organs out of model.organs."
            )
        frame = Frame.fit(found.grid, self.spec)
        landmarks = framed_landmarks(case.id, found, self.slices, frame.geometry)
        return landmarks | {"spacing_mm": frame_spacing(frame)}


def framed_landmarks(
    name: str, drawn: Drawn, parts: Mapping[str, slice], geometry: Geometry
) -> dict[str, Tensor]:
    """Landmarks of a case in a square frame; hand-drawn contours are `resampled`.

    Args:
        name: name of the case in messages.
        drawn: its organs.
        parts: position of each organ's landmarks among the N of the network.
        geometry: from the image to the frame.

    Returns:
        ``landmarks`` (N, 2) in [0, 1], and ``landmark_weight`` (N,), 1 for each organ with landmarks, else 0.

    Raises:
        DataError: an organ has another number of landmarks than the network.
    """
    total = max(part.stop for part in parts.values())
    landmarks, weight = np.zeros((total, 2), np.float32), np.zeros(total, np.float32)
    for organ, part in parts.items():
        if organ not in drawn.landmarks:
            continue
        points, count = drawn.landmarks[organ], part.stop - part.start
        placed = resampled(points, count, organ) if organ in drawn.free else points
        if len(placed) != count:
            raise DataError(f"{name}: {organ} has {len(points)} landmarks, the network has {count}.")
        landmarks[part] = geometry.points_to_target(placed) / geometry.target_size[0]
        weight[part] = 1.0
    return {"landmarks": torch.from_numpy(landmarks), "landmark_weight": torch.from_numpy(weight)}


def mean_landmarks(items: CaseDataset) -> Tensor:
    """Mean of the items' ``landmarks``, (N, 2) in [0, 1]; NaN where no item has them."""
    read = (items[i] for i in range(len(items)))
    pairs = [(item["landmarks"], item["landmark_weight"][:, None]) for item in read]
    landmarks, weight = (torch.stack(each) for each in zip(*pairs, strict=True))
    return (landmarks * weight).sum(0) / weight.sum(0)


def resampled(contour: Points, count: int, organ: str = "") -> Points:
    """Landmarks at equal distances along a closed contour.

    The first is the point of the contour nearest to the start in `STARTS` or, for other organs, to the middle
    of the upper edge of its bounding box; the others follow in the direction given there. Landmark number i
    thus lies at corresponding positions, wherever and in whatever direction somebody drew.

    Args:
        contour: (N, 2) pixels, at least three different points, in order round the organ.
        count: how many landmarks.
        organ: name of the organ.

    Returns:
        (count, 2).

    Raises:
        DataError: the contour encloses nothing.
    """
    points = _without_repeats(np.asarray(contour, np.float64))
    ahead = np.roll(points, -1, axis=0)
    area = float(np.sum(points[:, 0] * ahead[:, 1] - ahead[:, 0] * points[:, 1])) / 2 if len(points) else 0.0
    if len(points) < 3 or abs(area) < 1e-9:
        raise DataError(f"the contour of {organ or 'an organ'} encloses nothing; draw it round the organ.")
    start, clockwise = STARTS.get(organ, ELSEWHERE)
    # In an image y points down, so that a positive area means a clockwise contour.
    if (area > 0) != clockwise:
        points = points[::-1]
    low, high = points.min(axis=0), points.max(axis=0)
    wanted = low + np.asarray(start) * (high - low)
    points = _begun_at(points, wanted)
    closed = np.concatenate([points, points[:1]])
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(closed, axis=0), axis=1))])
    places = np.arange(count) * along[-1] / count
    return np.stack([np.interp(places, along, closed[:, axis]) for axis in (0, 1)], axis=1)


def _without_repeats(points: Points) -> Points:
    """The contour without repeated consecutive points, also across its end."""
    if not len(points):
        return points
    return points[(points != np.roll(points, 1, axis=0)).any(axis=1)]


def _begun_at(points: Points, wanted: Points) -> Points:
    """The contour, started at its position nearest to a point, usually on an edge."""
    ahead = np.roll(points, -1, axis=0)
    edges = ahead - points
    share = np.clip(((wanted - points) * edges).sum(1) / (edges**2).sum(1), 0, 1)
    feet = points + share[:, None] * edges
    first = int(np.argmin(((feet - wanted) ** 2).sum(1)))
    return _without_repeats(np.concatenate([feet[first : first + 1], np.roll(points, -first - 1, axis=0)]))

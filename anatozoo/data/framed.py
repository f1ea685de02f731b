"""Images with label maps in a network's frame, 2-D and 3-D."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anatozoo.data.base import CaseDataset
from anatozoo.data.case import Case, Labels
from anatozoo.errors import DataError, GeometryError
from anatozoo.frames.frame import Frame
from anatozoo.frames.spec import FrameSpec
from anatozoo.io.grid import Grid


class FrameDataset(CaseDataset):
    """Images and label maps in the frame.

    Items hold ``image`` (1, ...) in [0, 1], ``spacing_mm`` (x, y[, z]) float32 of the frame's pixels, NaN
    where it is unknown; with organs, ``labels`` (...) uint8 and ``known`` (organs,) bool; and the items of
    `CaseDataset`. Cases without annotation have empty label maps and no known organs.

    Args:
        cases: the cases.
        organs: names in the order of their labels; empty if label maps are not needed.
        spec: frame of the network.
    """

    def __init__(self, cases: Sequence[Case], organs: Sequence[str], spec: FrameSpec) -> None:
        super().__init__(cases)
        self.organs, self.spec = list(organs), spec

    def read(self, case: Case) -> dict[str, Tensor]:
        """Image and label map in the frame.

        Raises:
            DataError: the label map is empty.
            GeometryError: the frame is in millimetres and the image's spacing is unknown.
        """
        image = case.read_image(self.spec.dims)
        frame = self.fitted(case, image.grid)
        seen = frame.image(image.pixels, self.spec.intensity, image.black_white)
        item = {"image": torch.from_numpy(seen)[None], "spacing_mm": frame_spacing(frame)}
        if not self.organs:
            return item
        return item | self.truth(case, image.grid, frame)

    def fitted(self, case: Case, grid: Grid) -> Frame:
        """The frame of an image.

        Raises:
            GeometryError: the frame is in millimetres and the image's spacing is unknown.
        """
        try:
            return self.frame_of(grid)
        except GeometryError as error:
            raise GeometryError(f"case {case.id}: {error}") from error

    def frame_of(self, grid: Grid) -> Frame:
        """The frame of an image on this grid."""
        return Frame.fit(grid, self.spec)

    def truth(self, case: Case, grid: Grid, frame: Frame) -> dict[str, Tensor]:
        """``labels`` and ``known`` of a case.

        Raises:
            DataError: the label map is empty.
        """
        known = torch.full((len(self.organs),), case.labelled)
        if not case.labelled:
            return {"labels": torch.zeros(frame.shape, dtype=torch.uint8), "known": known}
        labels = filled(case, self.organs, grid)[0]
        return {"labels": torch.from_numpy(frame.labels(labels)), "known": known}

    def identity(self, index: int) -> dict[str, Any]:
        """``id``, ``subject`` and, where known, ``split``."""
        case = self.cases[index]
        known = {"id": case.id, "subject": case.subject, "split": case.split}
        return {key: value for key, value in known.items() if value is not None}


def filled(case: Case, organs: Sequence[str], grid: Grid | None = None) -> tuple[Labels, Grid]:
    """A label map that is not empty, see `Case.read_labels`.

    Raises:
        DataError: the label map is empty.
    """
    labels, own = case.read_labels(organs, grid)
    if not np.any(labels):
        raise DataError(f"the label map of case {case.id} is empty; take the case out or label it.")
    return labels, own


def frame_spacing(frame: Frame) -> Tensor:
    """Millimetres per pixel of the frame, NaN where they are unknown."""
    spacing = frame.spacing_mm
    return torch.full((frame.grid.dims,), torch.nan) if spacing is None else torch.tensor(spacing)

"""Radiographs in the square frame of a network."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from anatozoo.data.base import CaseDataset
from anatozoo.data.case import METADATA, Case, Drawn, flat
from anatozoo.data.framed import frame_spacing
from anatozoo.frames.frame import Frame
from anatozoo.frames.geometry import Geometry
from anatozoo.frames.spec import FrameSpec
from anatozoo.frames.square import to_network


class RadiographDataset(CaseDataset):
    """Radiographs in the square network frame; subclasses add the annotations.

    Items hold ``image`` (1, S, S) in [0, 1], ``spacing_mm`` (x, y) float32 of the frame's pixels, NaN where
    it is unknown, the result of `unpack_annotations`, and the items of `CaseDataset`.

    Args:
        cases: the cases; each needs an image.
        organs: organs whose annotations are read.
        frame: frame of the network, a square of side S.
    """

    def __init__(self, cases: Sequence[Case], organs: Sequence[str], frame: FrameSpec) -> None:
        super().__init__(cases)
        self.organs, self.spec, self.side = list(organs), frame, frame.shape[0]

    def read(self, case: Case) -> dict[str, Tensor]:
        """Image in 8 bits, and the annotations.

        Raises:
            DataError: the case has no image, or its annotation does not fit.
        """
        source = case.read_image(2)
        pixels, geometry = to_network(flat(source), self.side, self.spec.intensity)
        image = torch.from_numpy(np.round(pixels * 255).astype(np.uint8))[None]
        spacing = frame_spacing(Frame.fit(source.grid, self.spec))
        drawn = case.read_drawn(self.organs, source.grid) if case.labelled else Drawn(source.grid)
        annotations = self.annotations(case.id, drawn, geometry)
        return {"image": image, "spacing_mm": spacing} | annotations

    def unpack(self, stored: dict[str, Tensor]) -> dict[str, Tensor]:
        """The image in [0, 1], and the annotations for the losses."""
        frame = {"image": stored["image"].float() / 255, "spacing_mm": stored["spacing_mm"].clone()}
        return self.unpack_annotations(stored) | frame

    def identity(self, index: int) -> dict[str, Any]:
        """``id``, ``patient`` and, where known, ``split``, ``dataset``, ``sex``, ``age``, ``view``."""
        case = self.cases[index]
        known = {"split": case.split, "dataset": case.domain}
        known |= {key: case.facts[key] for key in METADATA if key in case.facts}
        return {"id": case.id, "patient": case.subject} | {k: v for k, v in known.items() if v is not None}

    @abstractmethod
    def annotations(self, name: str, drawn: Drawn, geometry: Geometry) -> dict[str, Tensor]:
        """The annotations of a case, in a form that needs little memory.

        Args:
            name: name of the case in messages.
            drawn: its organs; empty without annotation.
            geometry: from the image to the frame.
        """

    @abstractmethod
    def unpack_annotations(self, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The annotations as new tensors, of the types that the losses take."""


def mask_coverage(mask: npt.NDArray[np.bool_], geometry: Geometry, side: int) -> npt.NDArray[np.float32]:
    """Share of each cell that a mask, of whatever resolution, covers on a grid of the square frame.

    Args:
        mask: (H, W) bool, with the field of view of the image.
        geometry: from the image to the frame.
        side: cells along each side of the frame.

    Returns:
        (side, side) float32 in [0, 1].
    """
    height, width = mask.shape
    # Height of a mask's pixel relative to its width, which only the image's spacing tells.
    (full_width, full_height), (sx, sy) = geometry.source_size, geometry.scale
    aspect = (sy * full_height / height) / (sx * full_width / width)
    if abs(width * full_height - height * full_width) <= max(full_width, full_height):
        aspect = sy / sx  # the sizes were rounded
    fitted = Geometry.fit((width, height), (side, side), aspect=aspect)
    covered: npt.NDArray[np.float32] = fitted.image_to_target(mask.astype(np.float32)).clip(0, 1)
    return covered

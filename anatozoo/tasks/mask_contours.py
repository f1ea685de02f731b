"""From masks of organs, of any form and size, to their landmarks."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from anatozoo.frames.frame import Frame
from anatozoo.frames.planes import to_frame
from anatozoo.frames.spec import FrameSpec
from anatozoo.io.annotation import PAIRS, exchanged_sides, middle_x, parts_of
from anatozoo.io.grid import Grid
from anatozoo.io.label_codes import LabelCodes
from anatozoo.io.masks import Classes
from anatozoo.io.organ_masks import OrganMasks, checked, read_organ_masks
from anatozoo.tasks.base import FRAGMENT, in_batches
from anatozoo.tasks.contours import Contours

if TYPE_CHECKING:
    from anatozoo.data.case import Case as DataCase
    from anatozoo.results.mask_contours import MaskContourResult
    from anatozoo.tasks.trials import Conditions, Judge, Trial

POOR_FIT = {"clavicle_right": 0.85, "clavicle_left": 0.85, "clavicles": 0.85}
"""Dice between a mask and its landmarks below which a result is flagged; of other organs `POOR_ORGAN`."""
POOR_ORGAN = 0.95
MIRRORED = 0.01
"""How far a heart that is flagged lies to the right of the middle of the thorax, as a share of its width."""


class MaskContourTask(Contours):
    """A model that gives landmarks to the organs of a mask.

    The network sees one plane for each of its organs, the share of each pixel that the organ covers. Where a
    mask does not tell the sides of lungs or clavicles apart, both planes show both. Organs that a mask does
    not show have empty planes.

    Subclasses implement `forward_landmarks`.

    Args:
        organs: landmarks per organ, in order.
        frame: a square that shows all of the mask.
    """

    needs = frozenset({"organs"})
    conditions: ClassVar = frozenset({"exclusive"})
    batched: ClassVar = True

    def __init__(self, organs: Mapping[str, int], frame: FrameSpec | Mapping[str, Any]) -> None:
        super().__init__(organs, frame)

    def predict(
        self,
        x: Any,
        *,
        classes: Classes | LabelCodes = None,
        spacing_mm: float | Sequence[float] | None = None,
        precision: str | None = None,
    ) -> "MaskContourResult":
        """Find the landmarks of one mask of any size.

        Args:
            x: path, array, tensor, PIL or SimpleITK image, the result of a segmenter, or
                `anatozoo.io.organ_masks.OrganMasks`: a label map (H, W) or one plane per organ (C, H, W).
            classes: names of its labels 1, 2, ... or of its planes, or value -> name; None takes the model's
                organs. ``"lungs"`` and ``"clavicles"`` are both sides in one.
            spacing_mm: millimetres per pixel, one number or (x, y), where the source has none.
            precision: see `anatozoo.tasks.precision`; None is what the attribute of this name says, ``"32"``.

        Returns:
            Landmarks of the organs that the mask shows, in its pixels, and how well they reproduce it.

        Raises:
            ImageError, DataError: this model cannot take it as a mask; the message says why.
            ConfigError: the precision is not possible.
        """
        return self._trace([self._read(x, classes, spacing_mm)], precision)[0]

    def predict_batch(
        self,
        xs: Iterable[Any],
        batch_size: int = 8,
        *,
        classes: Classes | LabelCodes = None,
        spacing_mm: float | Sequence[float] | None = None,
        precision: str | None = None,
    ) -> Iterator["MaskContourResult"]:
        """Find the landmarks of many masks, `batch_size` at a time, in order; each as `predict` gives it.

        Raises:
            ConfigError: `batch_size` is below 1.
            ImageError, DataError: a mask cannot be taken; the ones before it have been yielded.
        """
        return in_batches(
            xs,
            batch_size,
            lambda x: self._read(x, classes, spacing_mm),
            lambda masks: self._trace(masks, precision),
        )

    def usable(self, case: "DataCase") -> bool:
        """Whether anything is annotated; no image is needed."""
        return case.labelled

    def trials(self, cases: Sequence["DataCase"], how: "Conditions") -> "list[Trial]":
        """The masks of each case, judged by its landmarks, or else by the masks themselves.

        Raises:
            ConfigError: the spacing of the conditions is more than one number.
        """
        from anatozoo.tasks.chest_cases import chest_trials

        return chest_trials(cases, how, self._trial)

    def _trial(self, case: "DataCase", how: "Conditions") -> "tuple[OrganMasks, Judge]":
        from anatozoo.tasks.chest_cases import compared

        drawn = case.read_drawn(tuple(self.organs))
        names = [name for name in (*self.organs, *PAIRS) if name in drawn.organs]
        sizes = {drawn.masks[name].shape[::-1] for name in names if name in drawn.masks}
        # Landmarks and masks of one size share its pixels, which alone say how high they are for their width.
        size = drawn.grid.size if sizes <= {drawn.grid.size} else sizes.pop()
        grid = drawn.grid if size == drawn.grid.size else Grid(size)
        masks = checked(OrganMasks({name: drawn.mask(name, size) for name in names}, grid, case.id), names)
        return masks, lambda result: compared(drawn, result, how)

    def golden_input(self) -> np.ndarray:
        """A label map that anybody may have, for the golden test: an ellipse for each organ."""
        from anatozoo.io.samples import sample_chest_map

        return sample_chest_map(list(self.organs))

    def _read(
        self, x: Any, classes: Classes | LabelCodes, spacing_mm: float | Sequence[float] | None
    ) -> OrganMasks:
        return read_organ_masks(x, list(self.organs), classes=classes, spacing_mm=spacing_mm)

    @torch.inference_mode()
    def _trace(self, given: Sequence[OrganMasks], precision: str | None) -> list["MaskContourResult"]:
        swapped = [sides_swapped(each.masks) for each in given]
        frames = [Frame.fit(each.grid, self.frame) for each in given]
        batch = np.stack([self._planes(*item) for item in zip(given, frames, swapped, strict=True)])
        with self.answering(precision):
            answers = self.forward_landmarks(self.tensor(batch)).double().cpu().numpy() * self.side
        return [self._result(*item) for item in zip(given, frames, swapped, answers, strict=True)]

    def _planes(self, given: OrganMasks, frame: Frame, swapped: bool) -> np.ndarray:
        """Share of each pixel of the frame that each organ covers, (organs, S, S)."""
        known = list(given.masks)
        seen = to_frame([np.uint8(255) * given.masks[name].view(np.uint8) for name in known], frame) / 255
        planes = np.zeros((len(self.organs), *self.shape), np.float32)
        for name, plane in zip(known, seen, strict=True):
            # A mask whose sides are named the wrong way round says no more than one that names none.
            pair = next((parts for parts in PAIRS.values() if swapped and name in parts), parts_of(name))
            for organ in pair:
                target = planes[list(self.organs).index(organ)]
                np.maximum(target, plane, out=target)
        return planes

    def _result(
        self, given: OrganMasks, frame: Frame, swapped: bool, answer: np.ndarray
    ) -> "MaskContourResult":
        from anatozoo.results.mask_contours import MaskContourResult

        contours, untangled = self._contours(answer, frame.geometry)
        masks = joined_sides(given.masks) if swapped else dict(given.masks)
        seen = {part for name in masks for part in parts_of(name)}
        size = (given.grid.size[0], given.grid.size[1])
        landmarks = {organ: points for organ, points in contours.items() if organ in seen}
        spacing = given.grid.spacing_mm
        result = MaskContourResult(
            checkpoint=self.checkpoint_name,
            version=self.checkpoint_version,
            image=given.name,
            size=size,
            spacing_mm=None if spacing is None else (spacing[0], spacing[1]),
            landmarks=landmarks,
            guessed={organ: points for organ, points in contours.items() if organ not in seen},
            given=masks,
            everything=tuple(self.organs),
            pixels=np.logical_or.reduce(list(masks.values())).astype(np.float32),
        )
        flags = [
            *given.grid.remarks,
            *self._flags(landmarks, size),
            *(flag for flag in untangled if flag.removeprefix("untangled_") in seen),
            *(f"unseen_{organ}" for organ in self.organs if organ not in seen),
            *mask_flags(masks, swapped=swapped),
            *(
                f"poor_fit_{name}"
                for name, dice in result.dice.items()
                if dice < POOR_FIT.get(name, POOR_ORGAN)
            ),
        ]
        result._put(flags=tuple(dict.fromkeys(flags)))
        return result


Masks = Mapping[str, np.ndarray]


def sides_swapped(masks: Masks) -> bool:
    """Whether what is called right lies to the right in the picture, which is the patient's left."""
    return any(exchanged_sides({name: middle_x(mask) for name, mask in masks.items()}).values())


def joined_sides(masks: Masks) -> dict[str, np.ndarray]:
    """Masks in which the two sides of an organ are one."""
    found: dict[str, np.ndarray] = {}
    for name, mask in masks.items():
        pair = next(
            (pair for pair, parts in PAIRS.items() if name in parts and set(parts) <= set(masks)), name
        )
        found[pair] = found[pair] | mask if pair in found else mask
    return found


def mask_flags(masks: Masks, *, swapped: bool) -> list[str]:
    """Signs that a mask should be looked at: a heart on the other side, swapped sides, several parts."""
    from scipy.ndimage import label

    flags = ["sides_swapped"] if swapped else []
    whole = joined_sides(masks)
    if "heart" in whole and "lungs" in whole:
        columns = np.flatnonzero(whole["lungs"].any(0))
        # The heart lies beyond the middle between the outer borders of the lungs, on the patient's left.
        if middle_x(whole["heart"]) < columns[0] + (0.5 - MIRRORED) * (columns[-1] - columns[0]):
            flags.append("mirrored")
    corners = np.ones((3, 3))
    for name, mask in masks.items():
        others = [other for key, other in masks.items() if key != name]
        parts, _ = label(np.logical_or.reduce([mask, *others]) if others else mask, corners)
        # What hangs together behind another organ is one part.
        areas = np.sort(np.bincount(parts[mask]))[::-1]
        own = np.sort(np.bincount(label(mask, corners)[0][mask]))[::-1]
        areas = areas if areas[: len(parts_of(name))].sum() > own[: len(parts_of(name))].sum() else own
        if areas[len(parts_of(name)) :].sum() > FRAGMENT * areas.sum():
            flags.append(f"fragmented_{name}")
    return flags

"""From masks of organs, of any form and size, to their landmarks."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from anatozoo.errors import ImageError
from anatozoo.frames.frame import Frame
from anatozoo.frames.planes import to_frame
from anatozoo.io.annotation import exchanged_sides, middle_x, shown_box
from anatozoo.io.label_codes import LabelCodes
from anatozoo.io.masks import Classes
from anatozoo.io.organ_masks import OrganMasks, read_organ_masks
from anatozoo.nn.raster import SHOWN
from anatozoo.organs import PAIRS, parts_of
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
FILLED = 0.75
"""Share of the frame that a mask fills, along its longer side; the mean shape of JSRT fills as much."""

Masks = Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class _Seen:
    """A mask as the network sees it.

    Attributes:
        given: as it was given.
        masks: the same with swapped sides as one, without organs that the frame does not show.
        planes: share of each pixel of the frame that each organ covers, (organs, S, S).
        organs: those that the frame shows.
        box: rows and columns of the source that hold all organs.
        frame: of what lies in the box.
        flags: remarks on the mask.
    """

    given: OrganMasks
    masks: Masks
    planes: np.ndarray
    organs: frozenset[str]
    box: tuple[slice, ...]
    frame: Frame
    flags: list[str]


class MaskContourTask(Contours):
    """A model that gives landmarks to the organs of a mask.

    The network sees one plane for each of its organs, the share of each pixel that the organ covers. Where a
    mask does not tell the sides of lungs or clavicles apart, both planes show both. Organs that a mask does
    not show have empty planes. The frame shows what the organs take up, wherever in the picture they are.

    Subclasses implement `forward_landmarks`.

    Args:
        organs: landmarks per organ, in order.
        frame: a square, which the organs fill by the share `FILLED`.
    """

    needs = frozenset({"organs"})
    conditions: ClassVar = frozenset({"exclusive"})
    batched: ClassVar = True

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
            x: path, bytes, binary file object, array, tensor, PIL or SimpleITK image, the result of a
                segmenter, or `anatozoo.io.organ_masks.OrganMasks`: a label map (H, W) or one plane per organ
                (C, H, W).
            classes: names of its labels 1, 2, ... or of its planes, or value -> name; None takes the model's
                organs. ``"lungs"`` and ``"clavicles"`` are both sides in one.
            spacing_mm: millimetres per pixel, one number or (x, y), in place of what the source says.
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
        on_error: str = "raise",
    ) -> Iterator["MaskContourResult"]:
        """Find the landmarks of many masks, `batch_size` at a time, in order; each as `predict` gives it.

        Args:
            xs: whatever `predict` takes.
            batch_size: how many are computed together.
            classes: see `predict`.
            spacing_mm: see `predict`.
            precision: see `predict`.
            on_error: ``"raise"``, or ``"record"``: a mask that fails gives an
                `anatozoo.tasks.base.FailedInput` in its place, which is false, and the others their results.

        Raises:
            ConfigError: `batch_size` is below 1, or on_error is neither of the two.
            ImageError, DataError: a mask cannot be taken; the ones before it have been yielded.
        """
        return in_batches(
            xs,
            batch_size,
            lambda x: self._read(x, classes, spacing_mm),
            lambda masks: self._trace(masks, precision),
            on_error,
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
        grid = drawn.masks_grid(names)
        masks = OrganMasks({name: drawn.mask(name, grid.size) for name in names}, grid, case.id)
        # A mask that cannot be taken is refused here: in a batch, the others would be computed again.
        return read_organ_masks(masks, list(self.organs)), lambda result: compared(drawn, result, how)

    def golden_input(self) -> np.ndarray:
        """A label map that anybody may have, for the golden test: an ellipse for each organ."""
        from anatozoo.io.samples import sample_chest_map

        return sample_chest_map(list(self.organs))

    def _read(
        self, x: Any, classes: Classes | LabelCodes, spacing_mm: float | Sequence[float] | None
    ) -> _Seen:
        given = read_organ_masks(x, list(self.organs), classes=classes, spacing_mm=spacing_mm)
        box = shown_box(*given.masks.values())
        assert box is not None  # each of them has a pixel
        part = {name: mask[box] for name, mask in given.masks.items()}
        # Sides that are named the wrong way round say no more than a mask that names none.
        swapped = sides_swapped(part)
        masks, part = joined_sides(given.masks, swapped), joined_sides(part, swapped)
        height, width = next(iter(part.values())).shape
        frame = Frame.fit(replace(given.grid, size=(width, height)), self.frame)
        frame = replace(frame, matrix=FILLED * frame.matrix)
        planes = np.zeros((len(self.organs), *self.shape), np.float32)
        found = to_frame([np.uint8(255) * mask.view(np.uint8) for mask in part.values()], frame) / 255
        for name, plane in zip(part, found, strict=True):
            for organ in parts_of(name):
                target = planes[list(self.organs).index(organ)]
                np.maximum(target, plane, out=target)
        shown = planes.max((1, 2)) > SHOWN
        organs = frozenset(organ for organ, is_shown in zip(self.organs, shown, strict=True) if is_shown)
        if not organs:
            raise ImageError(f"the mask {given.name!r} shows no organ but specks, far from one another.")
        return _Seen(
            given,
            {name: mask for name, mask in masks.items() if organs & set(parts_of(name))},
            planes,
            organs,
            box,
            frame,
            mask_flags(part, swapped=bool(swapped)),
        )

    @torch.inference_mode()
    def _trace(self, seen: Sequence[_Seen], precision: str | None) -> list["MaskContourResult"]:
        with self.answering(precision):
            batch = self.tensor(np.stack([each.planes for each in seen]))
            answers = self.forward_landmarks(batch).double().cpu().numpy() * self.side
        return [self._result(*item) for item in zip(seen, answers, strict=True)]

    def _result(self, seen: _Seen, answer: np.ndarray) -> "MaskContourResult":
        from anatozoo.results.mask_contours import MaskContourResult

        rows, columns = seen.box
        found, untangled = self._contours(answer, seen.frame.geometry)
        contours = {organ: points + (columns.start, rows.start) for organ, points in found.items()}
        grid, masks = seen.given.grid, seen.masks
        size = (grid.size[0], grid.size[1])
        landmarks = {organ: points for organ, points in contours.items() if organ in seen.organs}
        guessed = {organ: points for organ, points in contours.items() if organ not in seen.organs}
        pixels = np.zeros(grid.shape, np.float32)
        for mask in masks.values():
            pixels[seen.box][mask[seen.box]] = 1
        result = MaskContourResult(
            checkpoint=self.checkpoint_name,
            version=self.checkpoint_version,
            image=seen.given.name,
            size=size,
            spacing_mm=None if grid.spacing_mm is None else (grid.spacing_mm[0], grid.spacing_mm[1]),
            landmarks=landmarks,
            guessed=guessed,
            given=masks,
            everything=tuple(self.organs),
            pixels=pixels,
        )
        flags = [
            *grid.remarks,
            *self._flags(landmarks, size, list(guessed.values())),
            *(flag for flag in untangled if flag.removeprefix("untangled_") in seen.organs),
            *(f"unseen_{organ}" for organ in guessed),
            *seen.flags,
            *(
                f"poor_fit_{name}"
                for name, dice in result.dice.items()
                if dice < POOR_FIT.get(name, POOR_ORGAN)
            ),
        ]
        result._put(flags=tuple(dict.fromkeys(flags)))
        return result


def sides_swapped(masks: Masks) -> tuple[str, ...]:
    """Pairs whose right organ lies to the right in the picture, which is the patient's left."""
    found = exchanged_sides({name: middle_x(mask) for name, mask in masks.items()})
    return tuple(pair for pair, is_exchanged in found.items() if is_exchanged)


def joined_sides(masks: Masks, pairs: Collection[str] = tuple(PAIRS)) -> dict[str, np.ndarray]:
    """Masks in which the two sides of some pairs are one organ, where both are there."""
    found: dict[str, np.ndarray] = {}
    for name, mask in masks.items():
        whole = next((pair for pair in pairs if name in PAIRS[pair] and set(PAIRS[pair]) <= set(masks)), name)
        found[whole] = found[whole] | mask if whole in found else mask
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

"""Validation batches as cases: predictions with their references, image by image, on the CPU."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from anatozoo.io.annotation import Annotation
from anatozoo.metrics.cases import Case, mean_dice
from anatozoo.metrics.chest import FRAME
from anatozoo.nn.graphs import organ_slices

Masks = dict[str, npt.NDArray[np.bool_]]


def landmark_cases(
    landmarks: Tensor,
    batch: Mapping[str, Tensor],
    organs: Mapping[str, int],
    mask_organs: Sequence[str] = (),
) -> list[Case]:
    """Contours in pixels of the 1024 x 1024 frame, the frame of `mse_px2`.

    The reference holds the organs with all landmarks and, as masks, those with a mask instead; an organ
    without either is left out. The image keeps the network's resolution: it has the same field of view, and
    only pictures need it.

    Args:
        landmarks: (B, N, 2) in [0, 1] of the frame.
        batch: ``image`` (B, 1, S, S), ``landmarks`` (B, N, 2) in [0, 1], ``landmark_weight`` (B, N), above 0
            where a landmark is known, and, if any image has some, ``masks`` (B, C, s, s), shares in [0, 1] of
            cells, and ``known`` (B, C) bool.
        organs: landmarks per organ, in order.
        mask_organs: organs of the C channels.
    """
    side = batch["image"].shape[-1]
    parts = organ_slices(organs)
    found, truth = (_in_frame(x, side) for x in (landmarks, batch["landmarks"]))
    known = (batch["landmark_weight"] > 0).cpu().numpy()
    cases = []
    for i, (image, spacing) in enumerate(_images(batch, batch["image"])):
        spacing = None if spacing is None else tuple(value * side / FRAME for value in spacing)
        marked = {organ: truth[i, part] for organ, part in parts.items() if known[i, part].all()}
        lacking = {c: organ for c, organ in enumerate(mask_organs) if organ in parts and organ not in marked}
        masks = _given_masks(batch, i, lacking)
        prediction = {organ: found[i, part] for organ, part in parts.items()}
        cases.append(
            Case(
                Annotation((FRAME, FRAME), prediction, spacing_mm=spacing),
                Annotation((FRAME, FRAME), marked, masks, spacing),
                image,
            )
        )
    return cases


def label_cases(
    found: Tensor,
    truth: Tensor,
    classes: Sequence[str],
    batch: Mapping[str, Tensor],
    *,
    image: Tensor | None = None,
    known: Tensor | None = None,
) -> list[Case]:
    """Masks of each class at the network's resolution, with the mean Dice over the classes as ``dice``.

    Args:
        found: label maps (B, ...), 0 for background, in which class number i, from 1, has the value i.
        truth: label maps (B, ...) of the reference.
        classes: names of at most 254 classes.
        batch: its ``spacing_mm`` (B, n) gives millimetres.
        image: (B, 1, ...) of the same resolution.
        known: (B, classes) bool, true for annotated classes; others are left out. None takes all.
    """
    sides = [labels.to(torch.uint8).cpu().numpy() for labels in (found, truth)]
    judged = np.ones((len(found), len(classes)), bool) if known is None else known.cpu().numpy()
    cases = []
    for i, (pixels, spacing) in enumerate(_images(batch, image, len(found))):
        named = [(value, name) for value, name in enumerate(classes, 1) if judged[i, value - 1]]
        prediction, reference = (
            Annotation(side[i].shape[::-1], masks={n: side[i] == v for v, n in named}, spacing_mm=spacing)
            for side in sides
        )
        dice = mean_dice(prediction.masks, reference.masks)
        cases.append(Case(prediction, reference, pixels, {"dice": dice}))
    return cases


def label_dice(found: npt.NDArray[np.uint8], truth: npt.NDArray[np.uint8], count: int) -> float:
    """Mean Dice over the classes 1 to `count` of two label maps; NaN where none of them is in either."""
    sides = ({str(value): side == value for value in range(1, count + 1)} for side in (found, truth))
    return mean_dice(*sides)


def label_dices(found: Tensor, truth: Tensor, count: int) -> list[float]:
    """`label_dice` of each pair of label maps (B, ...)."""
    one, other = (labels.to(torch.uint8).cpu().numpy() for labels in (found, truth))
    return [label_dice(*pair, count) for pair in zip(one, other, strict=True)]


def with_numbers(cases: Sequence[Case], numbers: Mapping[str, Iterable[float]]) -> list[Case]:
    """The cases with further numbers.

    Args:
        cases: one for each image of a batch.
        numbers: column -> one value for each image; NaN is kept.
    """
    rows = zip(*(list(values) for values in numbers.values()), strict=True)
    return [
        replace(case, numbers={**case.numbers, **dict(zip(numbers, map(float, row), strict=True))})
        for case, row in zip(cases, rows, strict=True)
    ]


def bare_cases(image: Tensor) -> list[Case]:
    """Cases of images (B, 1, ...) without organs, to which numbers can be added."""
    nothing = Annotation(tuple(image.shape[:1:-1]))
    return [Case(nothing, nothing, pixels) for pixels, _ in _images({}, image)]


def _in_frame(landmarks: Tensor, side: int) -> npt.NDArray[np.float64]:
    """Landmarks in [0, 1], which lie at u · S pixels of an input of side S, in pixels of the frame."""
    pixels: npt.NDArray[np.float64] = landmarks.cpu().double().numpy() * side
    return (pixels + 0.5) * (FRAME / side) - 0.5


def _given_masks(batch: Mapping[str, Tensor], index: int, organs: Mapping[int, str]) -> Masks:
    """Masks in the frame, of the organs (by channel) that have one in this image."""
    if "masks" not in batch:
        return {}
    known, shares = batch["known"][index].cpu(), batch["masks"][index].float().cpu()
    wanted = {channel: organ for channel, organ in organs.items() if known[channel]}
    if not wanted:
        return {}
    # Shares of cells encode the position of an edge within a cell, which interpolation restores.
    smooth = F.interpolate(shares[None, list(wanted)], size=(FRAME, FRAME), mode="bilinear")[0]
    return dict(zip(wanted.values(), (smooth > 0.5).numpy(), strict=True))


def _images(
    batch: Mapping[str, Tensor], image: Tensor | None, count: int | None = None
) -> Iterator[tuple[npt.NDArray[Any] | None, tuple[float, ...] | None]]:
    """Grey values (H, W) or (D, H, W) of each image of a batch, and its spacing (x, y[, z])."""
    size = len(image) if image is not None else count or 0
    pixels = None if image is None else image[:, 0].float().cpu().numpy()
    spacing = batch["spacing_mm"].float().cpu().numpy() if "spacing_mm" in batch else None
    for i in range(size):
        stated = None if spacing is None or not np.isfinite(spacing[i]).all() else spacing[i]
        # The shortest decimal for a float32: 0.35, not 0.3499999940395355.
        known = None if stated is None else tuple(float(str(value)) for value in stated)
        yield None if pixels is None else pixels[i], known

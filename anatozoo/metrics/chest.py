"""The numbers of one radiograph: predicted contours against landmarks or masks."""

from collections.abc import Mapping
from typing import Literal

import numpy as np

from anatozoo.errors import DataError
from anatozoo.io.landmarks import draw_organ_mask
from anatozoo.metrics.functional import dice, landmark_error, landmark_mse_px2, surface_distances

FRAME = 1024
LUNGS = ("lung_right", "lung_left")
Rounding = Literal["truncate", "nearest"]
Points = Mapping[str, np.ndarray]


def to_frame(points: Points, size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Landmarks from pixels of a square image of `size` to pixels of the 1024 x 1024 frame, (N, 2) each."""
    return {organ: (p + 0.5) * (FRAME / size[0]) - 0.5 for organ, p in points.items()}


def draw_masks(points: Points, size: tuple[int, int], target: tuple[int, int]) -> dict[str, np.ndarray]:
    """Fill contours on another grid of the same view.

    Args:
        points: organ -> (N, 2) pixels of an image of `size`.
        size: (width, height) of that image.
        target: (width, height) of the masks.

    Returns:
        organ -> (H, W) bool.
    """
    scale = np.array(target) / size
    return {organ: draw_organ_mask((p + 0.5) * scale - 0.5, target) for organ, p in points.items()}


def landmark_metrics(
    prediction: Points, reference: Points, spacing_mm: float | None = None, rounding: Rounding = "truncate"
) -> dict[str, float]:
    """Compare contours of the organs that both sides have.

    Args:
        prediction: organ -> (N, 2) pixels of the 1024 x 1024 frame.
        reference: the same of the truth.
        spacing_mm: millimetres per pixel of the frame; None leaves millimetres out.
        rounding: how polygons meet the pixel grid: ``"truncate"`` towards zero, as in the published
            evaluations, or to the ``"nearest"`` pixel, as results are drawn.

    Returns:
        ``mse_px2`` (all landmarks, and ``/lungs_heart`` without clavicles), its parts ``/along`` the true
        contour, which leaves the outline as it is, and ``/across`` it, ``error_px`` and, for each organ and
        for ``lungs`` (both on one canvas), ``dice``, ``hd_px``, ``assd_px`` and their ``_mm``.

    Raises:
        DataError: the two sides share no organ.
        GeometryError: an organ has another number of landmarks.
    """
    organs = [organ for organ in prediction if organ in reference]
    if not organs:
        raise DataError(
            f"prediction has {list(prediction)}, the data has {list(reference)}: no organ in common."
        )
    a, b = _joined(prediction, organs), _joined(reference, organs)
    row = {"mse_px2": landmark_mse_px2(a, b), "error_px": landmark_error(a, b)}
    # The squared error of a point is the sum of both parts; the published mean is over its two coordinates.
    along = np.concatenate([_along(prediction[organ], reference[organ]) for organ in organs])
    row["mse_px2/along"] = float(np.mean(along**2)) / 2
    row["mse_px2/across"] = row["mse_px2"] - row["mse_px2/along"]
    core = [organ for organ in organs if not organ.startswith("clavicle")]
    if core and core != organs:
        row["mse_px2/lungs_heart"] = landmark_mse_px2(_joined(prediction, core), _joined(reference, core))
    ours, truth = (_draw(side, organs, rounding) for side in (prediction, reference))
    for organ in ours:
        row[f"dice/{organ}"] = dice(ours[organ], truth[organ])
        distances = surface_distances(ours[organ], truth[organ])
        for name, value in (("hd", distances.hausdorff()), ("assd", distances.assd())):
            row[f"{name}_px/{organ}"] = value
            if spacing_mm is not None:
                row[f"{name}_mm/{organ}"] = value * spacing_mm
    return row


def mask_metrics(
    prediction: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """Dice of the organs that both sides have, and of ``lungs`` (both together).

    Args:
        prediction: organ -> (H, W) bool.
        reference: the same of the truth.

    Raises:
        DataError: the two sides share no organ.
        GeometryError: masks differ in shape.
    """
    organs = [organ for organ in prediction if organ in reference]
    if not organs:
        raise DataError(
            f"prediction has {list(prediction)}, the data has {list(reference)}: no organ in common."
        )
    ours, truth = (_and_lungs({organ: side[organ] for organ in organs}) for side in (prediction, reference))
    return {f"dice/{organ}": dice(ours[organ], truth[organ]) for organ in ours}


def _along(points: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """How far landmarks (N, 2) slid along the true closed contour, (N,)."""
    tangent = np.roll(truth, -1, axis=0) - np.roll(truth, 1, axis=0)
    length = np.linalg.norm(tangent, axis=1, keepdims=True)
    return ((points - truth) * tangent / np.maximum(length, 1e-12)).sum(1)


def _joined(points: Points, organs: list[str]) -> np.ndarray:
    return np.concatenate([points[organ] for organ in organs])


def _draw(points: Points, organs: list[str], rounding: Rounding) -> dict[str, np.ndarray]:
    to_grid = np.trunc if rounding == "truncate" else np.rint
    return _and_lungs({organ: draw_organ_mask(to_grid(points[organ]), (FRAME, FRAME)) for organ in organs})


def _and_lungs(masks: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    if not all(organ in masks for organ in LUNGS):
        return masks
    return masks | {"lungs": masks[LUNGS[0]] | masks[LUNGS[1]]}

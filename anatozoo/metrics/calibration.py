"""Do probabilities mean what they say? Calibration error, Brier score and negative log-likelihood.

Probabilities are either those of class 1, of the labels' shape, with labels 0 and 1; or (C, ...) of C >= 2
classes, class first, that sum to one, beside labels (...) of 0..C-1. Arrays and tensors are taken alike, of
any number of dimensions, and every pixel counts the same. `ignore`, a mask of the labels' shape, leaves out
pixels, whose labels and probabilities may then be anything; where none is left, every number is NaN.

All raise `GeometryError` where shapes do not fit, and `DataError` where a probability is outside 0..1 or NaN,
where those of a pixel do not sum to one, or where a label is not a class.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.typing import ArrayLike

from anatozoo.errors import ConfigError, DataError, GeometryError
from anatozoo.metrics.surface import Floats, as_array

BINS = 10
"""Bins of confidence of an evaluation and of its picture."""
_ROUNDING, _SUM_ROUNDING = 1e-6, 5e-3
"""What single precision may exceed 1 by, and what a softmax in half precision may miss the sum by."""


@dataclass(frozen=True, eq=False)
class _Pixels:
    """Counted pixels: `probabilities` (C, n), or (1, n) of class 1 alone, and `labels` (n,)."""

    probabilities: npt.NDArray[np.floating]
    labels: npt.NDArray[np.intp]

    @property
    def binary(self) -> bool:
        return len(self.probabilities) == 1

    def of_truth(self) -> npt.NDArray[np.floating]:
        """Probability (n,) of each pixel's true class."""
        if self.binary:
            p = self.probabilities[0]
            return np.where(self.labels == 1, p, 1 - p)
        return np.take_along_axis(self.probabilities, self.labels[None], axis=0)[0]


@dataclass(frozen=True, eq=False)
class Reliability:
    """Sums over pixels in bins of confidence, from which a reliability diagram is drawn; they can be added.

    Attributes:
        counts: (bins,) number of pixels.
        confidence: (bins,) sum of their confidences.
        right: (bins,) number of those that are right.
    """

    counts: Floats
    confidence: Floats
    right: Floats

    def __add__(self, other: "Reliability") -> "Reliability":
        """The bins of both together."""
        return Reliability(
            self.counts + other.counts, self.confidence + other.confidence, self.right + other.right
        )

    @property
    def ece(self) -> float:
        """The expected calibration error, see the function of this name; NaN without pixels."""
        # |mean confidence - mean accuracy| of a bin times its share of the pixels: its count cancels out.
        total = self.counts.sum()
        return float(np.abs(self.confidence - self.right).sum() / total) if total else float("nan")

    def means(self) -> tuple[Floats, Floats]:
        """Mean confidence and accuracy of each bin, (bins,) each, NaN where it is empty."""
        counts = np.where(self.counts > 0, self.counts, np.nan)
        return self.confidence / counts, self.right / counts

    def to_dict(self) -> dict[str, Any]:
        """``ece`` and the bins as JSON values, None where there are no pixels."""
        confidence, accuracy = ([None if np.isnan(v) else float(v) for v in each] for each in self.means())
        counts, error = self.counts.astype(int).tolist(), self.ece if self.counts.any() else None
        return {"ece": error, "counts": counts, "confidence": confidence, "accuracy": accuracy}


def reliability(
    probabilities: ArrayLike, labels: ArrayLike, *, bins: int = 15, ignore: ArrayLike | None = None
) -> Reliability:
    """The bins of confidence of `ece`, whose arguments and errors these are."""
    if bins < 1:
        raise ConfigError(f"{bins} bins of confidence: at least one is needed.")
    pixels = _pixels(probabilities, labels, ignore)
    if pixels.binary:
        confidence, right = pixels.probabilities[0], pixels.labels
    else:
        confidence, right = pixels.probabilities.max(0), pixels.labels == pixels.probabilities.argmax(0)
    index = np.minimum((confidence * bins).astype(np.intp), bins - 1)
    counts, sure, true = (
        np.bincount(index, weights=values, minlength=bins).astype(np.float64)
        for values in (None, confidence, right)
    )
    return Reliability(counts, sure, true)


def ece(
    probabilities: ArrayLike, labels: ArrayLike, *, bins: int = 15, ignore: ArrayLike | None = None
) -> float:
    """Expected calibration error in 0..1: mean distance of confidence and accuracy over bins of confidence.

    Guo et al., "On calibration of modern neural networks", 2017. Bins have equal widths and hold their lower
    edge; the last one holds 1 too. With C classes, confidence is the largest probability and accuracy how
    often that class is true. With probabilities of class 1, confidence is that probability and accuracy how
    often class 1 is true, as in torchmetrics, which however puts exactly 1 in a bin of its own.

    Args:
        probabilities: (...) of class 1, or (C, ...).
        labels: (...), 0 and 1, or 0..C-1.
        bins: number of bins.
        ignore: mask (...) of pixels to leave out.

    Raises:
        ConfigError: less than one bin.
        DataError: as described for the module.
        GeometryError: as described for the module.
    """
    return reliability(probabilities, labels, bins=bins, ignore=ignore).ece


def brier(probabilities: ArrayLike, labels: ArrayLike, *, ignore: ArrayLike | None = None) -> float:
    """Brier score: mean squared difference of probabilities and truth; 0 is perfect.

    With C classes the squares are summed over classes, so that the score lies in 0..2, as in Brier,
    "Verification of forecasts expressed in terms of probability", 1950. With probabilities of class 1 only
    that class counts, as is usual: 0..1, half of what the same forecast scores as two classes.

    Args:
        probabilities: (...) of class 1, or (C, ...).
        labels: (...), 0 and 1, or 0..C-1.
        ignore: mask (...) of pixels to leave out.

    Raises:
        DataError: as described for the module.
        GeometryError: as described for the module.
    """
    pixels = _pixels(probabilities, labels, ignore)
    if not pixels.labels.size:
        return float("nan")
    if pixels.binary:
        return float(np.square(pixels.probabilities[0] - pixels.labels).mean(dtype=np.float64))
    squares = np.square(pixels.probabilities).sum(0, dtype=np.float64)
    return float((squares - 2 * pixels.of_truth() + 1).mean(dtype=np.float64))


def nll(
    probabilities: ArrayLike, labels: ArrayLike, *, floor: float = 1e-7, ignore: ArrayLike | None = None
) -> float:
    """Negative log-likelihood: mean of ``−log p`` of the true class, in nats; 0 is perfect.

    Args:
        probabilities: (...) of class 1, or (C, ...).
        labels: (...), 0 and 1, or 0..C-1.
        floor: smallest probability that is told from 0; about what single precision resolves beside 1. One
            pixel that is surely wrong then costs 16 nats. With 0 it makes the mean infinite.
        ignore: mask (...) of pixels to leave out.

    Raises:
        ConfigError: `floor` is not in 0..1.
        DataError: as described for the module.
        GeometryError: as described for the module.
    """
    if not 0 <= floor < 1:
        raise ConfigError(f"floor {floor} must lie in 0..1.")
    pixels = _pixels(probabilities, labels, ignore)
    if not pixels.labels.size:
        return float("nan")
    with np.errstate(divide="ignore"):
        return float(-np.log(np.maximum(pixels.of_truth(), floor)).mean(dtype=np.float64))


def calibration_numbers(
    probabilities: ArrayLike, labels: ArrayLike, *, bins: int = BINS, ignore: ArrayLike | None = None
) -> dict[str, float]:
    """The numbers of one image: ``ece``, ``ece_plus``, ``brier``, ``brier_plus`` and ``nll``.

    Most pixels are background, far from any organ and right, and hide the others in a mean. ``ece_plus`` and
    ``brier_plus``, ECE⁺ and Brier⁺ of Larrazabal et al., MICCAI 2023, are the same numbers over the pixels
    whose true label is an organ. Confidence is the largest probability in both: with the probability of the
    foreground as confidence, which is always true there, ECE⁺ would be the mean of one minus that
    probability, whatever the bins. NaN where there are no such pixels.

    Args:
        probabilities: (C, ...) of C >= 2 classes, background first.
        labels: (...), 0 for background.
        bins: number of bins of confidence.
        ignore: mask (...) of pixels to leave out.

    Raises:
        ConfigError, DataError, GeometryError: as of `ece`.
    """
    behind = as_array(labels) == 0
    strata = {"": ignore, "_plus": behind if ignore is None else behind | as_array(ignore)}
    numbers = {}
    for suffix, left_out in strata.items():
        numbers[f"ece{suffix}"] = ece(probabilities, labels, bins=bins, ignore=left_out)
        numbers[f"brier{suffix}"] = brier(probabilities, labels, ignore=left_out)
    return numbers | {"nll": nll(probabilities, labels, ignore=ignore)}


def _pixels(probabilities: ArrayLike, labels: ArrayLike, ignore: ArrayLike | None) -> _Pixels:
    p, truth = as_array(probabilities), as_array(labels)
    if p.ndim == truth.ndim and p.shape == truth.shape:
        p = p[None]
    elif p.ndim != truth.ndim + 1 or p.shape[1:] != truth.shape or len(p) < 2:
        raise GeometryError(
            f"probabilities {p.shape} beside labels {truth.shape}: they must be those of class 1, of the "
            "same shape, or (C, ...) of at least two classes, class first."
        )
    if ignore is not None:
        left_out = as_array(ignore)
        if left_out.dtype != bool or left_out.shape != truth.shape:
            raise GeometryError(
                f"ignore must be booleans of the labels' shape {truth.shape}, not {left_out.dtype} of "
                f"shape {left_out.shape}."
            )
        p, truth = p[:, ~left_out], truth[~left_out]
    p, truth = p.reshape(len(p), -1), truth.reshape(-1)
    return _Pixels(_probabilities(p), _labels(truth, max(len(p), 2)))


def _probabilities(p: npt.NDArray[Any]) -> npt.NDArray[np.floating]:
    if p.dtype.kind != "f" or p.dtype.itemsize < 4:
        p = p.astype(np.float64)
    if not ((p >= -_ROUNDING) & (p <= 1 + _ROUNDING)).all():
        raise DataError(
            f"probabilities from {p.min():.4g} to {p.max():.4g} are not all in 0..1; apply softmax or "
            "sigmoid to logits first."
        )
    if len(p) > 1:
        away: Floats = np.abs(p.sum(0, dtype=np.float64) - 1)
        if away.size and away.max() > _SUM_ROUNDING:
            raise DataError(
                f"the classes' probabilities sum to 1 ± {away.max():.4g}; classes that exclude one another "
                "need a softmax, others are measured one by one."
            )
    return np.clip(p, 0, 1)


def _labels(labels: npt.NDArray[Any], classes: int) -> npt.NDArray[np.intp]:
    known = (labels >= 0) & (labels < classes) & (labels == np.floor(labels))
    if not known.all():
        raise DataError(
            f"labels hold {', '.join(map(str, np.unique(labels[~known])[:8]))}, but there are classes 0 to "
            f"{classes - 1}; leave pixels without a class out by `ignore`."
        )
    return labels.astype(np.intp)

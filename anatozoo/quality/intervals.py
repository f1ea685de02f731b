"""Intervals of Dice by split conformal prediction, on top of Reverse Classification Accuracy.

An interval holds the true Dice of a new segmentation with a chosen probability, such as 90 %, if the
segmentation comes from the same source as those of the calibration: the same kinds of images and models. The
band of atlas scores is that of conformal RCA, the 40th to the 95th percentile. Three things differ:

* An isotonic curve first maps scores to Dice, because the scores are biased, above all those of bad hearts.
  The curve is fitted on a third of the patients. Only the others decide how far the band is widened, which
  keeps the guarantee.
* Each patient counts once, however many segmentations of its image there are: the quantile is that of Lee,
  Barber and Willett, "Distribution-free inference with hierarchical data", 2023. With one segmentation for
  each patient it is the usual one of split conformal prediction.
* The interval always includes the estimate, whose curve is fitted on all patients.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from anatozoo.errors import ConfigError, DataError
from anatozoo.quality.calibration import POINTS, Calibration
from anatozoo.quality.records import JsonRecord, fault
from anatozoo.results.quality import DiceInterval, Judging, QualityResult

ALPHA = 0.1
"""Default share of segmentations whose true Dice may lie outside."""
PERCENTILES = (40, 95)
"""The band of atlas scores before calibration."""
SIGNAL = "dice_rca"
_ROUNDING = 1e-9

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class OrganBand:
    """How the scores of one organ become an interval.

    Attributes:
        estimate: curve from the mean of the upper scores to Dice, fitted on all patients.
        curve: curve for the ends of the band, fitted on a part of the patients.
        margin: how far the band is widened on both sides, -1 … 1; negative if it is too wide.
        masks: number of segmentations.
        patients: number of patients.
    """

    estimate: Calibration
    curve: Calibration
    margin: float
    masks: int
    patients: int

    def interval(self, scores: npt.ArrayLike) -> DiceInterval:
        """The interval of one segmentation from its Dice on each atlas image, (K,)."""
        values = np.asarray(scores, np.float64)[None]
        dice = float(self.estimate.predict({SIGNAL: upper_mean(values)})[0])
        low, high = (float(end[0]) for end in _band(self.curve, values))
        # Wider intervals keep the guarantee.
        low, high = min(low - self.margin, dice), max(high + self.margin, dice)
        return DiceInterval(dice, max(0.0, low), min(1.0, high))


@dataclass(frozen=True)
class DiceIntervals(JsonRecord):
    """Intervals of the organs of an atlas; made by `fit` and stored in the atlas by `Atlas.with_intervals`.

    Attributes:
        alpha: share of segmentations whose true Dice may lie outside the interval, 0 … 1.
        judging: how the segmentations of the calibration were judged; the intervals are for this alone.
        organs: organ -> band.
        about: what was calibrated on, in words.
    """

    alpha: float
    judging: Judging
    organs: Mapping[str, OrganBand]
    about: str = ""

    @classmethod
    def fit(
        cls,
        results: Sequence[QualityResult],
        dice: Mapping[str, npt.ArrayLike],
        patients: Sequence[Hashable],
        *,
        alpha: float = ALPHA,
        about: str = "",
    ) -> Self:
        """Calibrate on judged segmentations with ground truth.

        Args:
            results: N estimates, all of one atlas, engine, selector and number of atlas images.
            dice: organ -> (N,) true Dice, 0 … 1; NaN where it is unknown.
            patients: N names of patients; segmentations of one patient are kept together.
            alpha: share of segmentations whose true Dice may lie outside.
            about: what the segmentations are, in words, for the record.

        Raises:
            ConfigError: `alpha` is not within 0 … 1.
            DataError: there are too few patients or segmentations for an organ, the results were judged in
                different ways, lengths differ, Dice are not numbers or patients not names, or the scores do
                not rise with the true Dice.
        """
        least_patients(alpha)
        if not results:
            raise DataError("there are no estimates to calibrate on.")
        ways = list(dict.fromkeys(result.judging for result in results))
        if len(ways) != 1 or ways[0] is None:
            raise DataError(
                f"{len(results)} estimates in {len(ways)} ways: a calibration needs estimates by one atlas, "
                "one engine, one selector and one number of atlas images."
            )
        truth = {organ: _numbers(organ, values) for organ, values in dice.items()}
        shapes = {(len(results),), (len(patients),), *(values.shape for values in truth.values())}
        if not truth or len(shapes) > 1:
            raise DataError(
                f"{len(results)} estimates need a true Dice of each organ and a patient for each of them."
            )
        if not all(isinstance(patient, Hashable) for patient in patients):
            raise DataError("patients must be names, that is texts or numbers, one for each estimate.")
        organs = {
            organ: _fit_organ(organ, results, values, patients, alpha) for organ, values in truth.items()
        }
        return cls(alpha, ways[0], organs, about)

    @cached_property
    def digest(self) -> str:
        """Hexadecimal hash of everything that the intervals depend on."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    @property
    def words(self) -> str:
        """What was calibrated on how much, in one line."""
        organs = (
            f"{organ} by {band.masks} masks of {band.patients} patients"
            for organ, band in self.organs.items()
        )
        about = f" ({self.about})" if self.about else ""
        coverage = f"{100 * (1 - self.alpha):g} %"
        return f"intervals of {coverage}: {'; '.join(organs)}{about}, with {_words(self.judging)}"

    def refusal(self, judging: Judging) -> str:
        """Why the intervals do not apply to estimates that were judged in this way; empty if they do."""
        if judging == self.judging:
            return ""
        mine, theirs = _words(self.judging), _words(judging)
        if mine == theirs:
            mine, theirs = "another atlas or other weights", theirs
        return f"they were calibrated with {mine}, and these estimates are made with {theirs}"

    def of(self, result: QualityResult) -> dict[str, DiceInterval]:
        """Intervals of the calibrated organs of an estimate; check `refusal` first."""
        return {
            organ: self.organs[organ].interval([match.values[f"dice/{organ}"] for match in result.matches])
            for organ in result.organs
            if organ in self.organs
        }

    def to_dict(self) -> dict[str, Any]:
        """The intervals as JSON values."""
        organs = {
            organ: {
                "masks": band.masks,
                "patients": band.patients,
                "margin": band.margin,
                "estimate": band.estimate.to_dict(),
                "curve": band.curve.to_dict(),
            }
            for organ, band in self.organs.items()
        }
        return {
            "schema_version": 1,
            "alpha": self.alpha,
            "about": self.about,
            "judging": asdict(self.judging),
            "organs": organs,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The intervals from `to_dict`.

        Raises:
            DataError: the values are not intervals of this release.
        """
        try:
            if values["schema_version"] != 1:
                raise DataError("these intervals are of another release of anatozoo; build the atlas again.")
            organs = {
                str(organ): OrganBand(
                    Calibration.from_dict(band["estimate"]),
                    Calibration.from_dict(band["curve"]),
                    float(band["margin"]),
                    int(band["masks"]),
                    int(band["patients"]),
                )
                for organ, band in values["organs"].items()
            }
            found = cls(
                float(values["alpha"]), Judging(**values["judging"]), organs, str(values.get("about", ""))
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise DataError(f"these are not intervals of anatozoo: {fault(error)}.") from error
        curves = [curve for band in organs.values() for curve in (band.estimate, band.curve)]
        if (
            not 0 < found.alpha < 1
            or not all(-1 <= band.margin <= 1 for band in organs.values())
            or not all(1 <= band.patients <= band.masks for band in organs.values())
            or any(curve.signals != (SIGNAL,) for curve in curves)
        ):
            raise DataError(
                "these are not intervals of anatozoo: alpha, a margin, a curve or a number of patients or "
                "masks is not valid."
            )
        return found


def least_patients(alpha: float) -> int:
    """The smallest number of patients for which the intervals exist.

    Raises:
        ConfigError: `alpha` is not within 0 … 1.
    """
    if not 0 < alpha < 1:
        raise ConfigError(f"alpha {alpha:g} must lie between 0 and 1; 0.1 gives intervals of 90 %.")
    needed = math.ceil((1 - alpha) / alpha - _ROUNDING)
    count = max(needed + 1, 3)
    while count - _fitting(count) < needed:
        count += 1
    return count


def refuse_too_few(patients: Sequence[Hashable], alpha: float) -> None:
    """Refuse segmentations of which `DiceIntervals.fit` could make no intervals, whatever they look like.

    Args:
        patients: the patient of each segmentation.
        alpha: share of segmentations whose true Dice may lie outside.

    Raises:
        ConfigError: `alpha` is not within 0 … 1.
        DataError: there are too few patients or segmentations.
    """
    counts = sorted(Counter(patients).values(), reverse=True)
    if len(counts) < least_patients(alpha) or sum(counts[: _fitting(len(counts))]) < POINTS:
        raise DataError(_too_few(patients, alpha))


def upper_mean(scores: Vector) -> Vector:
    """The mean of the scores from the 40th percentile up, that is of the best three of five.

    Registrations fail in one direction, so that the low scores of a segmentation say less about it.

    Args:
        scores: (N, K).

    Returns:
        (N,).
    """
    count = math.ceil((1 - PERCENTILES[0] / 100) * scores.shape[1] - _ROUNDING)
    mean: Vector = np.sort(scores, axis=1)[:, -count:].mean(1)
    return mean


def conformal_quantile(scores: npt.ArrayLike, patients: Sequence[Hashable], alpha: float) -> float:
    """The value that the score of a new patient exceeds with a probability of at most `alpha`.

    All scores of a patient share one weight, 1 / (patients + 1). With one score for each of N patients, this
    is the ⌈(N + 1)(1 − alpha)⌉-th smallest score.

    Args:
        scores: (N,) scores of non-conformity.
        patients: N names; scores of different patients are exchangeable.
        alpha: probability, 0 … 1.

    Returns:
        A score; infinity if the patients are too few.
    """
    values = np.asarray(scores, np.float64)
    places: dict[Hashable, int] = {}
    index = np.array([places.setdefault(patient, len(places)) for patient in patients], np.intp)
    weights = 1 / (np.bincount(index)[index] * (len(places) + 1))
    order = np.argsort(values, kind="stable")
    place = int(np.searchsorted(np.cumsum(weights[order]), 1 - alpha - _ROUNDING))
    return float(values[order[place]]) if place < len(values) else math.inf


def _fitting(patients: int) -> int:
    """How many patients the curve is fitted on."""
    return patients // 3


def _too_few(patients: Sequence[Hashable], alpha: float) -> str:
    """What is refused, and how many patients are enough who have as many segmentations as these."""
    counts = Counter(patients).values()
    needed = least_patients(alpha)
    # No more segmentations of each than the fewest patients need.
    each = min(min(counts, default=1), math.ceil(POINTS / _fitting(needed)))
    while _fitting(needed) * each < POINTS:
        needed += 1
    segmentations = "one segmentation" if each == 1 else f"{each} segmentations"
    return (
        f"{len(patients)} segmentations of {len(counts)} patients are too few for intervals of "
        f"{100 * (1 - alpha):g} %; {needed} patients with {segmentations} each are enough."
    )


def _numbers(organ: str, values: npt.ArrayLike) -> Vector:
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{organ}: true Dice must be numbers, one for each estimate.") from error


def _fit_organ(
    organ: str,
    results: Sequence[QualityResult],
    dice: Vector,
    patients: Sequence[Hashable],
    alpha: float,
) -> OrganBand:
    used = [i for i, each in enumerate(results) if organ in each.organs and not math.isnan(dice[i])]
    names = [patients[i] for i in used]
    truth = dice[used]
    if not ((truth >= 0) & (truth <= 1)).all():
        raise DataError(f"{organ}: true Dice must lie within 0 … 1.")
    # The order of the cases must not matter.
    known = sorted(set(names), key=str)
    chosen = np.random.default_rng(0).permutation(len(known))[: _fitting(len(known))]
    fitting = {known[i] for i in chosen}
    part = np.array([name in fitting for name in names], bool)
    if len(known) < least_patients(alpha) or part.sum() < POINTS:
        raise DataError(f"{organ}: {_too_few(names, alpha)}")
    scores = np.array([[m.values[f"dice/{organ}"] for m in results[i].matches] for i in used])
    upper = upper_mean(scores)
    curve = _curve(organ, upper[part], truth[part])
    low, high = _band(curve, scores[~part])
    misses = np.maximum(low - truth[~part], truth[~part] - high)
    others = [name for name, fits in zip(names, part, strict=True) if not fits]
    margin = conformal_quantile(misses, others, alpha)
    return OrganBand(_curve(organ, upper, truth), curve, margin, len(used), len(known))


def _curve(organ: str, signal: Vector, dice: Vector) -> Calibration:
    """A rising curve from scores to Dice that begins at 0, the Dice of an organ that is not there."""
    try:
        found = Calibration.fit({SIGNAL: signal}, dice, "isotonic")
    except DataError as error:
        raise DataError(f"{organ}: {error}") from error
    knots, values = found.table
    if values[-1] <= values[0]:
        raise DataError(
            f"{organ}: the estimates do not rise with the true Dice, so that they say nothing about it; try "
            "another engine or atlas, and segmentations that differ in quality."
        )
    if knots[0] > 0:
        knots, values = (0.0, *knots), (0.0, *values)
    return Calibration("isotonic", (SIGNAL,), (knots, values))


def _band(curve: Calibration, scores: Vector) -> tuple[Vector, Vector]:
    """The ends of the band of scores (N, K), as Dice."""
    low, high = (curve.predict({SIGNAL: np.percentile(scores, percent, axis=1)}) for percent in PERCENTILES)
    return low, high


def _words(judging: Judging) -> str:
    """The engine, the number of atlas images and what chose them."""
    chosen = f" chosen by {judging.selector}" if judging.selector else ""
    return f"{judging.engine} {judging.engine_version} and {judging.count} atlas images{chosen}"

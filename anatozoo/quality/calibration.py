"""Calibration of quality signals: predict Dice, learnt from cases with ground truth."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from anatozoo.errors import ConfigError, DataError
from anatozoo.quality.records import JsonRecord, fault

POINTS = 10
"""Number of cases that a calibration needs for each signal."""
KINDS = ("isotonic", "linear")

Values = Mapping[str, npt.ArrayLike]
Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Calibration(JsonRecord):
    """Predicts Dice from one or more signals of quality; made by `fit` or read by `load`.

    Attributes:
        kind: ``"isotonic"``, a monotone piecewise linear function of one signal (Zadrozny & Elkan, KDD 2002),
            or ``"linear"``, least squares on one or more signals.
        signals: names of the signals.
        table: for ``"isotonic"`` two rows, the signal's values in increasing order and the Dice at each; for
            ``"linear"`` one row, the constant and a factor for each signal.
    """

    kind: str
    signals: tuple[str, ...]
    table: tuple[tuple[float, ...], ...]

    @classmethod
    def fit(cls, signals: Values, dice: npt.ArrayLike, kind: str | None = None) -> Self:
        """Learn from cases with ground truth.

        Args:
            signals: name -> (N,) values.
            dice: (N,) true Dice, 0 … 1.
            kind: None takes ``"isotonic"`` for one signal and ``"linear"`` for several. The sign of the
                correlation decides whether an isotonic curve rises or falls.

        Raises:
            ConfigError: the kind is unknown, or isotonic with several signals.
            DataError: there are fewer than 10 cases for each signal, lengths differ, a value is not finite, a
                signal is constant, or a Dice is not within 0 … 1.
        """
        chosen = kind or ("isotonic" if len(signals) == 1 else "linear")
        if chosen not in KINDS or (chosen == "isotonic" and len(signals) != 1):
            raise ConfigError(
                f"a calibration of kind {chosen!r} with {len(signals)} signals is not possible; use isotonic "
                "for one, linear for one or more."
            )
        columns, truth = _columns(signals), np.asarray(dice, np.float64)
        if truth.shape != columns.shape[1:]:
            raise DataError(f"signals of {columns.shape[1]} cases do not go with Dice of {truth.shape}.")
        if not ((truth >= 0) & (truth <= 1)).all():
            raise DataError("true Dice must lie within 0 … 1, without NaN.")
        if len(truth) < POINTS * len(columns):
            raise DataError(
                f"{len(truth)} cases are too few; a calibration needs {POINTS} for each of its "
                f"{len(columns)} signals."
            )
        for name, column in zip(signals, columns, strict=True):
            if not np.ptp(column):
                raise DataError(f"{name} is {column[0]:g} for all cases; it says nothing about Dice.")
        rows = _isotonic(columns[0], truth) if chosen == "isotonic" else [_linear(columns, truth)]
        return cls(chosen, tuple(signals), tuple(tuple(map(float, row)) for row in rows))

    def predict(self, signals: Values) -> Vector:
        """Expected Dice, (N,) within 0 … 1; an isotonic curve is constant beyond the signals of the fit.

        Args:
            signals: name -> (N,) values of the signals of the fit; others are ignored.

        Raises:
            DataError: a signal is missing or not finite, or lengths differ.
        """
        if missing := [name for name in self.signals if name not in signals]:
            raise DataError(f"{missing[0]} is missing; the calibration is of {', '.join(self.signals)}.")
        columns = _columns({name: signals[name] for name in self.signals})
        if self.kind == "isotonic":
            knots, dice = map(np.asarray, self.table)
            return np.interp(columns[0], knots, dice)
        constant, *factors = self.table[0]
        estimate: Vector = (constant + np.asarray(factors) @ columns).clip(0, 1)
        return estimate

    def to_dict(self) -> dict[str, Any]:
        """The calibration as JSON values."""
        return {"schema_version": 1} | asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The calibration from `to_dict`.

        Raises:
            DataError: the values are not a calibration.
        """
        try:
            kind, names = str(values["kind"]), tuple(map(str, values["signals"]))
            table = tuple(tuple(map(float, row)) for row in values["table"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DataError(f"this is not a calibration of anatozoo: {fault(error)}.") from error
        lengths = [len(row) for row in table]
        fits = {
            "isotonic": len(names) == 1 and len(lengths) == 2 and lengths[0] == lengths[1] > 0,
            "linear": lengths == [1 + len(names)],
        }
        finite = all(np.isfinite(row).all() for row in table)
        if values.get("schema_version") != 1 or not fits.get(kind, False) or not finite:
            raise DataError(f"this is not a calibration of this release: {kind} of {', '.join(names)}.")
        if kind == "isotonic":
            knots, dice = map(np.asarray, table)
            if (np.diff(knots) <= 0).any() or dice.min() < 0 or dice.max() > 1:
                raise DataError("this is not a calibration of anatozoo: its curve is not valid.")
        return cls(kind, names, table)


def _columns(signals: Values) -> Vector:
    """Signals as (S, N)."""
    arrays = {name: np.asarray(values, np.float64) for name, values in signals.items()}
    if not arrays:
        raise DataError("a calibration needs at least one signal.")
    if len({values.shape for values in arrays.values()}) > 1 or next(iter(arrays.values())).ndim != 1:
        raise DataError(
            "signals are one row of numbers each, all of one length, not "
            + ", ".join(f"{name} {values.shape}" for name, values in arrays.items())
            + "."
        )
    for name, values in arrays.items():
        if not np.isfinite(values).all():
            raise DataError(f"{name} is NaN or infinite in places; say first what is to become of those.")
    return np.stack(list(arrays.values()))


def _isotonic(signal: Vector, dice: Vector) -> list[Vector]:
    """Different values of the signal, rising, and the isotonic Dice at each."""
    from scipy.optimize import isotonic_regression

    knots, place, weights = np.unique(signal, return_inverse=True, return_counts=True)
    # Equal signals share one Dice, the mean.
    means = np.bincount(place, dice) / weights
    rising = np.cov(signal, dice)[0, 1] >= 0
    values = isotonic_regression(means, weights=weights, increasing=bool(rising)).x
    # Between the two ends of a level, the curve says the same without its points.
    inner = np.zeros(len(knots), bool)
    inner[1:-1] = (values[1:-1] == values[:-2]) & (values[1:-1] == values[2:])
    return [knots[~inner], values[~inner]]


def _linear(columns: Vector, dice: Vector) -> Vector:
    """Constant and factors of least squares."""
    # Standardised, so that the units of the signals do not matter.
    centre, scale = columns.mean(1), columns.std(1)
    design = np.vstack([np.ones(len(dice)), (columns - centre[:, None]) / scale[:, None]]).T
    constant, *factors = np.linalg.lstsq(design, dice)[0]
    slopes = np.asarray(factors) / scale
    return np.concatenate([[constant - slopes @ centre], slopes])

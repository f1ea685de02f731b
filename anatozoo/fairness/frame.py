"""Metrics by group of patients: the table behind every statement on fairness."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from anatozoo.errors import ConfigError, DataError
from anatozoo.fairness.columns import metric_values, number_patients
from anatozoo.fairness.directions import error_of, higher_is_better
from anatozoo.fairness.groups import Groups, LeftOut, combine, make_groups
from anatozoo.fairness.pairs import SMALL, Adjusted, Correction, GroupMean, Pair, corrected
from anatozoo.fairness.resampling import (
    PERMUTATIONS,
    RESAMPLES,
    SEED,
    Array,
    Cells,
    bootstrap_means,
    difference,
    interval,
    permutation_p,
)

if TYPE_CHECKING:
    import pandas as pd

Adjustment = Literal["standardise", "match"]


class GroupFrame:
    """Metrics of images, by group of patients; names as in fairlearn's ``MetricFrame``.

    The value of a group is the mean over its images. Intervals and tests draw patients, not images. A row
    without a group counts nowhere, one without a value does not count for that metric, and `left_out` says
    how many these are.

    Args:
        table: one row per image.
        metrics: columns with numbers; NaN is "not measured".
        groups: a column, or several, whose combinations are then the groups; see
            `make_groups` for what a column may be.
        controls: columns, of the same kinds, that groups may differ in and that explain a gap, such as
            ``"age_bin"``: `adjusted` compares within their combinations.
        bins: column -> where its bins begin, see `make_groups`.
        subject: column of the patient. None takes ``patient`` or the like, else every image is one patient.
        higher: metrics of which more is better, where their names do not say so.
        lower: metrics of which less is better.
        adjustment: weights of the strata: ``"standardise"`` takes the images of both groups together (direct
            standardisation), ``"match"`` the smaller of both numbers, which is what exact one-to-one matching
            within strata gives on average.
        correction: of p-values, ``"holm"``, ``"fdr"`` (Benjamini & Hochberg) or ``"none"``.
        level: of the intervals.
        resamples: bootstrap samples.
        permutations: of each test.
        seed: the same seed gives the same numbers.

    Raises:
        DataError: no such column, a metric that is no number, or no row with a group.
        ConfigError: the name of a metric does not say whether more is better; a setting is unknown.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        metrics: str | Sequence[str],
        groups: str | Sequence[str],
        controls: str | Sequence[str] | None = None,
        *,
        bins: Mapping[str, Sequence[float]] | None = None,
        subject: str | None = None,
        higher: Sequence[str] = (),
        lower: Sequence[str] = (),
        adjustment: Adjustment = "standardise",
        correction: Correction = "holm",
        level: float = 0.95,
        resamples: int = RESAMPLES,
        permutations: int = PERMUTATIONS,
        seed: int = SEED,
    ) -> None:
        if adjustment not in ("standardise", "match") or correction not in ("holm", "fdr", "none"):
            raise ConfigError(
                f"adjustment {adjustment!r} must be standardise or match, and correction {correction!r} "
                "holm, fdr or none."
            )
        if not 0 < level < 1 or resamples < 1 or permutations < 1:
            raise ConfigError("level must lie between 0 and 1; resamples and permutations are at least 1.")
        self.metrics = _listed(metrics)
        self.group_names = _listed(groups)
        self.control_names = _listed(controls or ())
        self.adjustment, self.correction, self.level = adjustment, correction, level
        self.resamples, self.permutations, self.seed = resamples, permutations, seed
        self.higher = {metric: higher_is_better(metric, higher, lower) for metric in self.metrics}
        self.values = {metric: metric_values(table, metric) for metric in self.metrics}
        self._grouping = combine([make_groups(table, name, bins) for name in self.group_names])
        self._strata = (
            combine([make_groups(table, name, bins) for name in self.control_names])
            if self.control_names
            else None
        )
        self.rows = len(table)
        self._patients, self.patients_from = number_patients(table, subject)
        self._codes = _codes(self._grouping)

    @property
    def name(self) -> str:
        """What the groups are made by: ``"sex"``, or ``"sex × age_bin"``."""
        return self._grouping.name

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups that have a row, in order."""
        return self._grouping.order

    @property
    def labels(self) -> pd.Series:
        """The group of each row of the table, None where it has none."""
        return self._grouping.labels

    @property
    def notes(self) -> tuple[str, ...]:
        """What was taken for granted in reading the columns."""
        return tuple(dict.fromkeys(self._grouping.notes + (self._strata.notes if self._strata else ())))

    @cached_property
    def left_out(self) -> tuple[LeftOut, ...]:
        """Rows that some number does not cover, and why; of missing metrics, in which groups."""
        found = list(self._grouping.left_out)
        grouped = self._codes >= 0
        for metric, values in self.values.items():
            missing = grouped & ~np.isfinite(values)
            if missing.any():
                counts = np.bincount(self._codes[missing], minlength=len(self.groups))
                where = ", ".join(f"{g} {n}" for g, n in zip(self.groups, counts, strict=True) if n)
                found.append(LeftOut(f"{metric} not measured ({where})", int(missing.sum())))
        if self._strata is not None:
            found += [LeftOut(f"{e.reason}, for adjusted gaps", e.rows) for e in self._strata.left_out]
        return tuple(found)

    @cached_property
    def n(self) -> pd.DataFrame:
        """Images with a value, group x metric."""
        return self._table({m: cells.sizes.sum((0, 2)) for m, cells in self._cells.items()}).astype(int)

    @cached_property
    def patients(self) -> pd.DataFrame:
        """Patients with a value, group x metric."""
        return self._table({m: cells.patients[:, 0] for m, cells in self._cells.items()}).astype(int)

    @cached_property
    def by_group(self) -> pd.DataFrame:
        """Mean of each group, group x metric; NaN where a group has no value."""
        return self._table({m: cells.means[:, 0] for m, cells in self._cells.items()})

    @cached_property
    def overall(self) -> pd.Series:
        """Mean over all images that have a group and a value, by metric."""
        import pandas as pd

        return pd.Series(
            {m: float(c.sums.sum() / c.sizes.sum()) for m, c in self._cells.items()}, dtype=np.float64
        )

    @property
    def small(self) -> tuple[str, ...]:
        """Groups in which fewer than ten patients have a value of some metric."""
        few = (self.patients < SMALL).any(axis=1)
        return tuple(few.index[few])

    @cached_property
    def means(self) -> tuple[GroupMean, ...]:
        """Every group by every metric, with its interval."""
        found = []
        for metric, cells in self._cells.items():
            patients, images = cells.patients[:, 0].tolist(), cells.sizes.sum((0, 2)).tolist()
            alone = np.array(patients) < 2
            low, high = interval(np.where(alone, np.nan, self._draws[metric]), self.level)
            for i, (group, mean) in enumerate(zip(self.groups, cells.means[:, 0].tolist(), strict=True)):
                ends = float(low[i]), float(high[i])
                found.append(
                    GroupMean(metric, group, patients[i], int(images[i]), mean, *ends, patients[i] < SMALL)
                )
        return tuple(found)

    def intervals(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Lower and upper ends of the bootstrap intervals of `by_group`; NaN for groups of one patient."""
        ends: list[dict[str, npt.NDArray[np.float64]]] = []
        for end in ("ci_low", "ci_high"):
            ends.append(
                {
                    metric: np.array([getattr(mean, end) for mean in self.means if mean.metric == metric])
                    for metric in self.metrics
                }
            )
        return self._table(ends[0]), self._table(ends[1])

    def group_min(self) -> pd.Series:
        """The smallest mean of a group, by metric."""
        return self.by_group.min()

    def group_max(self) -> pd.Series:
        """The largest mean of a group, by metric."""
        return self.by_group.max()

    def difference(self) -> pd.Series:
        """The gap: largest minus smallest mean, by metric. It is never negative, and grows with the number of
        groups by chance alone; `pairs` says what chance does.
        """  # noqa: D205
        return self.group_max() - self.group_min()

    def ratio(self) -> pd.Series:
        """Smallest over largest mean, by metric; 1 where all are 0."""
        low, high = self.group_min(), self.group_max()
        return (low / high.where(high != 0)).fillna((high == low).astype(float).where(high == 0))

    def sd_over_groups(self) -> pd.Series:
        """Standard deviation over the means of groups (ddof 0), by metric."""
        return self.by_group.std(ddof=0)

    def ser(self) -> pd.Series:
        """Skewed error rate: largest over smallest error of a group, by metric.

        The error is ``1 − Dice``, or the distance itself. Puyol-Antón et al., "Fairness in cardiac MR image
        analysis", MICCAI 2021.

        Returns:
            1 where all groups are equally good, infinity where only some are without error, NaN where the
            metric has no such error.
        """
        import pandas as pd

        return pd.Series({m: float(_ser(self.by_group[m].to_numpy(), self.higher[m])) for m in self.metrics})

    def worst(self) -> pd.Series:
        """The group that each metric serves worst, None where all are equal."""
        return self._extreme(worst=True)

    def best(self) -> pd.Series:
        """The group that each metric serves best, None where all are equal."""
        return self._extreme(worst=False)

    def summary(self) -> pd.DataFrame:
        """One row per metric: ``overall``, ``gap``, ``ratio``, ``sd``, ``ser`` and ``worst``, with intervals.

        ``gap_low``, ``gap_high``, ``ser_low`` and ``ser_high`` are percentile intervals over bootstrap
        samples; that of a gap among many groups lies above 0 even where they are alike. They are NaN where
        most samples lack a group, as happens to groups of one or two patients who are in others too.
        """
        import pandas as pd

        ends: dict[str, list[float]] = {}
        for metric, draws in self._draws.items():
            gaps = _spread(draws)
            ratios = np.array([_ser(row, self.higher[metric]) for row in draws])
            ratios = np.where(np.isfinite(ratios) & ~np.isnan(gaps), ratios, np.nan)
            pair = (interval(v[:, None], self.level) for v in (gaps, ratios))
            ends[metric] = [float(end[0]) for both in pair for end in both]
        columns = ["gap_low", "gap_high", "ser_low", "ser_high"]
        bounds = pd.DataFrame.from_dict(ends, orient="index", columns=columns)
        plain = {
            "overall": self.overall,
            "gap": self.difference(),
            "ratio": self.ratio(),
            "sd": self.sd_over_groups(),
            "ser": self.ser(),
            "worst": self.worst(),
        }
        return pd.DataFrame(plain).join(bounds)

    @cached_property
    def pairs(self) -> tuple[Pair, ...]:
        """Every two groups that have values, by every metric."""
        found: list[Pair] = []
        for metric, cells in self._cells.items():
            patients, means = cells.patients[:, 0], cells.means[:, 0]
            for a, b in itertools.combinations(np.flatnonzero(patients).tolist(), 2):
                gap = float(means[a] - means[b])
                low, high = interval(self._draws[metric][:, [a]] - self._draws[metric][:, [b]], self.level)
                alone = min(patients[a], patients[b]) < 2
                p = permutation_p(cells.pair(a, b), np.ones(1), self.permutations, self.seed)
                found.append(
                    Pair(
                        metric,
                        self.groups[a],
                        self.groups[b],
                        int(patients[a]),
                        int(patients[b]),
                        float(means[a]),
                        float(means[b]),
                        gap,
                        math.nan if alone else float(low[0]),
                        math.nan if alone else float(high[0]),
                        p,
                        p,
                        None if gap == 0 else self.groups[b if (gap > 0) == self.higher[metric] else a],
                        bool(min(patients[a], patients[b]) < SMALL),
                    )
                )
        return corrected(found, self.correction)

    @cached_property
    def adjusted(self) -> tuple[Adjusted, ...]:
        """The same pairs compared within the strata of the controls; empty without controls.

        A stratum counts where both groups have a patient in it, and weighs as `adjustment` says.
        """
        if self._strata is None:
            return ()
        found: list[Adjusted] = []
        strata = _codes(self._strata)
        for metric, values in self.values.items():
            rows = np.flatnonzero(np.isfinite(values) & (self._codes >= 0) & (strata >= 0))
            if not len(rows):
                continue
            cells = Cells.of(values[rows], self._patients[rows], self._codes[rows], strata[rows])
            present = np.flatnonzero(cells.patients.sum(1)).tolist()
            for a, b in itertools.combinations(present, 2):
                found.append(self._adjust(metric, a, b, cells.pair(a, b)))
        return corrected(found, self.correction)

    def _adjust(self, metric: str, a: int, b: int, cells: Cells) -> Adjusted:
        patients = cells.patients
        shared = (patients > 0).all(0)
        cells = Cells(cells.sums[..., shared], cells.sizes[..., shared])
        kept = cells.sizes.any(axis=(1, 2))
        cells = Cells(cells.sums[kept], cells.sizes[kept])
        names = (metric, self.groups[a], self.groups[b])
        if not shared.any():
            return Adjusted(*names, math.nan, math.nan, math.nan, math.nan, math.nan, 0, 0, 0)
        images = cells.sizes.sum(0)
        weights = images.sum(0) if self.adjustment == "standardise" else images.min(0)
        draws = difference(bootstrap_means(cells, self.resamples, self.seed), weights)
        low, high = interval(draws[:, None], self.level)
        n_a, n_b = (int(cells.sizes[:, side].any(axis=1).sum()) for side in (0, 1))
        alone = min(n_a, n_b) < 2
        p = permutation_p(cells, weights, self.permutations, self.seed)
        ends = (math.nan, math.nan) if alone else (float(low[0]), float(high[0]))
        gap = float(difference(cells.means, weights))
        return Adjusted(*names, gap, *ends, p, p, int(shared.sum()), n_a, n_b)

    @cached_property
    def _cells(self) -> dict[str, Cells]:
        cells = {}
        for metric, values in self.values.items():
            rows = np.flatnonzero(np.isfinite(values) & (self._codes >= 0))
            if not len(rows):
                raise DataError(f"no row has both a value of {metric} and a group by {self.name}.")
            made = Cells.of(values[rows], self._patients[rows], self._codes[rows])
            # Groups at the end of the order may have no value of this metric.
            short = ((0, 0), (0, len(self.groups) - made.sums.shape[1]), (0, 0))
            cells[metric] = Cells(np.pad(made.sums, short), np.pad(made.sizes, short))
        return cells

    @cached_property
    def _draws(self) -> dict[str, Array]:
        """Bootstrap means of each metric, (resamples, groups)."""
        return {m: bootstrap_means(c, self.resamples, self.seed)[..., 0] for m, c in self._cells.items()}

    def _table(self, columns: Mapping[str, npt.NDArray[np.generic]]) -> pd.DataFrame:
        import pandas as pd

        return pd.DataFrame(dict(columns), index=pd.Index(self.groups, name=self.name))

    def _extreme(self, *, worst: bool) -> pd.Series:
        import pandas as pd

        found: dict[str, str | None] = {}
        for metric in self.metrics:
            means = self.by_group[metric].dropna()
            lowest = self.higher[metric] == worst
            equal = means.min() == means.max()
            found[metric] = None if equal else str(means.idxmin() if lowest else means.idxmax())
        return pd.Series(found, dtype=object)


def _codes(groups: Groups) -> npt.NDArray[np.int64]:
    """Number of each row's group, −1 where it has none."""
    import pandas as pd

    return np.asarray(pd.Categorical(groups.labels, categories=list(groups.order)).codes, np.int64)


def _listed(names: str | Sequence[str]) -> tuple[str, ...]:
    listed = (names,) if isinstance(names, str) else tuple(names)
    if len(set(listed)) < len(listed):
        raise ConfigError(f"{', '.join(listed)}: each name once.")
    return listed


def _spread(draws: Array) -> Array:
    """Largest minus smallest mean in each draw (resamples, groups), groups without value left out.

    NaN where a group that has values was not drawn: the gap would be one of fewer groups.
    """
    known = draws[:, ~np.isnan(draws).all(0)]
    return np.asarray(known.max(1) - known.min(1))


def _ser(means: Array, higher: bool) -> float:
    errors = error_of(means[~np.isnan(means)], higher)
    if errors is None or not errors.size:
        return math.nan
    low, high = float(errors.min()), float(errors.max())
    if low == 0:
        return 1.0 if high == 0 else math.inf
    return high / low

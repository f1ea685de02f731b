"""Metrics by group of patients: the table behind every statement on fairness."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from anatozoo.errors import ConfigError
from anatozoo.fairness.cells import Array
from anatozoo.fairness.comparisons import Adjustment, Chance, compared, compared_within
from anatozoo.fairness.directions import error_of
from anatozoo.fairness.grouped import Grouped
from anatozoo.fairness.pairs import Adjusted, Correction, GroupMean, Pair, corrected
from anatozoo.fairness.resampling import PERMUTATIONS, RESAMPLES, SEED, bootstrap_means, interval
from anatozoo.fairness.rows import OverRows

if TYPE_CHECKING:
    import pandas as pd


class GroupFrame(Grouped):
    """Metrics of images, by group of patients; names as in fairlearn's ``MetricFrame``.

    The value of a group is the mean over its images, or any function of its rows, such as the AUC of a
    classifier (`anatozoo.fairness.rows`). Intervals and tests draw patients, not images. A row without a
    group counts nowhere, one without a value does not count for that metric, and `left_out` says how many
    these are.

    Args:
        table: one row per image.
        metrics: columns with numbers, of which a group has the mean, or `OverRows`; NaN is "not measured".
        groups: a column, or several, whose combinations are then the groups; see `make_groups`.
        controls: columns with possible confounders, such as ``"age_bin"``; `adjusted` compares within their
            combinations.
        bins: column -> lower limits of its bins, see `make_groups`.
        subject: column of the patient. None takes ``patient`` or similar, else every image is one patient.
        higher: columns of which more is better, if their names do not tell.
        lower: columns of which less is better.
        smallest: number of patients below which a group is flagged; None takes 10 for metrics of single
            images and 30 for `OverRows`.
        adjustment: weights of the strata: ``"standardise"`` takes the images of both groups together (direct
            standardisation), ``"match"`` the smaller of both numbers, which is what exact one-to-one matching
            within strata gives on average.
        correction: of p-values, ``"holm"``, ``"fdr"`` (Benjamini & Hochberg) or ``"none"``.
        level: confidence level of the intervals.
        resamples: number of bootstrap samples.
        permutations: number of permutations of each test.
        seed: the same seed gives the same numbers.

    Raises:
        DataError: no such column, a metric that is not a number, or no row with a group.
        ConfigError: the name of a metric does not say whether more is better; a setting is unknown.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        metrics: str | OverRows | Sequence[str | OverRows],
        groups: str | Sequence[str],
        controls: str | Sequence[str] | None = None,
        *,
        bins: Mapping[str, Sequence[float]] | None = None,
        subject: str | None = None,
        higher: Sequence[str] = (),
        lower: Sequence[str] = (),
        smallest: int | None = None,
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
        super().__init__(
            table,
            metrics,
            groups,
            controls,
            bins=bins,
            subject=subject,
            higher=higher,
            lower=lower,
            smallest=smallest,
        )
        self.adjustment, self.correction, self.level = adjustment, correction, level
        self.resamples, self.permutations, self.seed = resamples, permutations, seed

    @cached_property
    def means(self) -> tuple[GroupMean, ...]:
        """Every group by every metric, with its interval."""
        found = []
        for metric, cells in self.cells.items():
            patients, images = cells.patients[:, 0].tolist(), cells.sizes.sum((0, 2)).tolist()
            alone = np.array(patients) < 2
            low, high = interval(np.where(alone, np.nan, self._draws[metric]), self.level)
            for i, (group, mean) in enumerate(zip(self.groups, cells.means[:, 0].tolist(), strict=True)):
                ends, few = (float(low[i]), float(high[i])), patients[i] < self.least[metric]
                found.append(GroupMean(metric, group, patients[i], int(images[i]), mean, *ends, few))
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
        return self.table_of(ends[0]), self.table_of(ends[1])

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

    def equity_scaled(self) -> pd.Series:
        """Equity-scaled performance: overall value over 1 + the sum of its distances to those of the groups.

        Tian et al., "FairSeg", ICLR 2024, for Dice; Luo et al., "Harvard glaucoma fairness", TMI 2024, for
        the AUC. It is the overall value where all groups are alike, and falls with the number of groups.

        Returns:
            By metric; NaN where more is not better, or a value is above 1.
        """
        import pandas as pd

        found = {}
        for metric in self.metrics:
            whole, each = float(self.overall[metric]), self.by_group[metric].dropna().to_numpy()
            share = self.higher[metric] and error_of(np.append(each, whole), True) is not None
            found[metric] = whole / (1 + float(np.abs(each - whole).sum())) if share else math.nan
        return pd.Series(found)

    def worst(self) -> pd.Series:
        """The group that each metric serves worst, None where all are equal."""
        return self._extreme(worst=True)

    def best(self) -> pd.Series:
        """The group that each metric serves best, None where all are equal."""
        return self._extreme(worst=False)

    def summary(self) -> pd.DataFrame:
        """One row per metric, with intervals of gap and SER.

        Columns ``overall``, ``gap``, ``ratio``, ``sd``, ``ser``, ``equity_scaled`` and ``worst``;
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
            "equity_scaled": self.equity_scaled(),
            "worst": self.worst(),
        }
        return pd.DataFrame(plain).join(bounds)

    @cached_property
    def pairs(self) -> tuple[Pair, ...]:
        """Every two groups that have values, by every metric."""
        found = [
            pair
            for metric, cells in self.cells.items()
            for pair in compared(
                metric,
                self.groups,
                cells,
                self._draws[metric],
                self.higher[metric],
                self.least[metric],
                self._chance,
            )
        ]
        return corrected(found, self.correction)

    @cached_property
    def adjusted(self) -> tuple[Adjusted, ...]:
        """The same pairs compared within the strata of the controls; empty without controls.

        A stratum counts where both groups have a patient in it, and weighs as `adjustment` says.
        """
        if not self.control_names:
            return ()
        found: list[Adjusted] = []
        for metric in self.metrics:
            cells = self.cells_of(metric, within=True)
            if cells is not None:
                found += compared_within(metric, self.groups, cells, self.adjustment, self._chance)
        return corrected(found, self.correction)

    @property
    def _chance(self) -> Chance:
        return Chance(self.level, self.resamples, self.permutations, self.seed)

    @cached_property
    def _draws(self) -> dict[str, Array]:
        """Bootstrap means of each metric, (resamples, groups)."""
        return {m: bootstrap_means(c, self.resamples, self.seed)[..., 0] for m, c in self.cells.items()}

    def _extreme(self, *, worst: bool) -> pd.Series:
        import pandas as pd

        found: dict[str, str | None] = {}
        for metric in self.metrics:
            means = self.by_group[metric].dropna()
            lowest = self.higher[metric] == worst
            equal = means.empty or means.min() == means.max()
            found[metric] = None if equal else str(means.idxmin() if lowest else means.idxmax())
        return pd.Series(found, dtype=object)


def _spread(draws: Array) -> Array:
    """Largest minus smallest mean in each draw (resamples, groups), groups without value left out.

    NaN where a group that has values was not drawn: the gap would be one of fewer groups.
    """
    known = draws[:, ~np.isnan(draws).all(0)]
    return np.asarray(known.max(1) - known.min(1)) if known.size else np.full(len(draws), math.nan)


def _ser(means: Array, higher: bool) -> float:
    errors = error_of(means[~np.isnan(means)], higher)
    if errors is None or not errors.size:
        return math.nan
    low, high = float(errors.min()), float(errors.max())
    if low == 0:
        return 1.0 if high == 0 else math.inf
    return high / low

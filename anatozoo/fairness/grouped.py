"""A table of images by group of patients: who is in which group, and what is measured of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from anatozoo.errors import ConfigError, DataError
from anatozoo.fairness.cells import Cells, MeanCells, RowCells
from anatozoo.fairness.columns import number_patients
from anatozoo.fairness.directions import higher_is_better
from anatozoo.fairness.groups import Groups, LeftOut, combine, make_groups
from anatozoo.fairness.pairs import SMALL, SMALL_OVER_ROWS
from anatozoo.fairness.rows import OverRows
from anatozoo.metrics.columns import metric_values

if TYPE_CHECKING:
    import pandas as pd


class Grouped:
    """Metrics of images by group; arguments as of `GroupFrame`, which adds intervals and tests.

    Attributes:
        metrics: their names.
        higher: whether more is better, by metric.
        least: number of patients below which a group is flagged, by metric.
        over: the metrics that are functions of the rows of a group, by name.
        values: (rows,) of each metric that single images have, NaN where it is not measured.
        rows: of the table.
        patients_from: column that names the patient; None where each row is one.
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
    ) -> None:
        if smallest is not None and smallest < 1:
            raise ConfigError(f"smallest={smallest} must be at least 1 patient.")
        chosen = [metrics] if isinstance(metrics, str | OverRows) else list(metrics)
        over = {metric.name: metric for metric in chosen if isinstance(metric, OverRows)}
        self.metrics = _listed([metric.name if isinstance(metric, OverRows) else metric for metric in chosen])
        self.group_names = _listed(groups)
        self.control_names = _listed(controls or ())
        self.higher = {
            name: over[name].higher if name in over else higher_is_better(name, higher, lower)
            for name in self.metrics
        }
        self.over = over
        usual = {name: SMALL_OVER_ROWS if name in over else SMALL for name in self.metrics}
        self.least = usual if smallest is None else dict.fromkeys(self.metrics, smallest)
        self._functions = {name: metric.function for name, metric in over.items()}
        needed = {name: over[name].columns if name in over else (name,) for name in self.metrics}
        self._columns = {
            name: np.stack([metric_values(table, column) for column in columns])
            for name, columns in needed.items()
        }
        self.values = {name: columns[0] for name, columns in self._columns.items() if name not in over}
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
        for metric, columns in self._columns.items():
            missing = grouped & ~np.isfinite(columns).all(0)
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
        return self.table_of({m: cells.sizes.sum((0, 2)) for m, cells in self.cells.items()}).astype(int)

    @cached_property
    def patients(self) -> pd.DataFrame:
        """Patients with a value, group x metric."""
        return self.table_of({m: cells.patients[:, 0] for m, cells in self.cells.items()}).astype(int)

    @cached_property
    def by_group(self) -> pd.DataFrame:
        """Value of each group, group x metric; NaN where it has none."""
        return self.table_of({m: cells.means[:, 0] for m, cells in self.cells.items()})

    @cached_property
    def overall(self) -> pd.Series:
        """Value over all images that have a group and one, by metric."""
        import pandas as pd

        return pd.Series({m: cells.overall for m, cells in self.cells.items()}, dtype=np.float64)

    @property
    def least_words(self) -> str:
        """`least` in words, with the metrics where these differ."""
        found = sorted(set(self.least.values()))
        if len(found) == 1:
            return str(found[0])
        over = self.least[next(iter(self.over))]
        rest = next(number for number in found if number != over)
        return f"{rest} ({over} for {', '.join(self.over)})"

    @property
    def small(self) -> tuple[str, ...]:
        """Groups in which too few patients have a value of some metric, see `least`."""
        few = self.patients.lt(list(self.least.values())).any(axis=1)
        return tuple(few.index[few])

    @cached_property
    def cells(self) -> dict[str, Cells]:
        """What each metric is of each patient in each group, in one stratum."""
        cells = {}
        for metric in self.metrics:
            made = self.cells_of(metric)
            if made is None:
                raise DataError(f"no row has both a value of {metric} and a group by {self.name}.")
            cells[metric] = made
        return cells

    def cells_of(self, metric: str, *, within: bool = False) -> Cells | None:
        """A metric of the patients of each group.

        Args:
            metric: its name.
            within: tell the strata of the controls apart.

        Returns:
            None where no row has a value, a group and, where asked for, a stratum.
        """
        columns = self._columns[metric]
        strata = _codes(self._strata) if within and self._strata is not None else None
        known = np.isfinite(columns).all(0) & (self._codes >= 0)
        rows = np.flatnonzero(known if strata is None else known & (strata >= 0))
        if not len(rows):
            return None
        place = (self._patients[rows], self._codes[rows], None if strata is None else strata[rows])
        count = len(self.groups)
        if metric in self.values:
            return MeanCells.of(columns[0, rows], *place, count)
        return RowCells.of(self._functions[metric], columns[:, rows], *place, count)

    def table_of(self, columns: Mapping[str, npt.NDArray[np.generic]]) -> pd.DataFrame:
        """A table of one row per group."""
        import pandas as pd

        return pd.DataFrame(dict(columns), index=pd.Index(self.groups, name=self.name))


def _codes(groups: Groups) -> npt.NDArray[np.int64]:
    """Number of each row's group, −1 where it has none."""
    import pandas as pd

    return np.asarray(pd.Categorical(groups.labels, categories=list(groups.order)).codes, np.int64)


def _listed(names: str | Sequence[str]) -> tuple[str, ...]:
    listed = (names,) if isinstance(names, str) else tuple(names)
    if len(set(listed)) < len(listed):
        raise ConfigError(f"{', '.join(listed)}: each name once.")
    return listed

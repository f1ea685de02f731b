"""A metric of patients by group and stratum, for bootstrap samples and permutations of patients.

`MeanCells` holds sums per patient, so that a sample of patients is one matrix product. `RowCells` holds the
rows themselves, for metrics that are not means. In both, images of one patient stay together.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


class Cells(ABC):
    """One metric of n patients in G groups and K strata (1 where nothing is controlled for).

    Attributes:
        sizes: (n, G, K), the numbers of rows.
    """

    sizes: Array

    @property
    def patients(self) -> Whole:
        """Number of patients of each group in each stratum, (G, K)."""
        return np.asarray((self.sizes > 0).sum(0), np.int64)

    @property
    def means(self) -> Array:
        """Value of each group in each stratum, (G, K); NaN where there is no row, or none is defined."""
        return self.drawn(np.ones((1, len(self.sizes))))[0]

    @property
    @abstractmethod
    def overall(self) -> float:
        """Value over all rows."""

    @abstractmethod
    def drawn(self, counts: Array) -> Array:
        """Values in R samples with patient i ``counts[r, i]`` times: (R, n) to (R, G, K)."""

    @abstractmethod
    def dealt(self, dealt: Sequence[tuple[Whole, Bools]], both: Whole, swapped: Bools) -> Array:
        """Values of two groups in R permutations of patients, (R, 2, K).

        Args:
            dealt: for each set of patients, their numbers and (R, patients), who is now in the first group.
            both: numbers of the patients who are in both groups.
            swapped: (R, patients), whose images change groups among these.
        """

    @abstractmethod
    def taken(self, patients: Whole, groups: Whole, strata: Whole) -> Cells:
        """The cells of some patients, groups and strata, by number."""

    @abstractmethod
    def merged(self, number: Whole) -> Cells:
        """The cells with patients of one number, (n,) from 0 without gaps, taken for one."""

    def pair(self, a: int, b: int) -> Cells:
        """The cells of two groups, without other patients."""
        here = self.sizes[:, [a, b]].any(axis=(1, 2))
        return self.taken(np.flatnonzero(here), np.array([a, b]), np.arange(self.sizes.shape[2]))

    def shared(self) -> Cells:
        """The cells of the strata in which every group has a patient, without patients who are in none."""
        strata = np.flatnonzero((self.patients > 0).all(0))
        here = self.sizes[..., strata].any(axis=(1, 2))
        return self.taken(np.flatnonzero(here), np.arange(self.sizes.shape[1]), strata)


@dataclass(frozen=True, eq=False)
class MeanCells(Cells):
    """A metric whose value is the mean over rows, summed over the rows of each patient.

    Attributes:
        sums: (n, G, K).
        sizes: (n, G, K), the numbers of rows.
    """

    sums: Array
    sizes: Array

    @classmethod
    def of(
        cls,
        values: Array,
        subject: Whole,
        group: Whole,
        stratum: Whole | None = None,
        groups: int = 0,
    ) -> MeanCells:
        """Sum rows.

        Args:
            values: (rows,) finite.
            subject: (rows,) numbers from 0.
            group: (rows,) numbers from 0.
            stratum: (rows,) numbers from 0; None is one stratum.
            groups: G, where the last groups may have no row.
        """
        place, shape = _places(subject, group, stratum, groups)
        sums, sizes = np.zeros(shape), np.zeros(shape)
        np.add.at(sums, place, values)
        np.add.at(sizes, place, 1.0)
        return cls(sums, sizes)

    @property
    def means(self) -> Array:
        """Mean of each group in each stratum, (G, K); NaN where there is no row."""
        return divided(self.sums.sum(0), self.sizes.sum(0))

    @property
    def overall(self) -> float:
        """Mean over all rows."""
        return float(self.sums.sum() / self.sizes.sum())

    def drawn(self, counts: Array) -> Array:
        """Means of groups and strata in draws of patients."""
        n, groups, strata = self.sums.shape
        flat = np.concatenate([self.sums.reshape(n, -1), self.sizes.reshape(n, -1)], axis=1)
        sums, sizes = np.split(counts @ flat, 2, axis=1)
        return divided(sums, sizes).reshape(len(counts), groups, strata)

    def dealt(self, dealt: Sequence[tuple[Whole, Bools]], both: Whole, swapped: Bools) -> Array:
        """Means of two groups in permutations of patients."""
        strata = self.sums.shape[2]
        first, second = (np.concatenate([self.sums[:, g], self.sizes[:, g]], axis=1) for g in (0, 1))
        side = np.zeros((len(swapped), 2 * strata))
        for block, in_first in dealt:
            side += in_first.astype(np.float64) @ (first + second)[block]
        turned = swapped.astype(np.float64)
        side += turned @ second[both] + (1 - turned) @ first[both]
        sides = np.stack([side, (first + second).sum(0) - side], axis=1)
        return divided(sides[..., :strata], sides[..., strata:])

    def taken(self, patients: Whole, groups: Whole, strata: Whole) -> MeanCells:
        """The cells of some patients, groups and strata."""
        place = np.ix_(patients, groups, strata)
        return MeanCells(self.sums[place], self.sizes[place])

    def merged(self, number: Whole) -> MeanCells:
        """The cells with patients of one number taken for one."""
        return MeanCells(_added(self.sums, number), _added(self.sizes, number))


@dataclass(frozen=True, eq=False)
class RowCells(Cells):
    """A metric that is any function of rows.

    Attributes:
        function: of one array per column, (rows,) each; NaN where these rows do not define it.
        columns: (columns, rows) finite.
        place: patient, group and stratum of each row, (rows,) numbers from 0 each.
        sizes: (n, G, K), the numbers of rows.
    """

    function: Callable[..., float]
    columns: Array
    place: tuple[Whole, Whole, Whole]
    sizes: Array

    @classmethod
    def of(
        cls,
        function: Callable[..., float],
        columns: Array,
        subject: Whole,
        group: Whole,
        stratum: Whole | None = None,
        groups: int = 0,
    ) -> RowCells:
        """Sort rows into cells; arguments as of `MeanCells.of`."""
        place, shape = _places(subject, group, stratum, groups)
        sizes = np.zeros(shape)
        np.add.at(sizes, place, 1.0)
        return cls(function, columns, place, sizes)

    @property
    def overall(self) -> float:
        """Value over all rows."""
        return float(self.function(*self.columns))

    def drawn(self, counts: Array) -> Array:
        """Values of groups and strata in draws of patients, the rows of a patient together."""
        whole = counts.astype(np.int64)
        return np.stack([self._values(self.place[1], count[self.place[0]]) for count in whole])

    def dealt(self, dealt: Sequence[tuple[Whole, Bools]], both: Whole, swapped: Bools) -> Array:
        """Values of two groups in permutations of patients."""
        patient, group, _ = self.place
        once = np.ones(len(patient), np.int64)
        alone = np.ones(len(self.sizes), bool)
        alone[both] = False
        found = []
        for r in range(len(swapped)):
            # Patients of one group are dealt to one; of those in both, the groups are exchanged or not.
            state = np.zeros(len(self.sizes), np.int64)
            for block, in_first in dealt:
                state[block] = ~in_first[r]
            state[both] = swapped[r]
            found.append(self._values(np.where(alone[patient], state[patient], group ^ state[patient]), once))
        return np.stack(found)

    def taken(self, patients: Whole, groups: Whole, strata: Whole) -> RowCells:
        """The cells of some patients, groups and strata."""
        place = []
        for kept, numbers, count in zip(
            (patients, groups, strata), self.place, self.sizes.shape, strict=True
        ):
            new = np.full(count, -1)
            new[np.asarray(kept, np.int64)] = np.arange(len(kept))
            place.append(new[numbers])
        rows = np.flatnonzero(np.min(place, axis=0) >= 0)
        patient, group, stratum = (numbers[rows] for numbers in place)
        sizes = self.sizes[np.ix_(patients, groups, strata)]
        return RowCells(self.function, self.columns[:, rows], (patient, group, stratum), sizes)

    def merged(self, number: Whole) -> RowCells:
        """The cells with patients of one number taken for one."""
        patient, group, stratum = self.place
        place = (number[patient], group, stratum)
        return RowCells(self.function, self.columns, place, _added(self.sizes, number))

    def _values(self, group: Whole, count: Whole) -> Array:
        """Values (G, K) where each row is in this group, this many times."""
        values = np.full(self.sizes.shape[1:], np.nan)
        for g, k in np.ndindex(*values.shape):
            rows = np.flatnonzero((group == g) & (self.place[2] == k))
            rows = np.repeat(rows, count[rows])
            if len(rows):
                values[g, k] = self.function(*self.columns[:, rows])
        return values


def divided(sums: Array, sizes: Array) -> Array:
    """Means; NaN for cells without rows."""
    return np.divide(sums, sizes, out=np.full(sums.shape, np.nan), where=sizes > 0)


def _added(values: Array, number: Whole) -> Array:
    """Sums of the rows of each number."""
    order = np.argsort(number, kind="stable")
    starts = np.flatnonzero(np.diff(number[order], prepend=-1))
    return np.asarray(np.add.reduceat(values[order], starts, axis=0))


def _places(
    subject: Whole, group: Whole, stratum: Whole | None, groups: int
) -> tuple[tuple[Whole, Whole, Whole], tuple[int, int, int]]:
    """Patient, group and stratum of each row, and the numbers of patients, groups and strata."""
    strata = np.zeros(len(subject), np.int64) if stratum is None else stratum
    _, member = np.unique(subject, return_inverse=True)
    shape = (int(member.max()) + 1, max(int(group.max()) + 1, groups), int(strata.max()) + 1)
    return (member, group, strata), shape

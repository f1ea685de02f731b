"""What codes of several runs of an autoencoder have in common.

Bonazzola et al., "Unsupervised ensemble-based phenotyping enhances discoverability of genes related to
left-ventricular morphology", Nature Machine Intelligence 6, 2024: no two trainings find the same latents, so
many are run, and what is found again and again counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from anatozoo.errors import DataError

USED = 0.1
"""A latent whose mean varies less (standard deviation; of the prior 1) is not in use; Burda et al., 2016."""
FEWEST_SHAPES = 20
"""With fewer, latents of different runs correlate by chance."""
ALIKE = 0.8
"""Latents of two runs are one phenotype from this absolute correlation on."""
Floats = npt.NDArray[np.floating]


class Latent(NamedTuple):
    """One latent of a run, both counted from 0; `sign` turns it the way of the first of its phenotype."""

    run: int
    number: int
    sign: int


@dataclass(frozen=True, eq=False)
class Phenotype:
    """Latents of different runs that say the same.

    Attributes:
        latents: at most one of a run, the one first that correlates best with the others.
        values: (n,) mean of their standardised values, each turned the way of the first.
        agreement: smallest absolute correlation of two of them; 1 of one alone.
    """

    latents: tuple[Latent, ...]
    values: npt.NDArray[np.float64]
    agreement: float


def match_latents(codes: Sequence[Floats], alike: float = ALIKE) -> list[Phenotype]:
    """Latents of several runs, matched greedily by their absolute correlation.

    The best pair of two runs is joined first. Two groups are joined if they have no run in common and all
    their latents correlate by at least `alike`. Latents that are not in use (`USED`) belong to none.

    Args:
        codes: of each run (n, k) the codes of the same n shapes; k may differ.
        alike: absolute correlation, above 0 and at most 1.

    Returns:
        The phenotypes, those of most runs first, then those that agree best.

    Raises:
        DataError: runs of different shapes, fewer than `FEWEST_SHAPES`, a value that is not finite, or
            `alike` is out of its range.
    """
    tables = [np.asarray(code, float) for code in codes]
    counts = {len(table) for table in tables}
    if len(counts) != 1 or any(table.ndim != 2 for table in tables):
        raise DataError("codes to be matched must be (n, latents) arrays of the same n shapes.")
    if counts.pop() < FEWEST_SHAPES:
        raise DataError(
            f"{len(tables[0])} shapes are too few to match latents: of fewer than {FEWEST_SHAPES}, some "
            "correlate by chance."
        )
    if not 0 < alike <= 1:
        raise DataError(f"alike={alike} must be above 0 and at most 1.")
    if not all(np.isfinite(table).all() for table in tables):
        raise DataError("codes to be matched must be finite.")
    names = [
        (run, number)
        for run, table in enumerate(tables)
        for number in np.flatnonzero(table.std(0) >= USED).tolist()
    ]
    if not names:
        return []
    every = np.stack([tables[run][:, number] for run, number in names], 1)
    every = (every - every.mean(0)) / every.std(0)
    r = every.T @ every / len(every)
    np.fill_diagonal(r, 1.0)
    return sorted(
        (_phenotype(group, names, every, r) for group in _groups(names, np.abs(r), alike)),
        key=lambda found: (-len(found.latents), -found.agreement, found.latents[0]),
    )


def _groups(names: list[tuple[int, int]], r: Floats, alike: float) -> list[list[int]]:
    """Places of latents that belong together."""
    groups: list[list[int]] = [[place] for place in range(len(names))]
    own = list(range(len(names)))
    for flat in np.argsort(-r, axis=None, kind="stable").tolist():
        one, two = divmod(flat, len(names))
        if r[one, two] < alike:
            break
        a, b = own[one], own[two]
        runs = [names[place][0] for place in groups[a] + groups[b]]
        if a == b or len(set(runs)) < len(runs) or r[np.ix_(groups[a], groups[b])].min() < alike:
            continue
        groups[a] += groups[b]
        for place in groups[b]:
            own[place] = a
        groups[b] = []
    return [group for group in groups if group]


def _phenotype(group: list[int], names: list[tuple[int, int]], every: Floats, r: Floats) -> Phenotype:
    own = r[np.ix_(group, group)]
    order = np.argsort(-np.abs(own).sum(1), kind="stable")
    places = [group[place] for place in order.tolist()]
    signs = np.where(r[places[0], places] < 0, -1, 1)
    latents = tuple(
        Latent(run, number, int(sign))
        for (run, number), sign in zip((names[place] for place in places), signs, strict=True)
    )
    return Phenotype(latents, (every[:, places] * signs).mean(1), float(np.abs(own).min()))

"""Two evaluations of the same images, as they are compared: what tables and pictures show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from anatozoo.metrics.statistics import PairedTest

COLUMNS = (
    "metric", "n", "without_pair", "mean_a", "mean_b", "difference", "ci_low", "ci_high", "zeros", "p",
    "p_holm", "effect",
)  # fmt: skip
Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Paired:
    """One metric of both evaluations.

    Attributes:
        a: (n,) values of the images that have one in both, in the order of `ids`.
        b: the same of the other evaluation.
        ids: names of these images.
        without_pair: images that have a value in one of the two only.
        test: what the differences b − a say.
        p_holm: the test's p-value, corrected for the number of metrics tested.
    """

    a: Array
    b: Array
    ids: tuple[str, ...]
    without_pair: int
    test: PairedTest
    p_holm: float

    def numbers(self) -> dict[str, float | int]:
        """Statistics as JSON values, named as in ``COLUMNS``."""
        t = self.test
        return {
            "n": t.n,
            "without_pair": self.without_pair,
            "mean_a": float(self.a.mean()),
            "mean_b": float(self.b.mean()),
            "difference": t.difference,
            "ci_low": t.ci_low,
            "ci_high": t.ci_high,
            "zeros": t.zeros,
            "p": t.p,
            "p_holm": self.p_holm,
            "effect": t.effect,
        }


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two evaluations of the same images.

    Attributes:
        names: of the evaluations, A and B.
        images: number of images in both.
        only: images that one of the two lacks or could not read, for A and B.
        metrics: what was compared, in order.
        rows_only: rows of images in both that one of the two lacks, as ``ID at POSITION``, of A and B.
        metrics_only: metrics that have values in one of the two only, of A and B.
    """

    names: tuple[str, str]
    images: int
    only: tuple[tuple[str, ...], tuple[str, ...]]
    metrics: Mapping[str, Paired]
    rows_only: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    metrics_only: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())

    def to_dict(self) -> dict[str, Any]:
        """All of it but the single values, as JSON."""
        return {
            "a": self.names[0],
            "b": self.names[1],
            "images": self.images,
            "only_a": list(self.only[0]),
            "only_b": list(self.only[1]),
            "rows_only_a": list(self.rows_only[0]),
            "rows_only_b": list(self.rows_only[1]),
            "metrics_only_a": list(self.metrics_only[0]),
            "metrics_only_b": list(self.metrics_only[1]),
            "metrics": {name: pairs.numbers() for name, pairs in self.metrics.items()},
        }


def p_words(p: float) -> str:
    """A p-value with the digits that it deserves."""
    return f"{p:.3f}" if p >= 0.001 else f"{p:.1e}"

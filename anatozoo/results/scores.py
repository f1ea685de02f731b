"""The result of a classifier: how probable each finding is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from anatozoo.errors import DataError
from anatozoo.results.base import Formats, Names, Result, read_only, write_json, write_picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CSV_HEADER = ("image", "finding", "score")
DIGITS = 6
"""Decimals of probabilities in files."""


def _write_table(result: ScoreResult, path: Path) -> Path:
    from anatozoo.io.writers import write_csv

    name = Path(result.image).name
    rows = [[name, finding, round(score, DIGITS)] for finding, score in result.scores.items()]
    return write_csv(path, CSV_HEADER, rows)


@dataclass(frozen=True, eq=False, repr=False)
class ScoreResult(Result):
    """One probability for each finding, of one image.

    `save` knows ``"json"``, ``"csv"`` (``_scores.csv``, a line for each finding) and ``"png"``
    (``_scores.png``, the image beside the probabilities).

    Attributes:
        checkpoint: name of the checkpoint.
        version: its version.
        image: path or name of the source, or ``"array"``.
        size: ``(width, height)`` of the source in pixels.
        spacing_mm: ``(x, y)`` millimetres per pixel, None where unknown.
        scores: finding -> probability in 0..1, in the order of the model.
        pixels: ``(H, W)`` float32 of the source for plotting, read-only; or None.

    Raises:
        DataError: there is no finding, or a score is not a number from 0 to 1.
    """

    formats: ClassVar[Formats] = Formats(
        "scores",
        {
            "json": {".json": write_json},
            "csv": {"_scores.csv": _write_table},
            "png": {"_scores.png": write_picture},
        },
        default=("json",),
    )
    head: ClassVar[Names] = ("checkpoint", "version", "image", "size", "spacing_mm", "flags")

    checkpoint: str
    version: str
    image: str
    size: tuple[int, int]
    spacing_mm: tuple[float, float] | None
    scores: Mapping[str, float]
    pixels: npt.NDArray[np.float32] | None = field(default=None, repr=False, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        scores = {str(finding): float(score) for finding, score in self.scores.items()}
        wrong = [f"{name} {score:g}" for name, score in scores.items() if not 0 <= score <= 1]
        if wrong or not scores:
            raise DataError(f"scores must be probabilities from 0 to 1, not {', '.join(wrong) or 'none'}.")
        self._put(scores=scores)
        if self.pixels is not None:
            self._put(pixels=read_only(np.asarray(self.pixels).view()))

    @property
    def about(self) -> str:
        """Size, and the most probable findings."""
        ranked = sorted(self.scores.items(), key=lambda each: -each[1])
        words = [f"{finding} {score:.3f}" for finding, score in ranked[:5]]
        more = f" and {len(ranked) - 5} more" if len(ranked) > 5 else ""
        return f"{super().about}; {', '.join(words)}{more}"

    def plot(self) -> Figure:
        """Draw the image beside a bar for each finding."""
        from anatozoo.results.draw.scores import plot_scores

        return plot_scores(self.scores, self.pixels, self.size, self.flags)

    def to_dict(self) -> dict[str, Any]:
        """What was read, and the scores with six decimals."""
        rounded = {finding: round(score, DIGITS) for finding, score in self.scores.items()}
        return super().to_dict() | {"scores": rounded}

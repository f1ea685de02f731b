"""What label maps of ensembles hold beside the labels: where and how far the members differ."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from anatozoo.errors import GeometryError
from anatozoo.results.base import Formats, read_only
from anatozoo.results.dicom_files import with_probability

Variance = npt.NDArray[np.float32]
LARGEST = 0.25
"""The variance of probabilities of which half are 0 and half are 1."""


@dataclass(frozen=True, eq=False, repr=False)
class Votes:
    """Base class of results that may be an ensemble's.

    Attributes:
        variance: variance of the members' probabilities at each pixel, of its organs the largest, float32 in
            0..0.25, on the grid of the label map, read-only; None if one network predicted.
        disagreement: share of the pixels that any member gives to an organ on which two members differ, on
            average over all pairs of members, at the resolution of the networks; None if one network
            predicted.
        members: number of members; None if one network predicted.
    """

    variance: Variance | None = field(default=None, repr=False, kw_only=True)
    disagreement: float | None = field(default=None, kw_only=True)
    members: int | None = field(default=None, kw_only=True)

    def check_votes(self, shape: tuple[int, ...], formats: Formats) -> None:
        """Check what an ensemble said, and offer its formats.

        Args:
            shape: of the label map.
            formats: those of an ensemble's results.

        Raises:
            GeometryError: the variance does not fit the label map or exceeds 0.25, or one of the three lacks.
        """
        given = [value is not None for value in (self.variance, self.disagreement, self.members)]
        if any(given) != all(given):
            raise GeometryError("variance, disagreement and members belong together; give all or none.")
        if self.variance is None:
            return
        values = np.asarray(self.variance, np.float32).view()
        if values.shape != shape or not ((values >= 0) & (values <= LARGEST + 1e-5)).all():
            raise GeometryError(
                f"the variance {values.shape} must have the shape {shape} of the label map, and values in "
                f"0..{LARGEST}."
            )
        for name, value in (("variance", read_only(values)), ("formats", formats)):
            object.__setattr__(self, name, value)

    def votes_dict(self) -> dict[str, Any]:
        """The numbers as JSON values; empty if one network predicted."""
        if self.variance is None or self.disagreement is None:
            return {}
        return {
            "members": self.members,
            "disagreement": round(self.disagreement, 5),
            "largest_variance": round(float(self.variance.max()), 5),
        }

    def votes_row(self) -> dict[str, float]:
        """``disagreement`` for a row of an evaluation; empty if one network predicted."""
        return {} if self.disagreement is None else {"disagreement": self.disagreement}


def spread(variance: Variance) -> Variance:
    """A variance map as the standard deviation, relative to the largest possible one: 0..1 for pictures."""
    found: Variance = np.sqrt(variance.clip(0, LARGEST) / np.float32(LARGEST))
    return found


def _write_variance(result: Any, path: Path) -> Path:
    """Write `variance` with spacing and, of a volume, origin and directions."""
    from anatozoo.io import writers
    from anatozoo.io.grid import itk_image

    if not hasattr(result, "grid"):
        return writers.write_volume(path, result.variance, result.spacing_mm)
    image = itk_image(result.variance, result.grid)
    return writers.write_itk(path, image, units_known=result.spacing_mm is not None)


def with_variance(formats: Formats) -> Formats:
    """The formats of a result of one network, ``"variance"`` (``_variance.nii.gz``) and ``"dicomprob"``."""
    files = {"_variance.nii.gz": _write_variance}
    return with_probability(replace(formats, writers={**formats.writers, "variance": files}))

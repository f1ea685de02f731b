"""The estimated quality of a segmentation without ground truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from anatozoo.errors import ConfigError
from anatozoo.results.base import Formats, Names, Result, write_json, write_picture
from anatozoo.results.field import RegistrationResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from anatozoo.metrics.measurements import Measurement

METRICS = {"dice": max, "hd_mm": min, "assd_mm": min, "hd_px": min, "assd_px": min}
"""Estimated metrics, and the function that gives the best of several values."""
CALIBRATED = ("dice_rca_calibrated", "dice_low", "dice_high")
"""Columns of a calibrated organ, before ``/ORGAN``."""


@dataclass(frozen=True, eq=False)
class AtlasMatch:
    """One atlas image with the judged segmentation that was registered to it.

    Attributes:
        id: name of the atlas image.
        pixels: the atlas image, grey levels 0 … 1.
        truth: its label map.
        labels: the judged label map, registered to it.
        values: ``METRIC/ORGAN`` -> number, and ``METRIC`` for the mean over the organs.
        flags: remarks of the registration.
        registration: the registration of the judged image; None if it was not kept.
    """

    id: str
    pixels: npt.NDArray[np.float32] = field(repr=False)
    truth: npt.NDArray[np.uint8] = field(repr=False)
    labels: npt.NDArray[np.uint8] = field(repr=False)
    values: Mapping[str, float]
    flags: tuple[str, ...] = ()
    registration: RegistrationResult | None = field(default=None, repr=False)

    @property
    def warped(self) -> npt.NDArray[np.float32]:
        """The judged image, registered to the atlas image; computed when it is asked for.

        Raises:
            ConfigError: the registration was not kept.
        """
        if self.registration is None:
            raise ConfigError(f"the registration to {self.id} was not kept.")
        return self.registration.warped


@dataclass(frozen=True)
class DiceInterval:
    """Calibrated Dice of one organ; 0 ≤ `dice_low` ≤ `dice` ≤ `dice_high` ≤ 1.

    Attributes:
        dice: the estimate.
        dice_low: lower end of the interval.
        dice_high: upper end.
    """

    dice: float
    dice_low: float
    dice_high: float


@dataclass(frozen=True)
class Judging:
    """What an estimate depends on besides the image and its segmentation.

    Attributes:
        atlas: hash of the atlas.
        engine: name of the registration engine.
        engine_version: its version.
        engine_weights: hash of its weights; empty without any.
        selector: name, version and hash of what chose the atlas images; empty for thumbnails.
        count: number of atlas images.
    """

    atlas: str
    engine: str
    engine_version: str
    engine_weights: str
    selector: str
    count: int


@dataclass(frozen=True, eq=False, repr=False)
class QualityResult(Result):
    """Estimated quality of a segmentation: its agreement with atlas images after registration.

    Distances are those in the atlas images, in millimetres if their spacing is known, else in pixels of the
    atlas's frame.

    `save` knows ``"json"`` (``_quality.json``) and ``"picture"`` (``_quality.png``, the plot).

    Attributes:
        image: path or name of the judged image.
        engine: registration engine.
        atlas: name of the atlas.
        organs: judged organs.
        matches: one for each atlas image, the most similar first; at least one.
        pixels: the judged image in the atlas's frame, grey levels 0 … 1.
        labels: its label map there, values 1, 2, ... for the atlas's organs.
        judging: what the estimate depends on; None if unknown.
        intervals: organ -> calibrated Dice with its interval; empty for an atlas without calibration.
        coverage: probability that an interval holds the true Dice of a segmentation like those of the
            calibration; None without intervals.
        no_intervals: why the calibration of the atlas does not apply; empty if it does, or if there is none.
        flags: remarks of the reader and of the registrations.
    """

    formats: ClassVar[Formats] = Formats(
        "estimates of quality",
        {"json": {"_quality.json": write_json}, "picture": {"_quality.png": write_picture}},
        default=("json", "picture"),
    )
    head: ClassVar[Names] = ("image", "engine", "atlas", "organs", "flags")

    image: str
    engine: str
    atlas: str
    organs: tuple[str, ...]
    matches: tuple[AtlasMatch, ...]
    pixels: npt.NDArray[np.float32] = field(repr=False)
    labels: npt.NDArray[np.uint8] = field(repr=False)
    judging: Judging | None = None
    intervals: Mapping[str, DiceInterval] = field(default_factory=dict)
    coverage: float | None = None
    no_intervals: str = ""

    @property
    def stem(self) -> str:
        """Start of the names of its files: the image's name, or ``"array"``."""
        return super().stem or "array"

    @property
    def chosen(self) -> tuple[str, ...]:
        """Names of the atlas images, the most similar first."""
        return tuple(match.id for match in self.matches)

    def best(self, metric: str = "dice", organ: str | None = None) -> float:
        """The best value over the atlas images: the largest Dice, the smallest distance.

        The estimate of Valindria et al., IEEE TMI 2017.

        Args:
            metric: ``"dice"``, ``"hd_mm"``, ``"assd_mm"``; without spacing ``"hd_px"``, ``"assd_px"``.
            organ: one organ; None takes the mean over the organs on each atlas image.

        Raises:
            ConfigError: metric or organ is unknown.
        """
        values = self._values(metric, organ)
        return METRICS[metric](values)

    def mean(self, metric: str = "dice", organ: str | None = None) -> float:
        """The mean value over the atlas images, as CheXmask publishes it; arguments as for `best`."""
        return float(np.mean(self._values(metric, organ)))

    def _values(self, metric: str, organ: str | None) -> list[float]:
        name = metric if organ is None else f"{metric}/{organ}"
        if metric not in METRICS or name not in self.matches[0].values:
            known = ", ".join(self.matches[0].values)
            raise ConfigError(f"{name} was not estimated; there are {known}.")
        return [match.values[name] for match in self.matches]

    def row(self) -> dict[str, float]:
        """All estimates as columns: ``dice_rca_max``, ``dice_rca_mean/heart``, ``hd_mm_rca_min``, ...

        An organ with an interval also has ``dice_rca_calibrated/heart``, ``dice_low/heart`` and
        ``dice_high/heart``.
        """
        columns = {}
        for name in self.matches[0].values:
            metric, _, organ = name.partition("/")
            best = METRICS[metric].__name__
            end = f"/{organ}" if organ else ""
            columns[f"{metric}_rca_{best}{end}"] = self.best(metric, organ or None)
            columns[f"{metric}_rca_mean{end}"] = self.mean(metric, organ or None)
        for organ, found in self.intervals.items():
            values = (found.dice, found.dice_low, found.dice_high)
            columns |= {f"{name}/{organ}": value for name, value in zip(CALIBRATED, values, strict=True)}
        return columns

    @property
    def measurements(self) -> list[Measurement]:
        """Estimated Dice of each organ: the best, or calibrated with its interval where there is one."""
        from anatozoo.metrics.measurements import Measurement

        found = []
        for organ in self.organs:
            if organ in self.intervals:
                each = self.intervals[organ]
                values = {"": each.dice, "_low": each.dice_low, "_high": each.dice_high}
            elif f"dice/{organ}" in self.matches[0].values:
                values = {"": self.best("dice", organ)}
            else:
                continue
            found += [Measurement(f"estimated_dice{end}", organ, value, "1") for end, value in values.items()]
        return found

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON values."""
        return super().to_dict() | {
            "estimates": {name: round(value, 6) for name, value in self.row().items()},
            "interval_coverage": self.coverage,
            "no_intervals": self.no_intervals or None,
            "atlas_images": [
                {"id": m.id, "flags": list(m.flags)} | {k: round(v, 6) for k, v in m.values.items()}
                for m in self.matches
            ],
        }

    def plot(self) -> Figure:
        """Draw the judged image, and each atlas image with its own contours and the warped ones."""
        from anatozoo.results.draw.quality import plot_quality

        return plot_quality(self)

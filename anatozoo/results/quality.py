"""What is known about the quality of a segmentation without its truth."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from anatozoo.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METRICS = {"dice": max, "hd_mm": min, "assd_mm": min, "hd_px": min, "assd_px": min}
"""Metrics that are estimated, and which of several values is the best one."""
FORMATS: dict[str, tuple[str, ...]] = {"json": ("_quality.json",), "picture": ("_quality.png",)}
"""Formats of `QualityResult.save`, and what each adds to the stem of the names."""

DEFAULT_FORMATS = ("json", "picture")


@dataclass(frozen=True, eq=False)
class AtlasMatch:
    """One atlas image beside what became of the judged segmentation on it.

    Attributes:
        id: name of the atlas image.
        pixels: the atlas image, grey levels 0 … 1.
        truth: its label map.
        warped: the judged image, registered to it.
        labels: the judged label map, brought along.
        values: ``METRIC/ORGAN`` -> number, and ``METRIC`` for the mean over the organs.
        flags: remarks of the registration.
    """

    id: str
    pixels: npt.NDArray[np.float32] = field(repr=False)
    truth: npt.NDArray[np.uint8] = field(repr=False)
    warped: npt.NDArray[np.float32] = field(repr=False)
    labels: npt.NDArray[np.uint8] = field(repr=False)
    values: Mapping[str, float]
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class QualityResult:
    """How well a segmentation agrees with atlases after registration: an estimate of how good it is.

    Distances are those in the atlas images, in millimetres where the spacing of these is known, else in
    pixels of the atlas's frame.

    Attributes:
        image: path or name of the judged image.
        engine: what registered it.
        atlas: name of the atlas.
        organs: what was judged.
        matches: one for each atlas image, the most similar first; at least one.
        pixels: the judged image in the atlas's frame, grey levels 0 … 1.
        labels: its label map there, values 1, 2, ... for the atlas's organs.
        flags: remarks of the reader and of the registrations.
    """

    image: str
    engine: str
    atlas: str
    organs: tuple[str, ...]
    matches: tuple[AtlasMatch, ...]
    pixels: npt.NDArray[np.float32] = field(repr=False)
    labels: npt.NDArray[np.uint8] = field(repr=False)
    flags: tuple[str, ...] = ()

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
        """All estimates as columns: ``dice_rca_max``, ``dice_rca_mean/heart``, ``hd_mm_rca_min``, ..."""
        columns = {}
        for name in self.matches[0].values:
            metric, _, organ = name.partition("/")
            best = METRICS[metric].__name__
            end = f"/{organ}" if organ else ""
            columns[f"{metric}_rca_{best}{end}"] = self.best(metric, organ or None)
            columns[f"{metric}_rca_mean{end}"] = self.mean(metric, organ or None)
        return columns

    def to_dict(self) -> dict[str, Any]:
        """All that is known as JSON values."""
        return {
            "schema_version": 1,
            "image": self.image,
            "engine": self.engine,
            "atlas": self.atlas,
            "organs": list(self.organs),
            "flags": list(self.flags),
            "estimates": {name: round(value, 6) for name, value in self.row().items()},
            "atlas_images": [
                {"id": m.id, "flags": list(m.flags)} | {k: round(v, 6) for k, v in m.values.items()}
                for m in self.matches
            ],
        }

    def plot(self) -> Figure:
        """Draw the judged image, and each atlas image with its own contours and those that came along."""
        from anatozoo.results.draw.quality import plot_quality

        return plot_quality(self)

    def save(
        self,
        directory: str | os.PathLike[str],
        formats: Sequence[str] = DEFAULT_FORMATS,
        stem: str | None = None,
    ) -> list[Path]:
        """Write files, each of them atomically.

        Args:
            directory: folder, created if it does not exist.
            formats: ``"json"`` (``_quality.json``), ``"picture"`` (``_quality.png``, the plot).
            stem: start of the file names; None takes the image's name.

        Raises:
            ConfigError: a format is unknown, or `stem` is no file name.
            OutputError: a file cannot be written.
        """
        from anatozoo.io.files import stem_of
        from anatozoo.io.writers import output_files, write_bytes, write_json

        chosen = (stem_of(Path(self.image)) or "array") if stem is None else stem
        return [
            write_json(path, self.to_dict()) if kind == "json" else write_bytes(path, self._repr_png_())
            for path, kind in output_files(directory, chosen, formats, FORMATS)
        ]

    def _repr_png_(self) -> bytes:
        """Picture for notebooks, where a result on a line of its own shows itself."""
        from anatozoo.results.draw.field import figure_bytes

        return figure_bytes(self.plot())

"""What is measured of a result, with units: one place for tables, JSON, pictures and reports."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anatozoo.metrics.plausibility import CardiothoracicLines

DECIMALS = 4
RATIO = "cardiothoracic_ratio"


@dataclass(frozen=True)
class Measurement:
    """One number with its unit.

    Attributes:
        name: what is measured, such as ``"area"`` or ``"ejection_fraction"``.
        organ: of which organ; empty where it is of none or of several.
        value: finite.
        unit: ``mm``, ``mm2``, ``ml``, ``g``, ``%``, ``1`` (of ratios), which are UCUM's, or ``px`` and
            ``voxels``, where the spacing is unknown.
    """

    name: str
    organ: str
    value: float
    unit: str

    @property
    def text(self) -> str:
        """The value with at most four decimals, never in powers of ten."""
        text = f"{self.value:.{DECIMALS}f}".rstrip("0").rstrip(".")
        return "0" if text == "-0" else text

    @property
    def short(self) -> str:
        """The value for people: of small ones three decimals, of large ones none."""
        digits = 0 if abs(self.value) >= 1000 else 1 if abs(self.value) >= 10 else 3
        return f"{self.value:.{digits}f}"

    @property
    def words(self) -> str:
        """The measurement in a few words, such as ``heart area 9800 mm2``; of large values no decimals."""
        name = f"{self.organ} {self.name}".strip().replace("_", " ")
        return f"{name} {self.short}" + (f" {self.unit}" if self.unit != "1" else "")

    def to_dict(self) -> dict[str, Any]:
        """JSON values; the organ is null where there is none."""
        value = float(self.text)
        return {"name": self.name, "organ": self.organ or None, "value": value, "unit": self.unit}


def sizes(counts: Mapping[str, int], spacing_mm: Sequence[float] | None, dims: int) -> list[Measurement]:
    """Areas of organs in mm² or volumes in ml; pixels or voxels where the spacing is unknown.

    Args:
        counts: organ -> number of its pixels or voxels.
        spacing_mm: (x, y[, z]), None where unknown.
        dims: 2 or 3.
    """
    name, known, unknown = ("area", "mm2", "px2") if dims == 2 else ("volume", "ml", "voxels")
    if spacing_mm is None:
        return [Measurement(name, organ, float(count), unknown) for organ, count in counts.items()]
    each = math.prod(spacing_mm) / (1 if dims == 2 else 1000)
    return [Measurement(name, organ, count * each, known) for organ, count in counts.items()]


def cardiothoracic(
    lines: CardiothoracicLines | None, spacing_mm: Sequence[float] | None
) -> list[Measurement]:
    """The cardiothoracic ratio and the two widths, in mm or px; empty without the lines.

    Args:
        lines: of `anatozoo.metrics.plausibility.cardiothoracic_lines`.
        spacing_mm: (x, y), None where unknown.
    """
    if lines is None:
        return []
    unit, pixel = ("px", 1.0) if spacing_mm is None else ("mm", spacing_mm[0])
    heart, thorax = (width * pixel for width in lines.widths_px)
    return [
        Measurement(RATIO, "", lines.ratio, "1"),
        Measurement("width", "heart", heart, unit),
        Measurement("width", "thorax", thorax, unit),
    ]

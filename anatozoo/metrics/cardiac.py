"""Function of the heart from the label maps of end-diastole and end-systole."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from anatozoo.errors import DataError, GeometryError
from anatozoo.io.grid import Grid
from anatozoo.metrics.measurements import Measurement

MYOCARDIAL_DENSITY = 1.05
"""Grams per millilitre."""
VENTRICLES = ("left_ventricle", "right_ventricle")


class Segmented(Protocol):
    """What is needed of a result: `anatozoo.results.volume.VolumeResult` has it."""

    @property
    def grid(self) -> Grid:
        """Where the voxels lie."""

    @property
    def voxels(self) -> dict[str, int]:
        """Number of voxels of each organ."""

    @property
    def volumes_ml(self) -> dict[str, float] | None:
        """Volume of each organ, None where the spacing is unknown."""


@dataclass(frozen=True)
class Ventricle:
    """One ventricle.

    Attributes:
        end_diastolic_ml: volume at end-diastole, None where the spacing is unknown.
        end_systolic_ml: volume at end-systole, the same.
        ejection_percent: 100 (EDV - ESV) / EDV, a ratio that needs no spacing.
    """

    end_diastolic_ml: float | None
    end_systolic_ml: float | None
    ejection_percent: float

    @property
    def stroke_ml(self) -> float | None:
        """EDV - ESV."""
        if self.end_diastolic_ml is None or self.end_systolic_ml is None:
            return None
        return self.end_diastolic_ml - self.end_systolic_ml


@dataclass(frozen=True)
class CardiacFunction:
    """Function of a heart.

    Attributes:
        ventricles: by name, those that both results have.
        myocardial_mass_g: at end-diastole; None where the spacing is unknown or there is no myocardium.
        flags: ``"negative_ejection_VENTRICLE"`` where it is larger at end-systole, as if the two phases were
            exchanged; empty is good.
    """

    ventricles: dict[str, Ventricle]
    myocardial_mass_g: float | None
    flags: tuple[str, ...] = ()

    @property
    def measurements(self) -> list[Measurement]:
        """Volumes, stroke volume and ejection fraction of each ventricle, and the mass, where known."""
        found = [
            Measurement(name, ventricle, value, unit)
            for ventricle, v in self.ventricles.items()
            for name, value, unit in (
                ("end_diastolic_volume", v.end_diastolic_ml, "ml"),
                ("end_systolic_volume", v.end_systolic_ml, "ml"),
                ("stroke_volume", v.stroke_ml, "ml"),
                ("ejection_fraction", v.ejection_percent, "%"),
            )
            if value is not None
        ]
        mass = self.myocardial_mass_g
        return found + ([] if mass is None else [Measurement("mass", "myocardium", mass, "g")])

    def to_dict(self) -> dict[str, Any]:
        """JSON values, rounded to what can be measured."""

        def rounded(value: float | None) -> float | None:
            return None if value is None else round(value, 2)

        return {
            "ventricles": {
                name: {
                    "end_diastolic_ml": rounded(v.end_diastolic_ml),
                    "end_systolic_ml": rounded(v.end_systolic_ml),
                    "stroke_ml": rounded(v.stroke_ml),
                    "ejection_percent": rounded(v.ejection_percent),
                }
                for name, v in self.ventricles.items()
            },
            "myocardial_mass_g": rounded(self.myocardial_mass_g),
            "flags": list(self.flags),
        }


def cardiac_function(end_diastole: Segmented, end_systole: Segmented) -> CardiacFunction:
    """Volumes, ejection fraction and myocardial mass from both phases of one heart.

    Where the spacing is unknown, the ejection fraction is still right, for both phases share one grid.

    Args:
        end_diastole: the result of the phase in which the ventricles are largest.
        end_systole: that of the phase in which they are smallest.

    Raises:
        GeometryError: the voxels of both do not have the same size.
        DataError: no ventricle was found at end-diastole.
    """
    spacings = [phase.grid.spacing_mm for phase in (end_diastole, end_systole)]
    if spacings[0] is None and spacings[1] is None:
        if end_diastole.grid.size[:2] != end_systole.grid.size[:2]:
            raise GeometryError("without spacings, both phases need slices of the same size in pixels.")
    elif None in spacings:
        raise GeometryError("the spacing of one phase is unknown and that of the other is known; give both.")
    ed, es = end_diastole.volumes_ml, end_systole.volumes_ml
    if ed is not None and es is not None:
        return function_of_volumes(ed, es)
    voxels = [{name: float(n) for name, n in phase.voxels.items()} for phase in (end_diastole, end_systole)]
    return _function(*voxels, in_ml=False)


def function_of_volumes(
    end_diastole: Mapping[str, float], end_systole: Mapping[str, float]
) -> CardiacFunction:
    """The same as `cardiac_function`, of volumes by organ in millilitres.

    Raises:
        DataError: no ventricle was found at end-diastole.
    """
    return _function(end_diastole, end_systole, in_ml=True)


def _function(before: Mapping[str, float], after: Mapping[str, float], *, in_ml: bool) -> CardiacFunction:
    found = [name for name in VENTRICLES if before.get(name) and name in after]
    if not found:
        raise DataError("no ventricle was found at end-diastole; look at the result's plot.")
    ventricles, flags = {}, []
    for name in found:
        ed, es = before[name], after[name]
        share = es / ed
        ventricles[name] = Ventricle(ed if in_ml else None, es if in_ml else None, 100 * (1 - share))
        if share > 1:
            flags.append(f"negative_ejection_{name}")
    muscle = before.get("myocardium") if in_ml else None
    return CardiacFunction(ventricles, MYOCARDIAL_DENSITY * muscle if muscle else None, tuple(flags))


def myocardial_mass_g(result: Segmented) -> float | None:
    """Mass of the myocardium, 1.05 g/ml; None where the spacing is unknown or there is no myocardium."""
    volumes = result.volumes_ml
    if volumes is None or not volumes.get("myocardium"):
        return None
    return MYOCARDIAL_DENSITY * volumes["myocardium"]

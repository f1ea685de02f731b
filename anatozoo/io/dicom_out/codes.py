"""Codes of organs and measurements: SNOMED CT, LOINC and UCUM, and our own where these have none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

SCT, LN, UCUM, OURS = "SCT", "LN", "UCUM", "99ANATOZOO"
"""Designators of coding schemes."""
_LONGEST_MEANING = 64


@dataclass(frozen=True)
class Code:
    """A code.

    Attributes:
        value: the code.
        scheme: designator of its coding scheme.
        meaning: words, at most 64 characters.
    """

    value: str
    scheme: str
    meaning: str


ANATOMY = Code("91723000", SCT, "Anatomical Structure")
_ABNORMAL = Code("49755003", SCT, "Morphologically Abnormal Structure")
_RIGHT, _LEFT = Code("24028007", SCT, "Right"), Code("7771000", SCT, "Left")
_BOTH = Code("51440002", SCT, "Right and left")
_LUNG, _CLAVICLE = Code("39607008", SCT, "Lung"), Code("51299004", SCT, "Clavicle")
_HIPPOCAMPUS = Code("5366008", SCT, "Hippocampus")
HEART, THORAX = Code("80891009", SCT, "Heart"), Code("816094009", SCT, "Thorax")


@dataclass(frozen=True)
class OrganCode:
    """What an organ is called in DICOM.

    Attributes:
        type: what it is.
        modifier: which of several, such as left; None where there is one.
        category: kind of things.
        is_side: whether the modifier is a laterality.
    """

    type: Code
    modifier: Code | None = None
    category: Code = ANATOMY
    is_side: bool = True


ORGANS = {
    "lung_right": OrganCode(_LUNG, _RIGHT),
    "lung_left": OrganCode(_LUNG, _LEFT),
    "lungs": OrganCode(_LUNG, _BOTH),
    "heart": OrganCode(HEART),
    "clavicle_right": OrganCode(_CLAVICLE, _RIGHT),
    "clavicle_left": OrganCode(_CLAVICLE, _LEFT),
    "clavicles": OrganCode(_CLAVICLE, _BOTH),
    "left_ventricle": OrganCode(Code("87878005", SCT, "Left ventricle")),
    "right_ventricle": OrganCode(Code("53085002", SCT, "Right ventricle")),
    "myocardium": OrganCode(Code("49848007", SCT, "Left Ventricle Myocardium")),
    "anterior": OrganCode(_HIPPOCAMPUS, Code("255549009", SCT, "Anterior"), is_side=False),
    "posterior": OrganCode(_HIPPOCAMPUS, Code("255551008", SCT, "Posterior"), is_side=False),
    "tumour": OrganCode(Code("108369006", SCT, "Neoplasm"), category=_ABNORMAL),
}
"""The organs of the zoo."""


def organ_code(organ: str) -> OrganCode:
    """The code of an organ; for a name that the zoo does not know, the name itself in our own scheme."""
    return ORGANS.get(organ) or OrganCode(Code(organ, OURS, organ[:_LONGEST_MEANING]))


AREA, VOLUME = Code("42798000", SCT, "Area"), Code("118565006", SCT, "Volume")
CTR = Code("CTR", OURS, "Cardiothoracic ratio")
HEART_WIDTH = Code("HEART_WIDTH", OURS, "Largest width of the heart")
THORAX_WIDTH = Code("THORAX_WIDTH", OURS, "Largest width of the thorax within the lungs")
ESTIMATED_DICE = Code("ESTIMATED_DICE", OURS, "Dice estimated without a reference")
DICE_LOW = Code("DICE_LOW", OURS, "Lower end of the interval of the Dice")
DICE_HIGH = Code("DICE_HIGH", OURS, "Upper end of the interval of the Dice")
EJECTION = {
    "left_ventricle": Code("8811-2", LN, "Left ventricular ejection fraction by MR"),
    "right_ventricle": Code("8818-7", LN, "Right ventricular ejection fraction by MR"),
}
END_DIASTOLE = {
    "left_ventricle": Code("8821-1", LN, "Left Ventricular ED Volume"),
    "right_ventricle": Code("8822-9", LN, "Right Ventricular ED Volume"),
}
END_SYSTOLE = {
    "left_ventricle": Code("8823-7", LN, "Left Ventricular ES Volume"),
    "right_ventricle": Code("8824-5", LN, "Right Ventricular ES Volume"),
}
MASS = Code("18087-7", LN, "Left Ventricle Mass")
REMARK = Code("REMARK", OURS, "Remark")
PROCEDURE = Code("363679005", SCT, "Imaging procedure")

MM, MM2, ML = (
    Code("mm", UCUM, "millimeter"),
    Code("mm2", UCUM, "square millimeter"),
    Code("mL", UCUM, "milliliter"),
)
GRAM, PERCENT = Code("g", UCUM, "gram"), Code("%", UCUM, "percent")
RATIO, PIXELS = Code("{ratio}", UCUM, "ratio"), Code("{pixels}", UCUM, "pixels")
VOXELS = Code("{voxels}", UCUM, "voxels")
SQUARE_PIXELS = Code("{square_pixels}", UCUM, "square pixels")


MEASURES: dict[tuple[str, str], Code] = {
    ("area", ""): AREA,
    ("volume", ""): VOLUME,
    ("cardiothoracic_ratio", ""): CTR,
    ("width", "heart"): HEART_WIDTH,
    ("width", "thorax"): THORAX_WIDTH,
    ("estimated_dice", ""): ESTIMATED_DICE,
    ("estimated_dice_low", ""): DICE_LOW,
    ("estimated_dice_high", ""): DICE_HIGH,
    ("mass", "myocardium"): MASS,
    **{("ejection_fraction", ventricle): code for ventricle, code in EJECTION.items()},
    **{("end_diastolic_volume", ventricle): code for ventricle, code in END_DIASTOLE.items()},
    **{("end_systolic_volume", ventricle): code for ventricle, code in END_SYSTOLE.items()},
}
"""Name and organ, empty for any, of what `anatozoo.metrics.measurements` measures."""
UNITS = {
    "mm": MM,
    "mm2": MM2,
    "ml": ML,
    "g": GRAM,
    "%": PERCENT,
    "1": RATIO,
    "px": PIXELS,
    "px2": SQUARE_PIXELS,
    "voxels": VOXELS,
}


class Measured(Protocol):
    """A measurement, as `anatozoo.metrics.measurements.Measurement` is one."""

    @property
    def name(self) -> str:
        """What was measured."""

    @property
    def organ(self) -> str:
        """Of which organ; empty for the image as a whole."""

    @property
    def value(self) -> float:
        """The number."""

    @property
    def unit(self) -> str:
        """Its unit, a key of `UNITS`."""


def measure_code(measure: Measured) -> Code:
    """The code of what was measured; for a name without one, the name itself in our own scheme."""
    found = MEASURES.get((measure.name, measure.organ)) or MEASURES.get((measure.name, ""))
    return found or Code(
        measure.name.upper()[:16], OURS, measure.name.replace("_", " ").capitalize()[:_LONGEST_MEANING]
    )

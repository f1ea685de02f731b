"""Judge a DICOM header: is it a chest radiograph, which way it lies, what is worth keeping."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from pydicom.dataset import Dataset

from anatozoo.errors import ImageError
from anatozoo.io.decoded import Metadata

# CR and DX are the standard's radiographs, RG its older digitised films; XR, DR and CXR are not in the
# standard, but in archives.
_RADIOGRAPHS = {"CR", "DX", "RG", "XR", "DR", "CXR"}
_SECONDARY_CAPTURE = "OT"
_CHEST_WORDS = ("CHEST", "THORA", "TORAX", "TORAC", "LUNG", "PULMO", "RIB", "CLAVIC", "STERN", "HEART", "CXR")
_NOT_STATED = {"", "UNKNOWN", "UNSPECIFIED", "UNDEFINED", "DEFAULT", "NONE", "NA"}
_OVERRIDE = "if it is a chest X-ray all the same, pass allow_any_modality=True (--allow-any-modality)."
_YEARS = {"Y": 1.0, "M": 12.0, "W": 365.25 / 7, "D": 365.25}
_OLDEST = 120.0
_CODE = re.compile(r"[A-Z0-9_ ]{1,16}")
_LONGEST_NAME = 64
GROUPS = ("sex", "age", "view", "modality", "manufacturer")
"""What patients and images are grouped by, see `groups_of`."""
# Attributes that matter for fairness audits and for finding a cause, and that identify nobody.
_KEPT = (
    "Modality",
    "BodyPartExamined",
    "ViewPosition",
    "PatientSex",
    "PatientPosition",
    "PatientOrientation",
    "PhotometricInterpretation",
    "Manufacturer",
    "ManufacturerModelName",
)


def check_is_chest_xray(header: Dataset, label: str) -> None:
    """Refuse what is surely no radiograph of the chest; empty attributes are given the benefit of the doubt.

    Raises:
        ImageError: another modality or another part of the body.
    """
    modality = _text(header, "Modality").upper()
    part = _letters(_text(header, "BodyPartExamined"))
    is_chest = any(word in part for word in _CHEST_WORDS) and "SPINE" not in part
    if modality == _SECONDARY_CAPTURE and not is_chest:
        raise ImageError(
            f"{label} has modality OT and body part {part or 'not stated'}, so it may show anything; "
            f"{_OVERRIDE}"
        )
    if modality and modality not in _RADIOGRAPHS | {_SECONDARY_CAPTURE}:
        raise ImageError(f"{label} has modality {modality}, not CR or DX; {_OVERRIDE}")
    if part not in _NOT_STATED and not is_chest:
        raise ImageError(f"{label} shows {_text(header, 'BodyPartExamined')!r}, not the chest; {_OVERRIDE}")


def flags_of(header: Dataset) -> tuple[str, ...]:
    """Remarks that the header alone calls for.

    ``"lateral_view"``; ``"mirrored"`` and ``"upside_down"`` where PatientOrientation says that the patient's
    right is not on the image's left or the head not up; ``"modality_unknown"`` where it is not stated;
    ``"burned_in_annotation"`` where the file says that its pixels hold words, which may name the patient.
    """
    flags = []
    if _text(header, "BurnedInAnnotation").upper() == "YES":
        flags.append("burned_in_annotation")
    if not _text(header, "Modality"):
        flags.append("modality_unknown")
    orientation = [str(direction).upper() for direction in values_of(header, "PatientOrientation")]
    rows, columns = orientation if len(orientation) == 2 else ("", "")
    if _is_lateral(header) or rows.startswith(("A", "P")):
        flags.append("lateral_view")
    if rows.startswith("R"):
        flags.append("mirrored")
    if columns.startswith("H"):
        flags.append("upside_down")
    return tuple(flags)


def frames_of(header: Dataset) -> int:
    """How many frames a file says it has; one where it does not say."""
    return int(header.get("NumberOfFrames") or 1)


def metadata_of(header: Dataset) -> Metadata:
    """Attributes worth keeping, as JSON values; PatientAge in years as a float."""
    kept: Metadata = {key: _text(header, key) for key in _KEPT if _text(header, key)}
    age = _age(header)
    if age is not None:
        kept["PatientAge"] = age
    return kept


def groups_of(header: Dataset) -> Metadata:
    """What tells groups of patients and images apart, and identifies nobody: a value for each of `GROUPS`.

    ``sex`` is M, F or O (PatientSex), ``age`` in years (PatientAge, DICOM PS3.5's age string), ``view``,
    ``modality`` and ``manufacturer`` as ViewPosition, Modality and Manufacturer have them. A value is None
    where the attribute is absent, says that it is not known, or is not of the form that the standard gives
    it: free text in a field for a code may say anything, names too.
    """
    sex, age = _text(header, "PatientSex").upper(), _age(header)
    return {
        "sex": sex if sex in ("M", "F", "O") else None,
        "age": age if age is not None and age <= _OLDEST else None,
        "view": _code(header, "ViewPosition"),
        "modality": _code(header, "Modality"),
        "manufacturer": _short_name(header, "Manufacturer"),
    }


def _age(header: Dataset) -> float | None:
    """PatientAge in years, rounded to days; None where it is not an age string."""
    age = re.fullmatch(r"([0-9]{1,3})([YMWD])", _text(header, "PatientAge").upper())
    return round(int(age[1]) / _YEARS[age[2]], 3) if age else None


def _code(header: Dataset, keyword: str) -> str | None:
    """A code string of the standard; None where it is none, or says nothing."""
    text = _text(header, keyword).upper()
    return text if _CODE.fullmatch(text) and text not in _NOT_STATED else None


def _short_name(header: Dataset, keyword: str) -> str | None:
    """One line of at most 64 characters, as the standard has it; None where it is none, or says nothing."""
    text = _text(header, keyword)
    is_line = text.isprintable() and "\\" not in text and len(text) <= _LONGEST_NAME
    return text if is_line and text.upper() not in _NOT_STATED else None


def _is_lateral(header: Dataset) -> bool:
    view = _letters(_text(header, "ViewPosition"))
    codes = header.get("ViewCodeSequence") or []
    meanings = " ".join(_letters(_text(code, "CodeMeaning")) for code in codes)
    # A decubitus film is taken from the side of the bed, yet shows the chest from the front.
    said = [text for text in (view, meanings) if "DECUB" not in text and "BILAT" not in text]
    return view in ("LL", "RL") or any("LAT" in text for text in said)


def _letters(text: str) -> str:
    """Upper-case letters only, accents removed, so that spellings compare."""
    plain = unicodedata.normalize("NFKD", text).upper()
    return "".join(letter for letter in plain if "A" <= letter <= "Z")


def values_of(header: Dataset, keyword: str) -> list[Any]:
    """All values of an attribute; empty where it is absent, empty or not decodable."""
    try:
        value = header.get(keyword)
    except (ValueError, TypeError, NotImplementedError):  # the value breaks its own VR: as good as absent
        return []
    if value is None or value == "":
        return []
    return [value] if isinstance(value, (str, int, float)) or not hasattr(value, "__iter__") else list(value)


def _text(header: Dataset, keyword: str) -> str:
    return "\\".join(str(value) for value in values_of(header, keyword)).strip().strip("\0")

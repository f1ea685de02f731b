"""Groups of patients from DICOM headers: what is read, what is not, and what is left out."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from anatozoo.io import dicom_groups, dicom_header
from anatozoo.io.dicom_groups import read_groups
from tests.unit.io.conftest import DicomWriter

Pixels = npt.NDArray[np.uint16]
NOTHING = dict.fromkeys(dicom_header.GROUPS)


def test_what_a_header_states(write_dicom: DicomWriter, xray: Pixels) -> None:
    path = write_dicom(
        xray,
        PatientName="Doe^Jane",
        PatientID="4711",
        PatientSex="F",
        PatientAge="045Y",
        ViewPosition="AP",
        Modality="CR",
        Manufacturer="Acme, Inc.",
    )
    assert read_groups(path) == {
        "sex": "F",
        "age": 45.0,
        "view": "AP",
        "modality": "CR",
        "manufacturer": "Acme, Inc.",
    }


@pytest.mark.parametrize(
    ("text", "years"),
    [
        ("045Y", 45),
        ("000Y", 0),
        ("018M", 1.5),
        ("003W", 3 * 7 / 365.25),
        ("012D", 12 / 365.25),
        ("90Y", 90),
        ("", None),
        ("045", None),
        ("45 years", None),
        ("Y45", None),
        ("121Y", None),
        ("-01Y", None),
    ],
)
def test_ages_become_years(write_dicom: DicomWriter, xray: Pixels, text: str, years: float | None) -> None:
    found = read_groups(write_dicom(xray, PatientAge=text))["age"]
    assert found == (None if years is None else pytest.approx(years, abs=1e-3))


@pytest.mark.parametrize(
    "attributes",
    [
        {"PatientSex": "male"},
        {"PatientSex": "1"},
        {"PatientSex": ["M", "F"]},
        {"ViewPosition": "unknown"},
        {"ViewPosition": "Doe, Jane: frontal"},
        {"ViewPosition": "PA\nsecond line"},
        {"Modality": "a text much longer than a code"},
        {"Manufacturer": ["Acme", "Other"]},
        {"Manufacturer": "a\nb"},
        {"Manufacturer": "x" * 65},
        {"Manufacturer": "Unknown"},
    ],
)
def test_what_breaks_the_standard_is_left_out(
    write_dicom: DicomWriter, xray: Pixels, attributes: dict[str, Any]
) -> None:
    path = write_dicom(xray, **({"ViewPosition": None, "Modality": None} | attributes))
    assert read_groups(path) == NOTHING


def test_absent_attributes(write_dicom: DicomWriter, xray: Pixels) -> None:
    assert read_groups(write_dicom(xray, ViewPosition=None, Modality=None)) == NOTHING


def test_lower_case_codes_are_understood(write_dicom: DicomWriter, xray: Pixels) -> None:
    found = read_groups(write_dicom(xray, PatientSex="f", ViewPosition="pa", PatientAge="045y"))
    assert (found["sex"], found["view"], found["age"]) == ("F", "PA", 45.0)


def test_nothing_else_is_read(
    write_dicom: DicomWriter, xray: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_dicom(xray, PatientName="Doe^Jane", PatientID="4711", PatientSex="F")
    seen = []
    monkeypatch.setattr(dicom_header, "groups_of", lambda header: seen.append(header) or {})
    read_groups(path)
    assert "PatientSex" in seen[0]
    assert not {"PatientName", "PatientID", "PixelData"} & set(seen[0].dir())


def test_other_and_damaged_files_have_none(tmp_path: Path, write_dicom: DicomWriter, xray: Pixels) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(400))
    assert read_groups(tmp_path / "a.png") == {}
    assert read_groups(tmp_path / "absent.dcm") == {}
    assert read_groups(tmp_path) == {}
    whole = write_dicom(xray, PatientSex="M").read_bytes()
    (tmp_path / "cut.dcm").write_bytes(whole[:150])
    assert read_groups(tmp_path / "cut.dcm").get("sex") is None
    # Pixels that are cut off do not concern the header.
    (tmp_path / "short.dcm").write_bytes(whole[:-100])
    assert read_groups(tmp_path / "short.dcm")["sex"] == "M"


def test_only_attributes_that_identify_nobody_are_asked_for() -> None:
    assert not [word for word in dicom_groups._KEYWORDS if "Name" in word or "ID" in word or "Date" in word]

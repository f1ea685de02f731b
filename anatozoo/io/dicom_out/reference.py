"""What a DICOM object takes over from its source: patient, study, place, and references to its instances."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import config
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.valuerep import PersonName, validate_value

from anatozoo.errors import GeometryError, turned_into
from anatozoo.io.dicom_file import read_dicom
from anatozoo.io.dicom_header import frames_of, values_of
from anatozoo.io.dicom_source import DicomFrame, DicomSource, uid_of
from anatozoo.io.dicom_volume import group_of, numbers_in
from anatozoo.io.quiet import quiet

BLANK = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime"),
    *("AccessionNumber", "StudyID", "ReferringPhysicianName"),
)
"""What every object must have, if empty."""
_KEPT = (
    *("IssuerOfPatientID", "TypeOfPatientID", "PatientBirthTime", "EthnicGroup", "PatientComments"),
    *("QualityControlSubject", "PatientIdentityRemoved", "DeidentificationMethod"),
    *("StudyDescription", "PhysiciansOfRecord", "NameOfPhysiciansReadingStudy"),
    *("AdmittingDiagnosesDescription", "PatientAge", "PatientSize", "PatientWeight", "Occupation"),
    *("AdditionalPatientHistory", "MedicalAlerts", "Allergies", "SmokingStatus", "PregnancyStatus"),
    *("LastMenstrualDate", "PatientState", "PatientSexNeutered", "AdmissionID", "ServiceEpisodeID"),
    *("ClinicalTrialSponsorName", "ClinicalTrialProtocolID", "ClinicalTrialProtocolName"),
    *("ClinicalTrialSiteID", "ClinicalTrialSiteName", "ClinicalTrialSubjectID"),
    *("ClinicalTrialSubjectReadingID", "ClinicalTrialTimePointID", "ClinicalTrialTimePointDescription"),
)
"""The other plain attributes of the patient, study, patient study and clinical trial modules."""
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
_RESCALE, _WINDOWS = "PixelValueTransformationSequence", "FrameVOILUTSequence"
_LOSSY = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")
_SEXES = ("M", "F", "O")
_DATES = ("Content", "Acquisition", "Series", "Study")
NO_DATE, NO_TIME = "19000101", "000000"
"""When an object was made whose source does not say, or must not say, when it was."""
REMOVED = "anatozoo: patient and study left empty, UIDs of the source kept"


@dataclass(frozen=True)
class Place:
    """Where a frame lies in the patient.

    Attributes:
        origin: (3,) mm, centre of the first pixel.
        axes: (2, 3) directions of x and y.
        spacing: (x, y) mm per pixel.
    """

    origin: npt.NDArray[np.float64]
    axes: npt.NDArray[np.float64]
    spacing: tuple[float, float]

    def points(self, pixels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Positions (N, 3) in mm of pixels (N, 2), x and y, whole numbers being centres."""
        return self.origin + (pixels * self.spacing) @ self.axes


@dataclass(frozen=True)
class Reference:
    """What is taken over from a source.

    Attributes:
        source: the frames.
        headers: one for each file, without pixels, with only what was checked.
        of_slice: for each slice its header and frame number.
        places: where each slice lies; None where the files do not say it of all.
        frame_of_reference: its UID, empty where there is none.
        date: of the source's content, as DICOM has it.
        time: likewise.
    """

    source: DicomSource
    headers: tuple[Dataset, ...]
    of_slice: tuple[tuple[Dataset, int], ...]
    places: tuple[Place, ...] | None
    frame_of_reference: str
    date: str
    time: str

    @property
    def label(self) -> str:
        """What messages call the source."""
        return _label(self.source.frames[0])

    @property
    def frames(self) -> int:
        """Frames of its only file, where that has several; 0 else."""
        first = self.headers[0]
        return int(first.NumberOfFrames) if "NumberOfFrames" in first else 0

    @property
    def shape(self) -> tuple[int, int, int]:
        """(D, H, W) of a mask on its grid."""
        return len(self.of_slice), int(self.headers[0].Rows), int(self.headers[0].Columns)

    @property
    def instance_number(self) -> int:
        """That of its only image, so that the objects of a series are told apart; else 1."""
        number = self.headers[0].get("InstanceNumber")
        return int(number) if len(self.headers) == 1 and number else 1

    def frame_number(self, index: int) -> int | None:
        """Number of the frame of a slice, where its file has several."""
        return self.of_slice[index][1] if self.frames else None

    def placed(self, what: str) -> tuple[Place, ...]:
        """The places.

        Raises:
            GeometryError: they, or their frame of reference, are unknown.
        """
        if self.places is None or not self.frame_of_reference:
            raise GeometryError(
                f"{self.label} does not say where its slices lie in the patient "
                f"(FrameOfReferenceUID, ImagePositionPatient, ImageOrientationPatient, PixelSpacing), which "
                f"{what} needs; save NIfTI, or export the files again with these attributes."
            )
        return self.places

    def stack(self, masks: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        """Masks (D, H, W) of several organs as (frames, H, W, organs), in the order of `headers`."""
        stacked = np.stack(masks, axis=-1)
        if not self.frames:
            return stacked
        found = np.zeros((self.frames, *stacked.shape[1:]), stacked.dtype)
        found[[number - 1 for _, number in self.of_slice]] = stacked
        return found


def read_reference(source: DicomSource, shape: tuple[int, int, int]) -> Reference:
    """Read the headers of a source anew and check them.

    Args:
        source: the frames.
        shape: (D, H, W) of the masks that lie on them.

    Raises:
        GeometryError: a UID is missing, the files have changed, or the masks lie on another grid.
    """
    label = _label(source.frames[0])
    if shape[0] != len(source.frames):
        raise GeometryError(
            f"the masks have {shape[0]} slices and {label} has {len(source.frames)}: they do not lie on the "
            "source's own grid, which DICOM objects refer to; save NIfTI."
        )
    whole: dict[Any, Dataset] = {}
    for frame in source.frames:
        if id(frame.header) not in whole and frame.path not in whole:
            whole[frame.path or id(frame.header)] = _whole_header(frame)
    each = [whole[frame.path or id(frame.header)] for frame in source.frames]
    with quiet(), carried_over(label):
        several = any(frames_of(header) > 1 for header in each)
        if several and len(whole) > 1:
            raise GeometryError(
                f"{label} is one of {len(whole)} files of several frames each; give one such file, or a "
                "series of single frames."
            )
        places = [_place(header, frame.number - 1) for header, frame in zip(each, source.frames, strict=True)]
        bare = {key: _bare(header, source.keep_patient) for key, header in whole.items()}
        headers = [bare[frame.path or id(frame.header)] for frame in source.frames]
        reference = uid_of(each[0], "FrameOfReferenceUID")
        date, time = _date_of(each[0]) if source.keep_patient else (NO_DATE, NO_TIME)
        known = None if any(place is None for place in places) else tuple(places)
        if known and reference:
            _put_places(headers, source.frames, known, each[0], reference)  # type: ignore[arg-type]  # none is None
    found = Reference(
        source,
        tuple(dict((id(header), header) for header in headers).values()),
        tuple((header, frame.number) for header, frame in zip(headers, source.frames, strict=True)),
        known,  # type: ignore[arg-type]  # none is None
        reference,
        date,
        time,
    )
    if found.shape != shape:
        raise GeometryError(f"the masks {shape} do not lie on the grid {found.shape} of {label}; save NIfTI.")
    return found


def carried_over(label: str) -> AbstractContextManager[None]:
    """Use of a header, which may break the standard at will; a `GeometryError` if a library fails by it."""
    return turned_into(
        GeometryError,
        lambda reason: (
            f"no DICOM object can refer to {label} ({reason}). Mend its header, or save another format."
        ),
    )


def _label(frame: DicomFrame) -> str:
    return "the DICOM data set" if frame.path is None else repr(str(frame.path))


def _whole_header(frame: DicomFrame) -> Dataset:
    """The header of a file, which must still be the one that was read."""
    label = _label(frame)
    with quiet(), carried_over(label):
        header = frame.header
        if header is None:
            assert frame.path is not None
            header = read_dicom(Path(frame.path), stop_before_pixels=True)
        for keyword in _UIDS:
            if not uid_of(header, keyword):
                raise GeometryError(
                    f"{label} has no {keyword}, so nothing can refer to it in DICOM; save another format, or "
                    "export the file again."
                )
        if uid_of(header, "SOPInstanceUID") != frame.instance:
            raise GeometryError(f"{label} was replaced by another file since it was read; run again.")
    return header


def _bare(header: Dataset, keep_patient: bool) -> Dataset:
    """What of a header is carried over: valid values alone."""
    bare = Dataset()
    bare.SpecificCharacterSet = "ISO_IR 192"
    for keyword in _UIDS:
        setattr(bare, keyword, uid_of(header, keyword))
    for keyword in (*BLANK, *_KEPT) if keep_patient else ():
        _copy(header, bare, keyword)
    for keyword in BLANK:
        if keyword not in bare:
            setattr(bare, keyword, "")
    if bare.PatientSex not in _SEXES:
        bare.PatientSex = ""
    if not keep_patient:
        bare.PatientIdentityRemoved, bare.DeidentificationMethod = "YES", REMOVED
    for keyword in ("InstanceNumber", "Modality", *_LOSSY):
        _copy(header, bare, keyword)
    if not str(bare.get("InstanceNumber") or "").isdecimal() or int(bare.InstanceNumber) < 1:
        bare.InstanceNumber = None
    bare.Modality = bare.get("Modality") or "OT"
    _copy(header, bare, "PatientOrientation")
    if "PatientOrientation" not in bare:
        bare.PatientOrientation = ""
    bare.Rows, bare.Columns, bare.SamplesPerPixel = int(header.Rows), int(header.Columns), 1
    bare.PhotometricInterpretation = str(header.get("PhotometricInterpretation") or "MONOCHROME2")
    for keyword in ("PresentationLUTShape", "PixelAspectRatio"):
        _copy(header, bare, keyword)
    spacing = numbers_in(header, "PixelSpacing", 2)
    if spacing is not None and min(spacing) > 0:
        # Under this name it is no claim about a plane in the patient.
        bare.PresentationPixelSpacing = decimals(spacing)
    count = frames_of(header)
    if count > 1:
        bare.NumberOfFrames = count
        bare.SharedFunctionalGroupsSequence = [Dataset()]
        bare.PerFrameFunctionalGroupsSequence = [Dataset() for _ in range(count)]
        _copy_grey(group_of(header, 0, _RESCALE), bare.SharedFunctionalGroupsSequence[0], _RESCALE)
        for number, group in enumerate(bare.PerFrameFunctionalGroupsSequence):
            _copy_grey(group_of(header, number, _WINDOWS), group, _WINDOWS)
    else:
        _copy_grey(header, bare)
    return bare


def _copy_grey(header: Dataset, bare: Dataset, sequence: str = "") -> None:
    """Copy how stored values become grey ones: rescaling, tables and the first window, where they are valid.

    Args:
        header: what has the attributes.
        bare: what gets them.
        sequence: of one item that holds them there; empty for `bare` itself.
    """
    item = Dataset()
    slope, intercept = numbers_in(header, "RescaleSlope", 1), numbers_in(header, "RescaleIntercept", 1)
    if sequence != _WINDOWS and slope is not None and intercept is not None and slope[0]:
        item.RescaleSlope, item.RescaleIntercept = decimals([slope[0], intercept[0]])
        _copy(header, item, "RescaleType")
        item.RescaleType = item.get("RescaleType") or "US"
    windows = [_floats(values_of(header, keyword)[:1]) for keyword in ("WindowCenter", "WindowWidth")]
    if sequence != _RESCALE and all(windows) and windows[1][0] >= 1:
        item.WindowCenter, item.WindowWidth = (decimals(window)[0] for window in windows)
        if header.get("VOILUTFunction") in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
            item.VOILUTFunction = header.VOILUTFunction
    if sequence:
        if len(item):
            setattr(bare, sequence, [item])
        return
    bare.update(item)
    for keyword in ("ModalityLUTSequence", "VOILUTSequence"):
        if header.get(keyword):
            bare[keyword] = header[keyword]


def _floats(values: Sequence[Any]) -> list[float]:
    """Finite numbers; empty where one is none."""
    try:
        found = [float(value) for value in values]
    except (TypeError, ValueError):
        return []
    return found if np.isfinite(found).all() else []


def _copy(header: Dataset, bare: Dataset, keyword: str) -> None:
    """Copy an attribute if its values obey the standard; an attribute that does not is left out."""
    try:
        if keyword not in header:
            return
        element = header[keyword]
        values = list(element.value) if isinstance(element.value, MultiValue) else [element.value]
        if element.VR == "PN":
            values = [PersonName(str(value)) for value in values]
        for value in values:
            validate_value(element.VR, value if element.VR == "PN" else str(value), config.RAISE)
        setattr(bare, keyword, values[0] if len(values) == 1 else values)
    except Exception:  # as many ways to fail as there are kinds of values
        bare.pop(keyword, None)


def _place(header: Dataset, frame: int) -> Place | None:
    from anatozoo.io.dicom_spacing import spacing_of

    origin = numbers_in(group_of(header, frame, "PlanePositionSequence"), "ImagePositionPatient", 3)
    axes = numbers_in(group_of(header, frame, "PlaneOrientationSequence"), "ImageOrientationPatient", 6)
    spacing = spacing_of(group_of(header, frame, "PixelMeasuresSequence"))
    if origin is None or axes is None or spacing is None:
        return None
    return Place(origin, axes.reshape(2, 3), spacing)


def _put_places(
    headers: Sequence[Dataset],
    frames: Sequence[DicomFrame],
    places: Sequence[Place],
    whole: Dataset,
    reference: str,
) -> None:
    """Say in what is carried over where its slices lie; their directions, equal but for rounding, are one."""
    first, last = places[0], places[-1]
    gap = float(np.linalg.norm(last.origin - first.origin)) / max(len(places) - 1, 1)
    stated = numbers_in(group_of(whole, 0, "PixelMeasuresSequence"), "SliceThickness", 1)
    thickness = stated[0] if stated is not None and stated[0] > 0 else gap
    measures, plane = Dataset(), Dataset()
    measures.PixelSpacing = decimals(first.spacing[::-1])
    measures.SliceThickness = decimals([thickness])[0] if thickness else None
    plane.ImageOrientationPatient = decimals(first.axes.ravel())
    for header, frame, place in zip(headers, frames, places, strict=True):
        header.FrameOfReferenceUID = reference
        position = Dataset()
        position.ImagePositionPatient = decimals(place.origin)
        if "NumberOfFrames" not in header:
            for part in (measures, plane, position):
                header.update(part)
            continue
        shared = header.SharedFunctionalGroupsSequence[0]
        shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [plane]
        header.PerFrameFunctionalGroupsSequence[frame.number - 1].PlanePositionSequence = [position]


def decimals(values: Any) -> list[str]:
    """Numbers as decimal strings of at most 16 characters."""
    from pydicom.valuerep import format_number_as_ds

    return [format_number_as_ds(float(value) + 0.0) for value in values]


def _date_of(header: Dataset) -> tuple[str, str]:
    """Date and time of the content, else of acquisition, series or study."""
    for start in _DATES:
        date = "".join(map(str, values_of(header, f"{start}Date")[:1]))
        time = "".join(map(str, values_of(header, f"{start}Time")[:1]))
        if re.fullmatch(r"[0-9]{4}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])", date):
            valid = re.fullmatch(r"([01][0-9]|2[0-3])[0-5][0-9][0-5][0-9](\.[0-9]{1,6})?", time)
            return date, time if valid else NO_TIME
    return NO_DATE, NO_TIME

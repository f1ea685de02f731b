"""RT structure sets: closed contours of each organ of a volume, slice by slice, in mm of the patient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage

from anatozoo.io.dicom_out.codes import Code, organ_code
from anatozoo.io.dicom_out.contours import planar_contours
from anatozoo.io.dicom_out.reference import Reference
from anatozoo.io.dicom_out.stamp import MANUFACTURER, Maker, finished

_SERIES = 9003
_STUDY_COMPONENT = "1.2.840.10008.3.1.2.3.1"
_TAKEN_OVER = ("StudyInstanceUID", "SpecificCharacterSet")
Color = tuple[int, int, int]


def structure_set(
    reference: Reference,
    maker: Maker,
    masks: Mapping[str, npt.NDArray[np.bool_]],
    colors: Mapping[str, Color],
) -> bytes:
    """An RT structure set with one region of interest for each organ, those without a voxel included.

    Contours run between pixels, so that they hold the centres of the mask's voxels and no others; holes are
    joined to them by keyholes.

    Args:
        reference: the source.
        maker: what found the organs.
        masks: organ -> (D, H, W) on the slices of the source.
        colors: organ -> red, green and blue, 0..255.

    Raises:
        GeometryError: the slices have no place.
    """
    places = reference.placed("an RT structure set")
    identity = maker.identity(reference, "structure set", _SERIES)
    found = Dataset()
    for element in reference.headers[0]:
        if element.keyword in _TAKEN_OVER or element.tag.group in (0x10, 0x12):
            found.add(element)
    for keyword in ("StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "StudyID"):
        setattr(found, keyword, reference.headers[0].get(keyword))
    for keyword in ("StudyDescription", "PhysiciansOfRecord", "NameOfPhysiciansReadingStudy"):
        if keyword in reference.headers[0]:
            setattr(found, keyword, reference.headers[0].get(keyword))
    found.SOPClassUID, found.Modality = RTStructureSetStorage, "RTSTRUCT"
    found.SeriesInstanceUID, found.SeriesNumber = identity["series_instance_uid"], identity["series_number"]
    found.SeriesDescription, found.InstanceNumber = (
        identity["series_description"],
        identity["instance_number"],
    )
    equipment = maker.equipment()
    found.Manufacturer, found.ManufacturerModelName = MANUFACTURER, equipment["manufacturer_model_name"]
    found.SoftwareVersions = list(equipment["software_versions"])
    found.DeviceSerialNumber = equipment["device_serial_number"]
    found.OperatorsName, found.ApprovalStatus = "", "UNAPPROVED"
    found.StructureSetLabel = "anatozoo"
    found.StructureSetName = maker.name
    found.StructureSetDate, found.StructureSetTime = reference.date, reference.time
    found.FrameOfReferenceUID, found.PositionReferenceIndicator = reference.frame_of_reference, ""
    found.ReferencedFrameOfReferenceSequence = [_frame_of_reference(reference)]
    numbered = list(enumerate(masks, start=1))
    found.StructureSetROISequence = [_region(n, organ, reference, maker) for n, organ in numbered]
    found.ROIContourSequence = [
        _contours(n, masks[organ], reference, places, colors[organ]) for n, organ in numbered
    ]
    found.RTROIObservationsSequence = [_observation(n, organ) for n, organ in numbered]
    found.file_meta = FileMetaDataset()
    # Explicit lengths of 16 bits would not hold the coordinates of a long contour.
    found.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    found.file_meta.MediaStorageSOPClassUID = RTStructureSetStorage
    return finished(found, reference)


def _item(**values: Any) -> Dataset:
    found = Dataset()
    for keyword, value in values.items():
        setattr(found, keyword, value)
    return found


def _image(header: Dataset, frame: int | None) -> Dataset:
    found = _item(
        ReferencedSOPClassUID=header.SOPClassUID,
        ReferencedSOPInstanceUID=header.SOPInstanceUID,
    )
    if frame is not None:
        found.ReferencedFrameNumber = frame
    return found


def _frame_of_reference(reference: Reference) -> Dataset:
    series = _item(
        SeriesInstanceUID=reference.headers[0].SeriesInstanceUID,
        ContourImageSequence=[_image(header, None) for header in reference.headers],
    )
    study = _item(
        ReferencedSOPClassUID=_STUDY_COMPONENT,
        ReferencedSOPInstanceUID=reference.headers[0].StudyInstanceUID,
        RTReferencedSeriesSequence=[series],
    )
    return _item(FrameOfReferenceUID=reference.frame_of_reference, RTReferencedStudySequence=[study])


def _region(number: int, organ: str, reference: Reference, maker: Maker) -> Dataset:
    return _item(
        ROINumber=number,
        ReferencedFrameOfReferenceUID=reference.frame_of_reference,
        ROIName=organ[:64],
        ROIGenerationAlgorithm="AUTOMATIC",
        ROIGenerationDescription=maker.name,
    )


def _contours(
    number: int, mask: npt.NDArray[np.bool_], reference: Reference, places: Any, color: Color
) -> Dataset:
    lines: list[Dataset] = []
    for index, (header, _) in enumerate(reference.of_slice):
        for line in planar_contours(mask[index]):
            points = places[index].points(line)
            lines.append(
                _item(
                    ContourImageSequence=[_image(header, reference.frame_number(index))],
                    ContourGeometricType="CLOSED_PLANAR",
                    NumberOfContourPoints=len(points),
                    ContourNumber=len(lines) + 1,
                    ContourData=[f"{value:.4f}" for value in (points.ravel() + 0.0)],
                )
            )
    found = _item(ROIDisplayColor=list(color), ReferencedROINumber=number)
    if lines:
        found.ContourSequence = lines
    return found


def _observation(number: int, organ: str) -> Dataset:
    code = organ_code(organ)
    named = _code(code.type)
    if code.modifier is not None:
        named.SegmentedPropertyTypeModifierCodeSequence = [_code(code.modifier)]
    return _item(
        ObservationNumber=number,
        ReferencedROINumber=number,
        RTROIIdentificationCodeSequence=[named],
        RTROIInterpretedType="ORGAN",
        ROIInterpreter="",
    )


def _code(code: Code) -> Dataset:
    value = {"CodeValue" if len(code.value) <= 16 else "LongCodeValue": code.value}
    return _item(**value, CodingSchemeDesignator=code.scheme, CodeMeaning=code.meaning)

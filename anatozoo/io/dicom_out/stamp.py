"""Who made a DICOM object, and identifiers that are the same whenever it is made again."""

from __future__ import annotations

import hashlib
import io
import uuid
from dataclasses import dataclass
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import UID

from anatozoo.errors import ConfigError
from anatozoo.io.dicom_out.codes import OURS, Code
from anatozoo.io.dicom_out.reference import Reference
from anatozoo.version import __version__

MANUFACTURER = "anatozoo"
_SPACE = uuid.UUID("6f1c4b53-53c4-5f0e-9a0e-1d4f0d7b7a10")
_LONGEST = 64
_PLACEHOLDER = "2.25.1"
_RANDOM = "1.2.826.0.1.3680043.10.511.3."
"""Start of the UIDs that highdicom draws."""
_OF_THE_RUN = ("InstanceCreationDate", "InstanceCreationTime", "ContributionDateTime")
_DATES, _TIMES = ("ContentDate", "PresentationCreationDate"), ("ContentTime", "PresentationCreationTime")


@dataclass(frozen=True)
class Maker:
    """What made an object.

    Attributes:
        checkpoint: name of the checkpoint.
        version: its version.
        flags: remarks on the result.
    """

    checkpoint: str
    version: str
    flags: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name and version, at most 64 characters."""
        return f"{self.checkpoint} {self.version}"[:_LONGEST]

    def equipment(self) -> dict[str, Any]:
        """The device, as highdicom's constructors take it."""
        return {
            "manufacturer": MANUFACTURER,
            "manufacturer_model_name": self.checkpoint[:_LONGEST],
            "software_versions": [__version__, self.version[:_LONGEST]],
            "device_serial_number": self.name,
        }

    def identity(self, reference: Reference, what: str, number: int) -> dict[str, Any]:
        """UIDs, numbers and description of an object, as highdicom's constructors take them.

        The objects of one kind that one checkpoint makes of one series are a series.

        Args:
            reference: what it refers to.
            what: kind of object, in a word.
            number: of its series.
        """
        source = reference.source
        told = "" if source.keep_patient else "without patient"
        series = uid_for(source.series, what, self.checkpoint, self.version, __version__, told)
        return {
            "series_instance_uid": series,
            "series_number": number,
            "sop_instance_uid": _PLACEHOLDER,
            "instance_number": reference.instance_number,
            "series_description": f"{what} by {self.name}"[:_LONGEST],
        }


def uid_for(*facts: str) -> str:
    """A UID that follows from facts: a UUID made from their names, as DICOM PS3.5 B.2 has it."""
    return f"2.25.{uuid.uuid5(_SPACE, chr(0).join(facts)).int}"


def needs_highdicom() -> None:
    """Make sure that highdicom can be imported.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import highdicom  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "DICOM objects need highdicom: `pip install 'anatozoo[dicom]'`, or `pip install highdicom`."
        ) from error


def finished(dataset: Dataset, reference: Reference) -> bytes:
    """The object as a file, the same bytes whenever the same is made of the same source.

    Its dates are those of the source, UIDs that a library drew follow from the series, and the SOPInstanceUID
    follows from all that it holds: two objects with one UID are equal.
    """
    series = str(dataset.SeriesInstanceUID)
    drawn: dict[str, str] = {}

    def settle(part: Dataset) -> None:
        for element in list(part):
            if element.VR == "SQ":
                for item in element.value or []:
                    settle(item)
            elif element.keyword in _OF_THE_RUN:
                del part[element.tag]
            elif element.keyword in _DATES:
                element.value = reference.date
            elif element.keyword in _TIMES:
                element.value = reference.time
            elif element.VR == "UI" and str(element.value).startswith(_RANDOM):
                drawn.setdefault(str(element.value), uid_for(series, "drawn", str(len(drawn))))
                element.value = UID(drawn[str(element.value)])

    settle(dataset)
    _name(dataset, _PLACEHOLDER)
    _name(dataset, uid_for(hashlib.sha256(_encoded(dataset)).hexdigest()))
    return _encoded(dataset)


def _name(dataset: Dataset, uid: str) -> None:
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(uid)


def _encoded(dataset: Dataset) -> bytes:
    file = io.BytesIO()
    pydicom.dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()


def concept(code: Code) -> Any:
    """A code as highdicom takes it."""
    from highdicom.sr import CodedConcept

    return CodedConcept(code.value, code.scheme, code.meaning)


def own_scheme() -> list[Any]:
    """Who is responsible for the codes that are ours, as highdicom takes it."""
    from highdicom.coding_schemes import CodingSchemeIdentificationItem

    item = CodingSchemeIdentificationItem(
        designator=OURS, name="Codes of anatozoo", responsible_organization=MANUFACTURER
    )
    return [item]

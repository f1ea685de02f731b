"""Which DICOM instances an image was read from, so that what is found in it can refer back to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


@dataclass(frozen=True)
class DicomFrame:
    """One frame of a DICOM file: a radiograph, or a slice of a volume.

    Attributes:
        path: the file; None where the data set was given itself.
        instance: its SOPInstanceUID, empty where it has none.
        number: number of the frame in the file, from 1.
        header: the data set itself, where no file holds it.
    """

    path: Path | None
    instance: str
    number: int = 1
    header: Dataset | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class DicomSource:
    """The frames that an image was read from.

    Attributes:
        study: StudyInstanceUID, empty where the files have none.
        series: SeriesInstanceUID, likewise.
        frames: those of the image, of a volume in the order of its slices.
        keep_patient: whether DICOM files that refer to them say who the patient is, as they do.
        show_uids: whether the result's JSON holds the UIDs.
    """

    study: str
    series: str
    frames: tuple[DicomFrame, ...]
    keep_patient: bool = True
    show_uids: bool = False

    @property
    def instances(self) -> tuple[str, ...]:
        """SOPInstanceUIDs of the files, each once, in the order of the slices."""
        return tuple(dict.fromkeys(frame.instance for frame in self.frames))

    def to_dict(self) -> dict[str, Any]:
        """The UIDs as JSON values."""
        return {
            "study_uid": self.study or None,
            "series_uid": self.series or None,
            "instance_uids": [uid for uid in self.instances if uid],
        }


def source_of(headers: Sequence[tuple[Dataset, DicomFrame]]) -> DicomSource:
    """The source of an image whose slices have these headers; of UIDs that differ, the first."""
    first = headers[0][0]
    frames = tuple(frame for _, frame in headers)
    return DicomSource(uid_of(first, "StudyInstanceUID"), uid_of(first, "SeriesInstanceUID"), frames)


def uid_of(header: Dataset, keyword: str) -> str:
    """A UID of a header; empty where it has none, or what it has is no UID."""
    from pydicom.uid import UID

    try:
        text = str(header.get(keyword) or "").strip().strip("\0")
    except (ValueError, TypeError, NotImplementedError):  # the value breaks its own VR: as good as absent
        return ""
    return text if UID(text, validation_mode=0).is_valid else ""

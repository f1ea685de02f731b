"""Read from DICOM files what groups of patients are made of, or UIDs, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from anatozoo.io.decoded import Metadata
from anatozoo.io.files import is_dicom
from anatozoo.io.quiet import quiet

_KEYWORDS = ["PatientSex", "PatientAge", "ViewPosition", "Modality", "Manufacturer"]
_UIDS = ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"]


def read_groups(path: Path) -> Metadata:
    """Sex, age, view, modality and manufacturer, see `anatozoo.io.dicom_header.groups_of`.

    Only these attributes are read: no pixels, no names, no identifiers.

    Returns:
        A value for each of `anatozoo.io.dicom_header.GROUPS`; empty for files that are not DICOM, or damaged.
    """
    if not is_dicom(path):
        return {}
    from anatozoo.io.dicom_file import read_dicom
    from anatozoo.io.dicom_header import groups_of

    with quiet():
        # pydicom warns of every breach of the standard; what breaks it is left out.
        try:
            header = read_dicom(path, stop_before_pixels=True, specific_tags=_KEYWORDS)
            return groups_of(header)
        except Exception:  # a hostile file makes the parser fail in any way it likes; reading it says why
            return {}


def read_uids(files: Sequence[Path]) -> tuple[list[str], list[str], list[str]]:
    """StudyInstanceUIDs, SeriesInstanceUIDs and SOPInstanceUIDs of files, each once, in their order.

    What is not DICOM, is damaged or has no such UID gives none; reading it says why.
    """
    found: tuple[dict[str, None], ...] = ({}, {}, {})
    for path in files:
        if not is_dicom(path):
            continue
        from anatozoo.io.dicom_file import read_dicom
        from anatozoo.io.dicom_source import uid_of

        with quiet():
            try:
                header = read_dicom(path, stop_before_pixels=True, specific_tags=_UIDS)
                uids = [uid_of(header, keyword) for keyword in _UIDS]
            except Exception:  # a hostile file makes the parser fail in any way it likes
                continue
        for kind, uid in zip(found, uids, strict=True):
            if uid:
                kind[uid] = None
    studies, series, instances = map(list, found)
    return studies, series, instances

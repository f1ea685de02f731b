"""Columns of a table that say which groups a patient and an image belong to, as DICOM files state them."""

from __future__ import annotations

from pathlib import Path

from anatozoo.io.dicom_groups import read_groups
from anatozoo.serve.manifest import Layout
from anatozoo.serve.options import OptionError

TEXTS = ("sex", "view", "modality", "manufacturer")
NUMBERS = ("age",)


def check_groups(one: str, name: str) -> None:
    """Refuse groups of anything but radiographs.

    Args:
        one: what the run's inputs are, in a word.
        name: the checkpoint's, for the message.

    Raises:
        OptionError: they are not.
    """
    if one != "image":
        raise OptionError("groups", f"are read from radiographs in DICOM; {name} takes {one}s.")


def with_groups(layout: Layout) -> Layout:
    """The layout with the columns that `group_texts` fills."""
    return Layout(layout.key, (*layout.details, *TEXTS), (*NUMBERS, *layout.numbers))


def group_texts(path: Path) -> dict[str, str]:
    """Sex, age in years, view, modality and manufacturer of a DICOM file as texts for a table.

    A text is empty where the header does not state the value or breaks the standard, see
    `anatozoo.io.dicom_header.groups_of`; all are for files that are not DICOM.
    """
    found = read_groups(path)
    texts = {name: str(found.get(name) or "") for name in TEXTS}
    ages = {name: "" if found.get(name) is None else f"{found[name]:.6g}" for name in NUMBERS}
    return texts | ages

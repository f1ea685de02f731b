"""Refuse tables that count an image twice."""

from __future__ import annotations

from anatozoo.errors import DataError
from anatozoo.fairness.columns import PATIENT_COLUMNS
from anatozoo.fairness.joins import says_which_image
from anatozoo.fairness.tables import NAMING, Scores


def check_images(scores: Scores, subject: str | None = None) -> None:
    """Refuse several rows of one image.

    Rows of one name are of different images where another column tells them apart: a second name, the
    patient, a column that another table was joined by, or one such as ``site``, ``view`` or ``position``.
    A table without names is taken as it is, and so are rows without one.

    Args:
        scores: rows of images.
        subject: column of the patient, whose images then may have one name.

    Raises:
        DataError: an image is there twice.
    """
    table = scores.table
    image = next((column for column in NAMING if column in table), None)
    if image is None or image == subject:
        return
    telling = {*NAMING, *PATIENT_COLUMNS, subject, *(column for each in scores.joined for column in each.own)}
    keys = [
        column
        for column in table.columns
        if column in telling or ("/" not in str(column) and says_which_image(str(column)))
    ]
    named = table[table[image].notna() & (table[image].astype(str).str.strip() != "")]
    doubled = named[named.duplicated(keys)]
    if len(doubled):
        raise DataError(
            f"{doubled[image].nunique()} images are in several rows, such as {doubled[image].iloc[0]}; each "
            "counts once. If the rows are of different images, give these names that tell them apart, such "
            "as a part of their path; if the names are those of patients, say so by --subject "
            f"{image}; else keep one row."
        )

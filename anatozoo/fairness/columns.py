"""Columns of a table of images that say whose image it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from anatozoo.errors import DataError
from anatozoo.metrics.columns import IMAGE_COLUMNS

if TYPE_CHECKING:
    import pandas as pd

PATIENT_COLUMNS = ("patient", "patient_id", "PatientID", "subject", "subject_id")


def number_patients(table: pd.DataFrame, subject: str | None) -> tuple[npt.NDArray[np.int64], str | None]:
    """Number of each row's patient, and the column that names it; None where each row is one.

    A row without a patient is one of its own; rows of one image are never two patients.
    """
    import pandas as pd

    if subject is not None and subject not in table:
        raise DataError(f"the table has no column {subject}; it has {', '.join(map(str, table.columns))}.")
    chosen = [subject] if subject is not None else [c for c in PATIENT_COLUMNS if c in table][:1]
    images = [c for c in IMAGE_COLUMNS if c in table and c not in chosen][:1]
    numbers = np.arange(len(table))
    for column in [*images, *chosen]:
        cells = table[column].astype(object)
        texts = cells.astype(str)
        stated = cells.notna() & (texts.str.strip() != "")
        numbers = np.where(stated, pd.factorize(texts)[0] + numbers.max(initial=0) + 1, numbers)
    used = [*chosen, *images]
    return np.asarray(pd.factorize(numbers)[0], np.int64), used[0] if used else None

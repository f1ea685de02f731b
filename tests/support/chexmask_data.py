"""Made-up tables in the frame of CheXmask's."""

import csv
from collections.abc import Sequence
from pathlib import Path

PADCHEST = (
    "ImageID", "Dice RCA (Max)", "Dice RCA (Mean)", "Landmarks", "Left Lung", "Right Lung", "Heart", "Height",
    "Width",
)  # fmt: skip
"""Header of CheXmask's table of Padchest; the other tables have the mean before the maximum."""


def write_padchest(path: Path, header: Sequence[str] = PADCHEST) -> Path:
    """Three rows without a size and two with one, as the published table has them.

    The columns of the first two rows are exchanged; the third one's are not, though it states no size.
    """
    rows = [
        ("a.png", 0.80, 0.90, "", "", "", "", "", ""),
        ("b.png", 0.70, 0.75, "", "", "", "", "", ""),
        ("c.png", 0.95, 0.85, "", "", "", "", "", ""),
        ("d.png", 0.90, 0.86, "", "", "", "", 20, 30),
        ("e.png", 0.88, 0.81, "", "", "", "", 20, 30),
    ]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return path

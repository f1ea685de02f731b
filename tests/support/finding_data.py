"""Images whose findings can be seen: a bright disc in noise."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from anatozoo.io.writers import write_csv

SIDE = 72


def picture(seed: int, disc: bool) -> np.ndarray:
    """A noisy image (72, 72) uint8, with a bright disc or without."""
    draw = np.random.default_rng(seed)
    image = draw.integers(20, 90, (SIDE, SIDE)).astype(np.uint8)
    if disc:
        x, y = (int(v) for v in draw.integers(20, 52, 2))
        cv2.circle(image, (x, y), 10, 250, -1)
    return image


def write_findings(
    root: Path,
    counts: dict[str, int] | None = None,
    name: str = "findings.csv",
    **columns: Any,
) -> Path:
    """Write images and their table, every second of which shows a disc; sexes alternate by pairs.

    Args:
        root: folder.
        counts: split -> images; two of a patient.
        name: of the table.
        columns: further columns: a function of the image's number.
    """
    (root / "images").mkdir(parents=True, exist_ok=True)
    rows, number = [], 0
    for split, count in (counts or {"train": 16, "val": 8}).items():
        for _ in range(count):
            file = f"{number:03d}.png"
            cv2.imwrite(str(root / "images" / file), picture(number, number % 2 == 1))
            own = [each(number) for each in columns.values()]
            rows.append(
                [file, f"p{number // 2}", split, "FM"[number // 2 % 2], 30 + number, number % 2, *own]
            )
            number += 1
    write_csv(root / name, ["image", "subject", "split", "sex", "age", "disc", *columns], rows)
    return root

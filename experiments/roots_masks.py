"""Photographs of barley as a manifest: grey pictures, and masks drawn from the lines of their RSML files.

    python experiments/roots_masks.py --root ROOTS --to FOLDER

ROOTS holds images/NAME.jpg, rsml/NAME.rsml and splits.json (split -> names). FOLDER receives grey PNG files,
masks in which every line is 12 pixels wide, about as thick as the roots are, and ``manifest.csv``, so that
``--data.root FOLDER`` and ``anatozoo evaluate --root FOLDER`` take it. Annotators traced centrelines; how
thick a root is they did not say.
"""

import argparse
import json
from pathlib import Path

import cv2
import numpy as np

from anatozoo.errors import DataError
from anatozoo.io.writers import write_csv
from anatozoo.roots.rsml import read_rsml

WIDTH_PX = 12
_SHIFT = 4  # OpenCV takes sixteenths of a pixel


def mask_of(path: Path, shape: tuple[int, int], width: int = WIDTH_PX) -> np.ndarray:
    """(H, W) uint8, 1 where a line of an RSML file is."""
    mask = np.zeros(shape, np.uint8)
    for plant in read_rsml(path):
        lines = [np.round(root.points * 2**_SHIFT).astype(np.int32) for root in plant.roots]
        cv2.polylines(mask, lines, False, 1, width, cv2.LINE_8, _SHIFT)
    return mask


def write_manifest(root: Path, to: Path) -> Path:
    """Write the pictures, the masks and the manifest; gives the folder.

    Raises:
        DataError: a file is missing or damaged.
    """
    rows = []
    for folder in ("images", "masks"):
        (to / folder).mkdir(parents=True, exist_ok=True)
    for split, names in json.loads((root / "splits.json").read_text(encoding="utf-8")).items():
        for name in names:
            grey = cv2.imread(str(root / "images" / f"{name}.jpg"), cv2.IMREAD_GRAYSCALE)
            if grey is None:
                raise DataError(f"{root} holds no picture images/{name}.jpg that can be read.")
            image, mask = (f"{folder}/{name}.png" for folder in ("images", "masks"))
            cv2.imwrite(str(to / image), grey)
            cv2.imwrite(str(to / mask), mask_of(root / "rsml" / f"{name}.rsml", grey.shape[:2]))
            rows.append((image, mask, name, split))
    print(f"{len(rows)} pictures")
    write_csv(to / "manifest.csv", ("image", "mask", "subject", "split"), rows)
    return to


def main() -> None:
    """Parse the options and write the folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--to", type=Path, required=True, help="folder to write")
    options = parser.parse_args()
    print(write_manifest(options.root, options.to))


if __name__ == "__main__":
    main()

"""Lower-grade gliomas as a manifest: slices with masks, institutions, sex and age.

    python experiments/lgg_slices.py --root LGG --to FOLDER

LGG holds images/PATIENT/NNN.png (FLAIR), masks/PATIENT/NNN.png (0 and 1, of zeros where a slice shows no
tumour), splits.json (split -> patients) and clinical.csv of the TCGA. FOLDER receives ``manifest.csv`` and
links to both folders, so that ``--data.root FOLDER`` and ``anatozoo evaluate --root FOLDER`` take it. All
slices of a patient are in one split; slices that are black throughout are left out. ``findings.csv`` says of
each slice whether it shows an abnormality, for classifiers. The columns ``sex``, ``age`` and ``domain``
(institution) reach the rows of evaluations, where `anatozoo audit` groups by them (``dataset`` is the
institution).
"""

import argparse
import csv
import json
from pathlib import Path

import cv2
import numpy as np

from anatozoo.errors import DataError
from anatozoo.io.writers import write_csv

COLUMNS = ("image", "mask", "subject", "split", "domain", "sex", "age")
FINDING = "abnormality"
SEXES = {"1": "F", "2": "M"}
"""What stands for the sexes in clinical.csv: codes in the order of the alphabet."""


def write_manifest(root: Path, to: Path) -> Path:
    """Write both tables and the links; gives the folder.

    Raises:
        DataError: a file is missing.
    """
    for name in ("images", "masks", "splits.json", "clinical.csv"):
        if not (root / name).exists():
            raise DataError(f"{root} holds no {name}; it must hold images, masks, splits.json, clinical.csv.")
    with (root / "clinical.csv").open(encoding="utf-8") as file:
        clinical = {row["Patient"]: row for row in csv.DictReader(file)}
    splits = json.loads((root / "splits.json").read_text(encoding="utf-8"))
    rows, shown, black = [], [], 0
    for split, patients in splits.items():
        for patient in patients:
            _, institution, number, *_ = patient.split("_")
            facts = clinical.get(f"TCGA_{institution}_{number}", {})
            known = (SEXES.get(facts.get("gender", ""), ""), facts.get("age_at_initial_pathologic", ""))
            for path in sorted((root / "images" / patient).glob("*.png")):
                if not np.ptp(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)):
                    black += 1
                    continue
                image, mask = (f"{folder}/{patient}/{path.name}" for folder in ("images", "masks"))
                rows.append((image, mask, patient, split, institution, *known))
                if (pixels := cv2.imread(str(root / mask), cv2.IMREAD_UNCHANGED)) is None:
                    raise DataError(f"{root / mask} is missing or damaged.")
                shown.append(int(pixels.any()))
    print(f"{len(rows)} slices of {len({row[2] for row in rows})} patients; {black} black ones left out.")
    to.mkdir(parents=True, exist_ok=True)
    for name in ("images", "masks"):
        if not (to / name).exists():
            (to / name).symlink_to((root / name).resolve(), target_is_directory=True)
    write_csv(to / "manifest.csv", COLUMNS, rows)
    own = [(image, *rest, abnormal) for (image, _, *rest), abnormal in zip(rows, shown, strict=True)]
    write_csv(to / "findings.csv", (COLUMNS[0], *COLUMNS[2:], FINDING), own)
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

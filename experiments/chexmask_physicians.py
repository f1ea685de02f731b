"""CheXmask's masks against the corrections of two physicians, recomputed from the published tables.

    python experiments/chexmask_physicians.py --root DIR --out docs/evidence

`--root` holds the tables of CheXmask's technical validation: ``DATASET.csv`` with the model's masks,
``DATASET_physician_1.csv`` and ``DATASET_physician_2.csv``, and the authors' own rows,
``physician_1_eval.csv``, ``physician_2_eval.csv`` and ``physician_2_vs_1_eval.csv``. Run lengths are decoded
in the frame of 1024 pixels; both lungs count as one organ. Beside our means stand the largest differences to
the authors' rows. Their 95th percentile pools both directions and is left out; ours is defined otherwise.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from comparing import write

from anatozoo.errors import DataError
from anatozoo.io.rle import ChexmaskRow, read_chexmask
from anatozoo.metrics.functional import dice, surface_distances
from anatozoo.metrics.tables import markdown_table

FRAME = (1024, 1024)
DATASETS = ("CANDID-PTX", "CheXpert", "ChestX-Ray8", "MIMIC-CXR-JPG", "Padchest", "VinDr-CXR")
PAIRS = {
    "model, physician 1": ("", "_physician_1", "physician_1_eval.csv"),
    "model, physician 2": ("", "_physician_2", "physician_2_eval.csv"),
    "physician 2, physician 1": ("_physician_2", "_physician_1", "physician_2_vs_1_eval.csv"),
}
AUTHORS = {
    "dice/lungs": "Dice Lungs",
    "dice/heart": "Dice Heart",
    "hd_px/lungs": "Hausdorff Lungs",
    "hd_px/heart": "Hausdorff Heart",
}
Row = dict[str, Any]


def organs(row: ChexmaskRow) -> dict[str, npt.NDArray[np.bool_]]:
    """Both lungs as one mask, and the heart."""
    masks = row.masks(FRAME)
    return {"lungs": masks["lung_right"] | masks["lung_left"], "heart": masks["heart"]}


def compare(one: ChexmaskRow, other: ChexmaskRow) -> Row:
    """Dice and Hausdorff distances of both organs."""
    result: Row = {}
    for (organ, a), b in zip(organs(one).items(), organs(other).values(), strict=True):
        result[f"dice/{organ}"] = dice(a, b)
        result[f"hd_px/{organ}"] = surface_distances(a, b).hausdorff()
    return result


def measure(root: Path, first: str, second: str) -> pd.DataFrame:
    """One row for each image that both tables of a data set have."""
    rows = []
    for dataset in DATASETS:
        one, other = (read_chexmask(root / f"{dataset}{part}.csv") for part in (first, second))
        if one.keys() != other.keys():
            raise DataError(f"{dataset}{first}.csv and {dataset}{second}.csv are of different images.")
        rows += [{"dataset": dataset, "image": image} | compare(one[image], other[image]) for image in one]
    return pd.DataFrame(rows)


def beside(table: pd.DataFrame, path: Path) -> dict[str, float]:
    """The largest difference to the authors' rows, by column."""
    theirs = pd.read_csv(path)
    key = theirs["Dataset"].astype(str) + "/" + theirs["ImageID"].astype(str)
    theirs = theirs.set_index(key)
    ours = table.set_index(table["dataset"] + "/" + table["image"])
    if set(ours.index) != set(theirs.index):
        raise DataError(f"{path} is of other images than the tables.")
    return {
        column: float((ours[column] - theirs.loc[ours.index, name]).abs().max())
        for column, name in AUTHORS.items()
    }


def means(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Data set -> number of images and mean of each column."""
    groups = {str(name): rows for name, rows in table.groupby("dataset", sort=False)} | {"all": table}
    found: dict[str, dict[str, float]] = {}
    for name, rows in groups.items():
        found[name] = {"n": len(rows)} | {column: float(rows[column].mean()) for column in AUTHORS}
    return found


def markdown(record: dict[str, Any]) -> str:
    """The record as tables."""
    lines = ["# CheXmask against physicians", "", record["about"]]
    for name, found in record["pairs"].items():
        rows = []
        for dataset, values in found["means"].items():
            cells = [f"{values[c]:.{4 if c.startswith('dice') else 2}f}" for c in AUTHORS]
            rows.append([dataset, str(values["n"]), *cells])
        rows.append(["largest difference", "", *(f"{found['difference'][c]:.2g}" for c in AUTHORS)])
        lines += ["", f"## {name}", "", *markdown_table(["data set", "n", *AUTHORS], rows)]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Parse the options, measure, write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found: dict[str, dict[str, Any]] = {}
    for name, (first, second, authors) in PAIRS.items():
        table = measure(options.root, first, second)
        found[name] = {"means": means(table), "difference": beside(table, options.root / authors)}
        print(name, json.dumps(found[name]["means"]["all"]), found[name]["difference"], flush=True)
    if options.out is None:
        return
    command = "python experiments/chexmask_physicians.py --root DIR --out docs/evidence"
    about = (
        "Masks of the model and of two physicians who corrected its landmarks, in the frame of 1024 pixels, "
        "from run lengths; means over images, and the largest difference of an image to the authors' own "
        f"row. `{command}`"
    )
    record = {"command": command, "about": about, "pairs": found}
    write(options.out, "chexmask-physicians_experiment", record, markdown(record))


if __name__ == "__main__":
    main()

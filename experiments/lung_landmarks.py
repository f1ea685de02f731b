"""Landmarks of lungs in covid-cxr's manner: masks that go on behind the heart become landmarks like JSRT's.

    python experiments/lung_landmarks.py --root DIR --out OUT

A model segments the heart of each radiograph. What it covers is taken from the lungs' masks, as JSRT's lungs
end at the heart, and Seg2Graph gives the landmarks of lungs and heart. OUT is a data set in the layout
``folder``: ``images/``, ``annotations/`` with the lungs' landmarks, and ``manifest.csv`` with patients and
splits. Landmarks that do not reproduce the masks are left out and counted. The hearts are guesses; they are
not kept, and where lungs meet the heart the landmarks are guesses, too.
"""

import argparse
import csv
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import anatozoo
from anatozoo.io.chest import ChestCase, index_chest
from anatozoo.io.grid import Grid
from anatozoo.io.landmarks import write_landmarks
from anatozoo.io.organ_masks import OrganMasks
from anatozoo.organs import LUNGS

COLUMNS = ("image", "mask", "subject", "split", "domain", "view", "sex", "age")


def landmarks_of(
    case: ChestCase, segmenter: Any, finder: Any
) -> tuple[Mapping[str, Any], Mapping[str, float]]:
    """Landmarks of the lungs of one radiograph, and the Dice with which they reproduce the masks."""
    heart = np.asarray(segmenter.predict(case.image).masks["heart"])
    masks = {organ: case.read_mask(organ) for organ in LUNGS}
    height, width = masks["lung_right"].shape
    if heart.shape != (height, width):
        raise SystemExit(f"{case.id}: image and masks differ in size.")
    cut = {organ: mask & ~heart for organ, mask in masks.items()}
    result = finder.predict(OrganMasks({**cut, "heart": heart}, Grid((width, height))))
    return {organ: result.landmarks[organ] for organ in LUNGS}, {organ: result.dice[organ] for organ in LUNGS}


def main() -> None:
    """Parse the options, find landmarks, write the data set."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, required=True, help="folder that holds covid-cxr")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--segmenter", default="hybridgnet-chexmask", help="model that segments the heart")
    parser.add_argument("--finder", default="seg2graph-jsrt", help="model that finds landmarks of masks")
    parser.add_argument("--least-dice", type=float, default=0.95, help="below, landmarks are left out")
    options = parser.parse_args()
    segmenter = anatozoo.load(options.segmenter, trainable=False)
    finder = anatozoo.load(options.finder, trainable=False)
    for name in ("images", "annotations"):
        (options.out / name).mkdir(parents=True, exist_ok=True)
    rows, left_out = [], []
    for case in [case for split in ("train", "val") for case in index_chest(options.root, "covid", split)]:
        assert case.image is not None
        points, dice = landmarks_of(case, segmenter, finder)
        if min(dice.values()) < options.least_dice:
            left_out.append((case.id, min(dice.values())))
            continue
        image = Path("images") / case.image.name
        shutil.copyfile(case.image, options.out / image)
        file = Path("annotations") / f"{case.id}.json"
        write_landmarks(options.out / file, points)
        facts = {key: case.metadata.get(key, "") for key in ("view", "sex", "age")}
        known = {"image": image, "mask": file, "subject": case.patient, "split": case.split}
        rows.append({**known, "domain": "covid-cxr", **facts})
        print(case.id, {organ: round(value, 3) for organ, value in dice.items()}, flush=True)
    with (options.out / "manifest.csv").open("w", newline="") as file_:
        writer = csv.DictWriter(file_, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    print(f"{len(rows)} radiographs; left out, as a lung's Dice is below {options.least_dice}: {left_out}.")


if __name__ == "__main__":
    main()

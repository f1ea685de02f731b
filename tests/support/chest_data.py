"""A small data set in the layout that users download, made of generated radiographs."""

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from anatozoo.io.chest_folders import FRAME, LANDMARK_FOLDERS
from tests.support.phantoms import ChestPhantom, make_chest_phantom

SPLITS = {"train": 5, "val": 5, "test": 2}
COVID_SIDE = 64
"""Pixels of the images of `write_covid`."""


def write_chest_data(root: Path, splits: Mapping[str, int] = SPLITS, *, side: int = 128) -> Path:
    """Write radiographs, landmarks in the frame of 1024 pixels, and split lists; returns `root`.

    Each image is the same chest, moved and scaled in its own way, so that images differ and can be learnt.
    """
    number = 0
    for split, count in splits.items():
        names = [f"JPCLN{number + i + 1:03d}" for i in range(count)]
        for name in names:
            write_case(root, name, *moved_chest(side, number))
            number += 1
        (root / "splits").mkdir(parents=True, exist_ok=True)
        (root / "splits" / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    return root


def write_case(root: Path, name: str, image: np.ndarray, landmarks: Mapping[str, np.ndarray]) -> None:
    """Write a radiograph and its landmarks.

    Args:
        root: folder of the data set.
        name: of the image.
        image: (side, side), uint8.
        landmarks: organ -> (N, 2), in pixels of the image.
    """
    (root / "images").mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(root / "images" / f"{name}.png"), image)
    for folder, organ in LANDMARK_FOLDERS.items():
        path = root / "landmarks" / folder / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, (landmarks[organ] + 0.5) * FRAME / len(image) - 0.5)


def moved_chest(side: int, seed: int) -> ChestPhantom:
    """The phantom of `side` x `side` pixels, moved and scaled in a way that follows from the seed."""
    return make_chest_phantom(side, side, seed=seed, move=True)


def write_covid(root: Path) -> None:
    """Write twelve grey ramps with the masks of two lungs, of a patient each, as ``root/covid-cxr``."""
    folder = root / "covid-cxr"
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    labels = np.zeros((COVID_SIDE, COVID_SIDE), np.uint8)
    labels[10:50, 5:25], labels[10:50, 35:60] = 1, 2
    lines = ["image,mask,patient,sex,age,view"]
    for number in range(12):
        grey = np.add.outer(np.arange(COVID_SIDE), np.arange(COVID_SIDE)).astype(np.uint8) + number
        cv2.imwrite(str(folder / "images" / f"c{number}.png"), grey)
        cv2.imwrite(str(folder / "masks" / f"c{number}.png"), labels)
        lines.append(f"c{number}.png,c{number}.png,p{number},F,50,PA")
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")

"""A small data set of short-axis stacks with label maps in the layout of ACDC, generated."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from anatozoo.data.layouts.acdc import ACDC_LABELS
from anatozoo.io.grid import Grid, grid_of_itk, itk_image
from anatozoo.io.phantoms import heart_phantom
from anatozoo.meshes.files import ENDING, write_heart
from anatozoo.meshes.heart import HeartMesh, heart_mesh
from anatozoo.meshes.sheets import SheetSize


def heart(depth: int, height: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A left ventricle in its myocardium and a right ventricle beside them, bright in noise."""
    z, y, x = np.ogrid[:depth, :height, :width]
    size = min(height, width) * (0.16 - 0.004 * np.abs(z - depth / 2))
    away = np.hypot(y - height / 2, x - width / 2) + 0 * z
    beside = np.hypot(y - height / 2, x - width / 2 + 1.6 * size)
    labels = np.zeros((depth, height, width), np.uint8)
    labels[beside < size] = 1
    labels[away < size] = 2
    labels[away < 0.6 * size] = 3
    labels[0] = 0
    grey = np.array([40, 200, 90, 220], np.float32)[labels]
    return grey + np.random.default_rng(seed).normal(0, 10, labels.shape).astype(np.float32), labels


def write_hearts(root: Path, splits: dict[str, list[int]], *, spacing: Any = None) -> Path:
    """Two frames of each patient in the layout of ACDC, beside a cine."""
    names: dict[str, list[str]] = {}
    for split, numbers in splits.items():
        names[split] = [f"patient{n:03}" for n in numbers]
        for number, name in zip(numbers, names[split], strict=True):
            folder = root / "training" / name
            folder.mkdir(parents=True)
            (folder / "Info.cfg").write_text("ED: 1\nES: 9\nGroup: HCM\n")
            (folder / f"{name}_4d.nii.gz").write_bytes(b"a cine that nobody reads")
            for frame in (1, 9):
                image, labels = heart(7 + number % 2, 40, 32 + number, seed=number)
                grid = Grid(labels.shape[::-1], spacing)
                for end, values in (("", image), ("_gt", labels)):
                    path = folder / f"{name}_frame{frame:02}{end}.nii.gz"
                    sitk.WriteImage(itk_image(values, grid), str(path))
    (root / "splits.json").write_text(json.dumps(names))
    return root


def drawn_masks() -> tuple[dict[str, np.ndarray], Grid]:
    """Masks of a drawn heart with an apex and a right ventricle beside it, and their grid."""
    phantom = heart_phantom()
    labels = np.asarray(phantom.labels)
    return {organ: labels == value for organ, value in ACDC_LABELS.items()}, grid_of_itk(phantom.image)


def drawn_heart() -> HeartMesh:
    """The mesh of the drawn heart."""
    return heart_mesh(*drawn_masks())


def write_meshes(folder: Path, size: SheetSize) -> Path:
    """Meshes of ten patients in two phases, one as wide as another is not, and the list of the splits."""
    heart = heart_mesh(*drawn_masks(), size)
    for number in range(10):
        for phase, factor in (("ed", 1.0), ("es", 0.8)):
            wide = factor * (0.8 + 0.04 * number)
            write_heart(
                folder / f"p{number}_{phase}{ENDING}", heart.placed(heart.aligned() * (wide, wide, 1))
            )
    splits = {"train": [f"p{number}" for number in range(8)], "val": ["p8", "p9"]}
    (folder / "splits.json").write_text(json.dumps(splits))
    return folder

"""Small data sets of labelled volumes, in the layout of the Medical Segmentation Decathlon, and of slices."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import PIL.Image
import SimpleITK as sitk

from anatozoo.io.grid import Grid, itk_image


def write_volumes(
    root: Path,
    names: Sequence[str],
    *,
    values: tuple[int, int] = (1, 2),
    splits: Mapping[str, Sequence[str]] | None = None,
) -> Path:
    """Write volumes of different sizes at 1 mm with a bright block of two labels; returns `root`.

    Args:
        root: folder to write to.
        names: names of the volumes.
        values: what the label maps hold.
        splits: content of ``splits.json``; None writes none.
    """
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        shape = (12 + number, 14, 16 - number)
        labels = np.zeros(shape, np.uint8)
        labels[4:8, 4:10, 4:8], labels[4:8, 4:10, 8:12] = values
        image = np.random.default_rng(number).random(shape) * 10 + 100 * (labels > 0)
        grid = Grid(shape[::-1], (1.0, 1.0, 1.0))
        for folder, array in (("imagesTr", image.astype(np.float32)), ("labelsTr", labels)):
            sitk.WriteImage(itk_image(array, grid), str(root / folder / f"{name}.nii.gz"))
    if splits is not None:
        (root / "splits.json").write_text(json.dumps({k: list(v) for k, v in splits.items()}))
    return root


def write_slices(root: Path, names: Sequence[str], splits: Mapping[str, Sequence[str]]) -> Path:
    """Write slices with a bright square, ``images`` and ``masks``, and ``splits.json``; returns `root`."""
    for number, name in enumerate(names):
        mask = np.zeros((40, 48), np.uint8)
        mask[10:20, 12 + number : 24] = 1
        image = np.random.default_rng(number).integers(0, 90, mask.shape) + 120 * mask
        for folder, array in (("images", image.astype(np.uint8)), ("masks", mask)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            PIL.Image.fromarray(array).save(root / folder / f"{name}.png")
    (root / "splits.json").write_text(json.dumps({key: list(value) for key, value in splits.items()}))
    return root

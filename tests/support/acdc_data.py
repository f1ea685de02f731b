"""A small data set of short-axis label maps in the layout of ACDC, generated."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from anatozoo.io.grid import Grid, itk_image

SPACING_MM = (1.5, 1.25, 10.0)


def write_acdc(root: Path, patients: int = 3, *, splits: Mapping[str, Sequence[int]] | None = None) -> Path:
    """Write label maps of two frames of each patient, without images; returns `root`.

    Of four slices the first is empty and the last shows the left ventricle (3) alone.

    Args:
        root: folder to write to.
        patients: how many there are.
        splits: numbers of the patients of each split, for ``splits.json``; None writes none.
    """
    for number in range(1, patients + 1):
        volume = np.zeros((4, 20, 30), np.uint8)
        volume[1:3, 5:15, 5:10], volume[1:3, 5:15, 10:12], volume[1:3, 5:15, 12:20] = 1, 2, 3
        volume[3, 5:8, 12:20] = 3
        for frame in (1, 9):
            path = root / "training" / name(number) / f"{name(number)}_frame{frame:02}_gt.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            sitk.WriteImage(itk_image(volume, Grid((30, 20, 4), SPACING_MM)), str(path))
    if splits is not None:
        lists = {split: [name(number) for number in numbers] for split, numbers in splits.items()}
        (root / "splits.json").write_text(json.dumps(lists))
    return root


def name(number: int) -> str:
    """Name of a patient."""
    return f"patient{number:03}"

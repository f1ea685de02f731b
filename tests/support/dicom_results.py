"""Results that were found in DICOM files."""

from pathlib import Path
from typing import Any

import numpy as np

from anatozoo.io.images import read_image
from anatozoo.io.read import read_stack
from anatozoo.results.contours import ContourResult
from anatozoo.results.volume import VolumeResult
from tests.support.dicom_data import STUDY, write_frames, write_series
from tests.support.fake_model import FakeSegmenter

HEART = ("right_ventricle", "myocardium", "left_ventricle")
WITH_UIDS = {key: STUDY[key] for key in ("StudyInstanceUID", "SeriesInstanceUID")}


def heart_labels() -> np.ndarray:
    """Labels (6, 40, 50) with holes, a hole in a hole, parts, a part at the border and empty slices."""
    labels = np.zeros((6, 40, 50), np.uint8)
    labels[1:5, 5:30, 8:30] = 1
    labels[2:4, 8:22, 11:25] = 0
    labels[2:4, 12:18, 15:20] = 1
    labels[2, 24:27, 10:13] = labels[2, 24, 20] = 0
    labels[2:5, 31:39, 30:45] = 2
    labels[1, 0:3, 0:4] = labels[5, 39, 49] = 3
    return labels


def grey() -> np.ndarray:
    """A volume (6, 40, 50) of uint16."""
    return np.random.default_rng(0).integers(0, 1000, (6, 40, 50)).astype(np.uint16)


def on_volume(path: Path, labels: np.ndarray | None = None) -> VolumeResult:
    """Labels of a heart on a DICOM volume."""
    stack = read_stack(path)
    found = heart_labels() if labels is None else labels
    return VolumeResult("acnn-test", "1.2.0", str(path), stack.grid, HEART, found, dicom=stack.dicom)


def on_series(folder: Path, **attributes: Any) -> VolumeResult:
    """The same on a series of single slices, whose names are in another order."""
    return on_volume(write_series(folder, grey(), **{**STUDY, **attributes}))


def on_frames(path: Path, **attributes: Any) -> VolumeResult:
    """The same on a file of several frames, the last slice first."""
    return on_volume(write_frames(path, grey(), **{**STUDY, **attributes}))


def on_radiograph(path: Path) -> ContourResult:
    """Contours on a radiograph."""
    found = FakeSegmenter().predict(read_image(path))
    assert isinstance(found, ContourResult)
    return found

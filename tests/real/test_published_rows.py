"""Rows of published tables, recomputed from the published files by our metrics."""

from pathlib import Path

import numpy as np
import pytest

from anatozoo.io.chest import index_chest
from anatozoo.io.landmarks import read_landmarks
from anatozoo.metrics.chest import draw_masks, landmark_metrics, mask_metrics

pytestmark = pytest.mark.real


def folder(shared: Path, name: str) -> Path:
    path = shared / "data" / name
    if not path.is_dir():
        pytest.skip(f"{path} is absent")
    return path


def test_multi_atlas_row_of_the_jsrt_table(shared: Path) -> None:
    """Gaggion et al., IEEE TMI 2022: the multi-atlas baseline on the 51 test images."""
    predictions = folder(shared, "jsrt/multiatlas_points")
    cases = index_chest(shared / "data", "jsrt", "test")
    assert len(cases) == 51
    rows = []
    for case in cases:
        prediction = read_landmarks(predictions / f"{case.id}.npy")
        core = {organ: prediction[organ] for organ in ("lung_right", "lung_left", "heart")}
        rows.append(landmark_metrics(core, case.landmarks, spacing_mm=0.35))

    def column(name: str) -> np.ndarray:
        return np.array([row[name] for row in rows])

    assert round(float(column("mse_px2").mean()), 3) == 492.262
    assert round(float(column("mse_px2").std()), 3) == 298.138
    assert round(float(column("dice/lungs").mean()), 4) == 0.9444
    assert round(float(column("dice/heart").mean()), 4) == 0.8865
    assert round(float(column("hd_mm/lungs").mean()), 3) == 20.317
    assert round(float(column("hd_mm/heart").mean()), 3) == 16.780


def test_jsrt_contours_fill_the_scr_masks(shared: Path) -> None:
    folder(shared, "jsrt/masks")
    cases = [c for c in index_chest(shared / "data", "jsrt") if c.masks and c.landmarks][::8]
    assert len(cases) > 20
    rows = []
    for case in cases:
        masks = {organ: case.read_mask(organ) for organ in ("lung_right", "lung_left", "heart")}
        rows.append(mask_metrics(draw_masks(case.landmarks, case.size, case.size), masks))
    for name in ("dice/lungs", "dice/heart"):
        assert np.mean([row[name] for row in rows]) == pytest.approx(0.995, abs=0.002)


def test_public_data_sets_are_indexed_whole(shared: Path) -> None:
    folder(shared, "jsrt")
    folder(shared, "covid-cxr")
    folder(shared, "chest-xray-landmark-dataset")
    jsrt = index_chest(shared / "data", "jsrt")
    counts = {split: sum(case.split == split for case in jsrt) for split in ("train", "val", "test", None)}
    assert counts == {"train": 174, "val": 21, "test": 51, None: 1}
    assert [case.id for case in jsrt if case.split is None] == ["JPCLN016"]
    landmarks = index_chest(shared / "data", "landmarks")
    assert len(landmarks) == 911
    assert sum("heart" in case.landmarks for case in landmarks) == 383
    assert sum("clavicle_left" in case.landmarks for case in landmarks) == 246
    covid = index_chest(shared / "data", "covid")
    assert len(covid) == 356
    assert all(case.image and len(case.masks) == 2 for case in covid)

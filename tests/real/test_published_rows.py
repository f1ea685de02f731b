"""Rows of published tables, recomputed from the published files by our metrics."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from anatozoo.cli.main import main
from anatozoo.io.chest import index_chest

pytestmark = pytest.mark.real


def folder(shared: Path, name: str) -> Path:
    path = shared / "data" / name
    if not path.is_dir():
        pytest.skip(f"{path} is absent")
    return path


def columns_of(prediction: Path, reference: Path, out: Path, *options: str) -> pd.DataFrame:
    """Rows that `anatozoo evaluate` writes for files."""
    command = ["evaluate", "--pred", str(prediction), "--ref", str(reference), "--out", str(out)]
    assert main([*command, *options]) == 0
    (table,) = out.glob("*.csv")
    return pd.read_csv(table, dtype={"id": str})


def test_multi_atlas_row_of_the_jsrt_table(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Gaggion et al., IEEE TMI 2022: the multi-atlas baseline on the 51 test images."""
    predictions = folder(shared, "jsrt/multiatlas_points")
    reference = folder(shared, "chest-xray-landmark-dataset/landmarks")
    rows = columns_of(predictions, reference, tmp_path, "--spacing-mm", "0.35")
    assert sorted(rows["id"]) == sorted(case.id for case in index_chest(shared / "data", "jsrt", "test"))
    assert len(rows) == 51
    # Prediction and reference have clavicles too; the published error is that of lungs and heart.
    assert round(rows["mse_px2/lungs_heart"].mean(), 3) == 492.262
    assert round(rows["mse_px2/lungs_heart"].std(ddof=0), 3) == 298.138
    assert round(rows["dice/lungs"].mean(), 4) == 0.9444
    assert round(rows["dice/heart"].mean(), 4) == 0.8865
    assert round(rows["hd_mm/lungs"].mean(), 3) == 20.317
    assert round(rows["hd_mm/lungs"].std(ddof=0), 3) == 9.344
    assert round(rows["hd_mm/heart"].mean(), 3) == 16.780
    assert round(rows["hd_mm/heart"].std(ddof=0), 3) == 6.839
    assert "492.262 ± 298.138" in capsys.readouterr().out


def test_jsrt_contours_fill_the_scr_masks(shared: Path, tmp_path: Path) -> None:
    """The contours were drawn along SCR's masks; 196 of these are here, one without contours (JPCLN016)."""
    landmarks = folder(shared, "chest-xray-landmark-dataset/landmarks")
    rows = columns_of(landmarks, folder(shared, "jsrt/masks"), tmp_path, "--rounding", "nearest")
    assert len(rows) == 195
    for name in ("dice/lungs", "dice/heart"):
        assert rows[name].mean() == pytest.approx(0.995, abs=0.002)
        assert rows[name].notna().all()


PHYSICIANS = {
    "physician_1_eval.csv": ("{}.csv", "{}_physician_1.csv", (0.9661, 0.9228, 36.67, 35.20, 346.5)),
    "physician_2_eval.csv": ("{}.csv", "{}_physician_2.csv", (0.9714, 0.9632, 30.67, 20.28, 266.2)),
    "physician_2_vs_1_eval.csv": (
        "{}_physician_2.csv",
        "{}_physician_1.csv",
        (0.9734, 0.9378, 30.02, 28.55, 225.9),
    ),
}


@pytest.mark.parametrize("published", PHYSICIANS)
def test_agreement_with_physicians_on_chexmask(published: str, shared: Path, tmp_path: Path) -> None:
    """Gaggion et al., Scientific Data 2024: 305 images of six data sets, whose tables hold run lengths.

    Their 95th percentile pools the distances of both directions, as medpy does; ours is the larger of the two
    directions' percentiles, so it is not compared here.
    """
    data = folder(shared, "chexmask")
    prediction, reference, means = PHYSICIANS[published]
    parts = [
        columns_of(data / prediction.format(name), data / reference.format(name), tmp_path / name)
        for name in ("CANDID-PTX", "CheXpert", "ChestX-Ray8", "MIMIC-CXR-JPG", "Padchest", "VinDr-CXR")
    ]
    rows = pd.concat(parts).set_index("id")
    assert len(rows) == 305
    theirs = pd.read_csv(data / published)
    theirs.index = theirs["ImageID"].str.replace(r"\.(png|jpg)$", "", regex=True)
    names = {
        "dice/lungs": "Dice Lungs",
        "dice/heart": "Dice Heart",
        "hd_px/lungs": "Hausdorff Lungs",
        "hd_px/heart": "Hausdorff Heart",
        "mse_px2": "MSE",
    }
    for (ours, other), mean, digits in zip(names.items(), means, (4, 4, 2, 2, 1), strict=True):
        # Every single image, not only their mean; the errors were stored as single precision.
        np.testing.assert_allclose(rows[ours], theirs.loc[rows.index, other], rtol=2e-6, atol=1e-12)
        assert round(rows[ours].mean(), digits) == mean


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

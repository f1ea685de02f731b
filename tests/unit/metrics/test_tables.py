import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest

from anatozoo.metrics.chest import draw_masks, landmark_metrics, mask_metrics, to_frame
from anatozoo.metrics.tables import describe, markdown, summarise, write_tables
from tests.phantoms import make_chest_phantom

ROWS = [
    {"id": "a", "view": "PA", "sex": "M", "dice/lungs": 0.9, "mse_px2": 100.0},
    {"id": "b", "view": "AP", "sex": "M", "dice/lungs": 0.6, "mse_px2": math.nan},
    {"id": "c", "view": "AP", "sex": None, "dice/lungs": 0.7},
]


def test_statistics_count_the_images_that_have_the_value() -> None:
    statistics = describe(ROWS)
    assert statistics["dice/lungs"] == {
        "n": 3,
        "mean": pytest.approx(2.2 / 3),
        "sd": pytest.approx(np.std([0.9, 0.6, 0.7])),
        "median": 0.7,
        "min": 0.6,
        "max": 0.9,
    }
    assert statistics["mse_px2"]["n"] == 1
    assert list(statistics) == ["dice/lungs", "mse_px2"]


def test_summary_has_failures_and_groups_with_several_values() -> None:
    summary = summarise(ROWS)
    assert summary["images"] == 3
    assert (summary["failures"]["failed"], summary["failures"]["n"]) == (1, 3)
    assert list(summary["groups"]) == ["view"]
    assert summary["groups"]["view"]["AP"]["failures"]["rate"] == 0.5
    assert summary["groups"]["view"]["PA"]["metrics"]["dice/lungs"]["median"] == 0.9
    assert summarise([{"id": "a", "mse_px2": 1.0}])["failures"] is None


def test_tables_are_written_and_agree(tmp_path: Path) -> None:
    head = {
        "checkpoint": "net",
        "version": "1",
        "data": "covid",
        "split": "val",
        "command": "run",
        "versions": {},
    }
    summary = head | summarise(ROWS)
    paths = write_tables(tmp_path, "net_covid", ROWS, summary)
    assert [path.name for path in paths] == ["net_covid.csv", "net_covid.json", "net_covid.md"]
    rows = list(csv.DictReader(paths[0].read_text().splitlines()))
    assert [row["mse_px2"] for row in rows] == ["100.0", "", ""]
    assert json.loads(paths[1].read_text()) == json.loads(json.dumps(summary))
    text = paths[2].read_text()
    assert text == markdown(summary)
    assert "| dice/lungs | 3 | 0.7333 ± 0.1247 | 0.7000 | 0.6000 | 0.9000 |" in text
    assert "dice/lungs below 0.7: 1 of 3 images (33.3%)." in text
    assert "| AP | 2 | 0.6500 ± 0.0500 | 0.6500 | – | – | 1 of 2 |" in text


def test_landmark_metrics_of_a_shift() -> None:
    truth = {organ: np.trunc(p) for organ, p in make_chest_phantom(1024, 1024).landmarks.items()}
    moved = {organ: p + [3.0, 4.0] for organ, p in truth.items()}
    row = landmark_metrics(moved, truth, spacing_mm=0.35)
    assert row["mse_px2"] == row["mse_px2/lungs_heart"] == 12.5
    assert row["error_px"] == 5.0
    for organ in (*truth, "lungs"):
        assert 0 < row[f"dice/{organ}"] < 1
        assert 0 < row[f"assd_px/{organ}"] <= row[f"hd_px/{organ}"] <= 5.0
        assert row[f"hd_mm/{organ}"] == pytest.approx(0.35 * row[f"hd_px/{organ}"])
    assert not any("_mm" in name for name in landmark_metrics(moved, truth))
    perfect = landmark_metrics(truth, truth)
    assert perfect["dice/lungs"] == 1.0
    assert perfect["hd_px/heart"] == perfect["mse_px2"] == 0.0


def test_rounding_decides_where_a_contour_meets_the_grid() -> None:
    square = np.array([[10.0, 10.0], [30.0, 10.0], [30.0, 30.0], [10.0, 30.0]])
    nearly = {"heart": square + 0.9}
    assert landmark_metrics(nearly, {"heart": square}, rounding="truncate")["dice/heart"] == 1.0
    assert landmark_metrics(nearly, {"heart": square}, rounding="nearest")["hd_px/heart"] == math.sqrt(2)


def test_masks_of_another_size_show_the_same_view() -> None:
    phantom = make_chest_phantom(512, 512)
    full = draw_masks(phantom.landmarks, (512, 512), (512, 512))
    half = draw_masks(phantom.landmarks, (512, 512), (256, 256))
    blocks = {organ: mask.reshape(256, 2, 256, 2).mean((1, 3)) >= 0.5 for organ, mask in full.items()}
    row = mask_metrics(half, blocks)
    assert min(row[f"dice/{organ}"] for organ in ("lungs", "lung_left", "lung_right", "heart")) > 0.98


def test_frame_maps_pixel_centres() -> None:
    points = to_frame({"heart": np.array([[0.5, 0.5], [2047.0, 0.0]])}, (2048, 2048))
    np.testing.assert_allclose(points["heart"], [[0.0, 0.0], [1023.25, -0.25]])

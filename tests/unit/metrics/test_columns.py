from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from anatozoo.errors import DataError
from anatozoo.fairness.tables import choose_metrics
from anatozoo.metrics.columns import is_share, metric_values
from anatozoo.metrics.compare import compare_rows, read_rows


@pytest.mark.parametrize("value", [91.3, 1.7, -0.2, -1, np.inf])
def test_shares_outside_their_range_are_refused(value: float, tmp_path: Path) -> None:
    rows = pd.DataFrame(
        {"id": ["a", "b", "c"], "dice/heart": [0.9, value, 0.8], "hd_px/heart": [1, value, 2]}
    )
    message = f"the column dice/heart holds {value:g} in the row of b; it runs from 0 to 1"
    with pytest.raises(DataError, match=message):
        metric_values(rows, "dice/heart")
    with pytest.raises(DataError, match=message):
        choose_metrics(rows)
    rows.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(DataError, match=f"t.csv'?: {message}"):
        read_rows(tmp_path / "t.csv")
    # A distance has no upper end.
    assert metric_values(rows, "hd_px/heart")[1] == value


def test_what_was_checked_in_reading_is_not_checked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "t.csv").write_text("id,dice/heart,hd_px/heart\na,0.9,2\nb,0.8,\nc,0.7,4\n")
    checked = []
    monkeypatch.setattr(
        "anatozoo.metrics.compare.metric_values",
        lambda table, name, label: (checked.append(name), metric_values(table, name, label))[1],
    )
    rows = read_rows(tmp_path / "t.csv")
    found = compare_rows(rows, rows.assign(**{"hd_px/heart": [3, 4, np.nan]}), ("one", "two"))
    assert checked == ["dice/heart", "hd_px/heart"]
    assert found.metrics["hd_px/heart"].without_pair == 2


def test_ends_and_rounding_are_shares() -> None:
    rows = pd.DataFrame({"nsd/heart": [0.0, 1.0, float(np.nextafter(np.float32(1), 2)), np.nan]})
    np.testing.assert_array_equal(metric_values(rows, "nsd/heart"), rows["nsd/heart"])


def test_names_of_shares() -> None:
    for name in (
        "dice",
        "Dice RCA (Mean)",
        "dice_before/heart",
        "IoU",
        "nsd_mm/lungs",
        "dice_rca_mean/heart",
        "dice_lung_left",
        "dice_autoencoder",
    ):
        assert is_share(name), name
    for name in (
        *("dice_gain", "dice_percent/heart", "hd_mm/heart", "similarity", "psnr", "123"),
        *("dice_improvement", "dice_error/heart", "dice_residual", "dice_rank", "dice_p"),
    ):
        assert not is_share(name), name


def test_rows_of_failed_images_hold_no_values(tmp_path: Path) -> None:
    text = "id,dice/heart,hd_px/heart,error\na,0.9,2,\nb,-1,fail,unreadable\n"
    (tmp_path / "t.csv").write_text(text)
    rows = read_rows(tmp_path / "t.csv")
    np.testing.assert_array_equal(rows["dice/heart"], [0.9, np.nan])
    np.testing.assert_array_equal(rows["hd_px/heart"], [2, np.nan])


def test_ends_of_intervals_are_shares_and_no_metrics_of_their_own() -> None:
    names = ("dice_rca_mean/heart", "dice_rca_calibrated/heart", "dice_low/heart", "dice_high/heart")
    assert all(map(is_share, names))
    rows = pd.DataFrame({"id": ["a", "b"]} | {name: [0.5, 0.6] for name in names})
    assert choose_metrics(rows) == ["dice_rca_mean/heart"]
    assert choose_metrics(rows.assign(**{"dice/lungs": [0.8, 0.9]})) == ["dice/lungs"]
    assert choose_metrics(rows, ["dice_low/*"]) == ["dice_low/heart"]

import numpy as np
import pytest

from anatozoo.errors import ConfigError
from anatozoo.fairness.directions import error_of, higher_is_better


@pytest.mark.parametrize(
    "metric", ["dice/heart", "Dice RCA (Mean)", "dice", "nsd/lungs", "similarity", "dice_rca_mean/heart"]
)
def test_up_is_good(metric):
    assert higher_is_better(metric)


@pytest.mark.parametrize(
    "metric",
    [
        "hd_mm/heart",
        "hd95_px/lungs",
        "assd_mm",
        "mse_px2/along",
        "missed/heart",
        "self_intersections/heart",
        "HD",
    ],
)
def test_down_is_good(metric):
    assert not higher_is_better(metric)


@pytest.mark.parametrize("metric", ["volume", "components/heart", "dice_hd"])
def test_a_name_that_says_nothing_is_asked_about(metric):
    with pytest.raises(ConfigError, match="does not say whether more is better"):
        higher_is_better(metric)
    assert higher_is_better(metric, higher=[metric])
    assert not higher_is_better(metric, lower=[metric])
    with pytest.raises(ConfigError, match="both"):
        higher_is_better(metric, [metric], [metric])


def test_what_is_given_wins_over_the_name():
    assert higher_is_better("hd_mm/heart", higher=["hd_mm/heart"])


def test_errors():
    dice = np.array([0.9, 1.0])
    np.testing.assert_allclose(error_of(dice, True), [0.1, 0.0])
    assert error_of(np.array([3.0, 0.0]), False).tolist() == [3.0, 0.0]
    assert error_of(np.array([0.9, 1.5]), True) is None
    assert error_of(np.array([-1.0]), False) is None

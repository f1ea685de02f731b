import math

import numpy as np
import pandas as pd
import pytest

from anatozoo.errors import ConfigError, DataError
from anatozoo.fairness import GroupFrame
from anatozoo.fairness.groups import LeftOut
from tests.support.fairness_data import confounded, scores

FAST = {"resamples": 300, "permutations": 499}


def by_hand() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "sex": ["M", "M", "F", "F", "F"],
            "view": ["PA", "AP", "PA", "PA", "AP"],
            "dice/heart": [0.9, 0.8, 0.7, 0.8, 0.6],
            "hd_mm/heart": [2.0, 4.0, 6.0, 6.0, 6.0],
        }
    )


def test_numbers_that_can_be_checked_by_hand():
    frame = GroupFrame(by_hand(), ["dice/heart", "hd_mm/heart"], "sex")
    assert frame.overall.tolist() == pytest.approx([0.76, 4.8])
    assert frame.by_group.loc["M"].tolist() == pytest.approx([0.85, 3.0])
    assert frame.by_group.loc["F"].tolist() == pytest.approx([0.7, 6.0])
    assert frame.n["dice/heart"].to_dict() == {"M": 2, "F": 3}
    assert frame.difference().tolist() == pytest.approx([0.15, 3.0])
    assert frame.ratio().tolist() == pytest.approx([0.7 / 0.85, 0.5])
    assert frame.sd_over_groups().tolist() == pytest.approx([0.075, 1.5])
    assert frame.ser().tolist() == pytest.approx([0.3 / 0.15, 2.0])
    assert frame.group_min().tolist() == pytest.approx([0.7, 3.0])
    assert frame.group_max().tolist() == pytest.approx([0.85, 6.0])
    assert frame.worst().tolist() == ["F", "F"]
    assert frame.best().tolist() == ["M", "M"]
    assert frame.small == ("M", "F")


def test_intersections():
    frame = GroupFrame(by_hand(), "dice/heart", ["sex", "view"])
    assert frame.by_group["dice/heart"].to_dict() == pytest.approx(
        {"M, AP": 0.8, "M, PA": 0.9, "F, AP": 0.6, "F, PA": 0.75}
    )
    assert frame.worst()["dice/heart"] == "F, AP"
    assert len(frame.pairs) == 6


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [(1.0, 1.0, 1.0), (1.0, 0.9, math.inf), (0.8, 0.9, 2.0)],
)
def test_skewed_error_rate_where_a_group_is_without_error(a, b, expected):
    table = pd.DataFrame({"sex": ["M", "F"], "dice": [a, b]})
    assert GroupFrame(table, "dice", "sex").ser()["dice"] == pytest.approx(expected)


def test_a_metric_above_one_has_no_skewed_error_rate():
    table = pd.DataFrame({"sex": ["M", "F"], "score": [1.0, 7.0]})
    assert math.isnan(GroupFrame(table, "score", "sex", higher=["score"]).ser()["score"])


def test_ratio_of_zeros():
    table = pd.DataFrame({"sex": ["M", "F"], "hd": [0.0, 0.0], "assd": [0.0, 2.0]})
    assert GroupFrame(table, ["hd", "assd"], "sex").ratio().tolist() == [1.0, 0.0]


def test_a_gap_is_found_with_its_interval():
    (pair,) = GroupFrame(scores(), "dice/heart", "sex", **FAST).pairs
    assert (pair.a, pair.b, pair.worse, pair.small) == ("M", "F", "F", False)
    assert pair.gap == pytest.approx(0.05, abs=0.01)
    assert 0 < pair.ci_low < pair.gap < pair.ci_high
    assert pair.p == 1 / 500


def test_a_distance_is_worse_where_it_is_larger():
    (pair,) = GroupFrame(scores(), "hd_mm/heart", "sex", **FAST).pairs
    assert pair.gap < 0
    assert pair.worse == "F"


def test_without_a_gap_tests_are_right_about_as_often_as_they_say():
    found = [
        GroupFrame(scores(40, 0.0, seed), "dice/heart", "sex", resamples=2, permutations=199).pairs[0].p
        < 0.05
        for seed in range(100)
    ]
    assert sum(found) <= 12


def test_images_of_a_patient_make_no_more_patients():
    table = scores(40)
    many = pd.concat([table.assign(patient=table["id"])] * 5, ignore_index=True)
    one, five = (GroupFrame(t, "dice/heart", "sex", **FAST) for t in (table, many))
    assert five.patients.equals(one.patients)
    assert five.n["dice/heart"].sum() == 5 * 40
    assert five.pairs[0].ci_low == pytest.approx(one.pairs[0].ci_low)
    assert five.patients_from == "patient"


def test_a_gap_that_age_explains_goes_away():
    frame = GroupFrame(confounded(), "dice/heart", "sex", "age_bin", **FAST)
    (pair,), (alike,) = frame.pairs, frame.adjusted
    assert pair.p < 0.01
    assert pair.gap > 0.04
    assert abs(alike.gap) < 0.01
    assert alike.p > 0.05
    assert alike.ci_low < 0 < alike.ci_high
    assert (alike.strata, alike.n_a + alike.n_b) == (2, 400)


def test_weights_of_both_adjustments_by_hand():
    table = pd.DataFrame(
        {
            "sex": ["M"] * 4 + ["F"] * 3,
            "view": ["PA", "PA", "PA", "AP", "PA", "AP", "AP"],
            "dice": [0.9, 0.9, 0.9, 0.8, 0.8, 0.5, 0.5],
        }
    )
    gaps = {
        way: GroupFrame(table, "dice", "sex", "view", adjustment=way, **FAST).adjusted[0].gap
        for way in ("standardise", "match")
    }
    # PA: 0.1 with 3 + 1 images, AP: 0.3 with 1 + 2.
    assert gaps == pytest.approx({"standardise": (0.1 * 4 + 0.3 * 3) / 7, "match": 0.2})


def test_groups_that_share_no_stratum_cannot_be_adjusted():
    table = pd.DataFrame(
        {"sex": list("MMFF"), "view": ["PA", "PA", "AP", "AP"], "dice": [0.9, 0.8, 0.7, 0.6]}
    )
    (alike,) = GroupFrame(table, "dice", "sex", "view", **FAST).adjusted
    assert (alike.strata, alike.n_a) == (0, 0)
    assert math.isnan(alike.gap)
    assert math.isnan(alike.p_corrected)


@pytest.mark.parametrize(("correction", "factor"), [("holm", 2), ("fdr", 2), ("none", 1)])
def test_correction(correction, factor):
    table = scores(60, gap=0.0).assign(**{"dice/lungs": scores(60, gap=0.1, seed=1)["dice/heart"]})
    frame = GroupFrame(table, ["dice/heart", "dice/lungs"], "sex", correction=correction, **FAST)
    smallest = min(frame.pairs, key=lambda pair: pair.p)
    assert smallest.p_corrected == pytest.approx(factor * smallest.p)


def test_nothing_is_dropped_silently():
    table = by_hand()
    table.loc[5] = [None, "PA", 0.5, 1.0]
    table.loc[6] = ["unclear", "PA", 0.5, 1.0]
    table.loc[2, "dice/heart"] = np.nan
    table.loc[0, "hd_mm/heart"] = np.inf
    frame = GroupFrame(table, ["dice/heart", "hd_mm/heart"], "sex", "view", **FAST)
    assert frame.left_out == (
        LeftOut("sex not stated", 1),
        LeftOut("sex not understood ('unclear')", 1),
        LeftOut("dice/heart not measured (F 1)", 1),
        LeftOut("hd_mm/heart not measured (M 1)", 1),
    )
    assert frame.n["dice/heart"].to_dict() == {"M": 2, "F": 2}
    assert frame.rows == 7


def test_one_patient_has_no_interval():
    table = pd.DataFrame({"sex": ["M", "F", "F"], "dice": [0.9, 0.8, 0.7]})
    frame = GroupFrame(table, "dice", "sex", **FAST)
    low, high = frame.intervals()
    assert math.isnan(low.loc["M", "dice"])
    assert low.loc["F", "dice"] <= 0.75 <= high.loc["F", "dice"]
    assert math.isnan(frame.pairs[0].ci_low)
    assert frame.pairs[0].small


def test_one_group_has_no_pairs():
    frame = GroupFrame(scores().query("sex == 'M'"), "dice/heart", "sex")
    assert frame.groups == ("M",)
    assert frame.pairs == ()
    assert frame.difference()["dice/heart"] == 0
    assert frame.worst()["dice/heart"] is None


def test_a_group_without_a_value_of_one_metric():
    table = by_hand().assign(**{"dice/lungs": [0.9, 0.8, None, None, None]})
    frame = GroupFrame(table, ["dice/heart", "dice/lungs"], "sex", **FAST)
    assert math.isnan(frame.by_group.loc["F", "dice/lungs"])
    assert [pair.metric for pair in frame.pairs] == ["dice/heart"]
    summary = frame.summary()
    assert summary.loc["dice/lungs", "gap"] == 0
    assert summary.loc["dice/heart", "worst"] == "F"


def test_summary_has_intervals_around_its_numbers():
    row = GroupFrame(scores(), "dice/heart", "sex", **FAST).summary().loc["dice/heart"]
    assert row["gap_low"] < row["gap"] < row["gap_high"]
    assert row["ser_low"] < row["ser"] < row["ser_high"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"metrics": "nothing", "groups": "sex"}, ConfigError, "does not say"),
        ({"metrics": "dice/lungs", "groups": "sex"}, DataError, "no column dice/lungs"),
        ({"metrics": "dice/heart", "groups": "race"}, DataError, "no column race"),
        ({"metrics": "dice/heart", "groups": ["sex", "sex"]}, ConfigError, "each name once"),
        ({"metrics": "dice/heart", "groups": "sex", "subject": "who"}, DataError, "no column who"),
        (
            {"metrics": "dice/heart", "groups": "sex", "adjustment": "guess"},
            ConfigError,
            "standardise or match",
        ),
        ({"metrics": "dice/heart", "groups": "sex", "correction": "bonferroni"}, ConfigError, "holm, fdr"),
        ({"metrics": "dice/heart", "groups": "sex", "level": 95}, ConfigError, "between 0 and 1"),
        ({"metrics": "sex", "groups": "sex", "higher": ["sex"]}, DataError, "holds words, such as 'M'"),
    ],
)
def test_bad_input_is_named(arguments, error, message):
    with pytest.raises(error, match=message):
        GroupFrame(by_hand(), **arguments)


def test_no_value_at_all_is_named():
    with pytest.raises(DataError, match="no row has both a value of dice and a group by sex"):
        GroupFrame(pd.DataFrame({"sex": ["M", "F"], "dice": ["nan", ""]}), "dice", "sex").overall  # noqa: B018

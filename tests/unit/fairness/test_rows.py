import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from anatozoo.errors import ConfigError, DataError
from anatozoo.fairness import GroupFrame, OverRows
from anatozoo.fairness.audit import audit
from anatozoo.fairness.caveats import caveats
from anatozoo.fairness.cells import MeanCells, RowCells
from anatozoo.fairness.draw import plot_gaps, plot_groups
from anatozoo.fairness.findings import findings as sentences
from anatozoo.fairness.resampling import bootstrap_means, permutation_p
from anatozoo.fairness.rows import auc, auc_of, classifier_metrics, ece_of, sensitivity_of, specificity_of
from anatozoo.fairness.tables import Scores

FAST = {"resamples": 200, "permutations": 199}


def words(figure: Figure) -> str:
    return " ".join(text.get_text() for text in figure.findobj(Text)).lower()


def mean(values: np.ndarray) -> float:
    return float(values.mean())


def findings(n: int = 300, gap: float = 0.0, seed: int = 0) -> pd.DataFrame:
    """Scores of a classifier that tells findings apart less well in women, by `gap` standard deviations."""
    draw = np.random.default_rng(seed)
    sex, label = draw.choice(["M", "F"], n), draw.integers(0, 2, n)
    score = draw.normal(size=n) + label * (1.5 - gap * (sex == "F"))
    return pd.DataFrame({"sex": sex, "label": label, "score": score, "patient": np.arange(n)})


def test_auc_is_the_share_of_pairs_in_order() -> None:
    draw = np.random.default_rng(0)
    label, score = draw.integers(0, 2, 60), draw.integers(0, 9, 60).astype(float)  # with ties
    there, absent = score[label == 1], score[label == 0]
    pairs = np.sign(there[:, None] - absent[None, :])
    assert auc(label, score) == pytest.approx((pairs.mean() + 1) / 2)
    assert math.isnan(auc(np.ones(4), np.arange(4.0)))
    with pytest.raises(DataError, match="labels are 0 and 1, not 2"):
        auc(np.array([0.0, 2.0]), np.zeros(2))


def test_numbers_that_can_be_checked_by_hand() -> None:
    table = pd.DataFrame(
        {
            "sex": ["M"] * 4 + ["F"] * 4,
            "label": [1, 1, 0, 0, 1, 1, 1, 0],
            "score": [0.9, 0.5, 0.4, 0.1, 0.9, 0.2, 0.3, 0.4],
        }
    )
    metrics = [
        auc_of("label", "score"),
        sensitivity_of("label", "score", 0.5),
        specificity_of("label", "score", 0.4),
        OverRows("prevalence", lambda label: float(label.mean()), ("label",), higher=False),
    ]
    frame = GroupFrame(table, metrics, "sex", **FAST)
    assert frame.metrics == ("auc/score", "sensitivity/score", "specificity/score", "prevalence")
    assert frame.by_group.loc["M"].tolist() == pytest.approx([1.0, 1.0, 0.5, 0.5])
    assert frame.by_group.loc["F"].tolist() == pytest.approx([1 / 3, 1 / 3, 0.0, 0.75])
    # Over all rows, not over the groups.
    assert frame.overall["auc/score"] == pytest.approx(
        auc(table["label"].to_numpy(), table["score"].to_numpy())
    )
    assert frame.difference()["auc/score"] == pytest.approx(2 / 3)
    assert frame.worst().tolist() == ["F"] * 4
    assert frame.ser()["sensitivity/score"] == math.inf


@pytest.mark.parametrize("several", [False, True], ids=["one group each", "patients in both groups"])
def test_a_mean_as_a_function_of_rows_is_the_mean(several: bool) -> None:
    draw = np.random.default_rng(1)
    values, group = draw.normal(size=60), draw.integers(0, 2, 60)
    stratum, subject = draw.integers(0, 2, 60), draw.integers(0, 25, 60) if several else np.arange(60)
    sums = MeanCells.of(values, subject, group, stratum)
    rows = RowCells.of(mean, values[None], subject, group, stratum)
    assert rows.overall == pytest.approx(sums.overall)
    np.testing.assert_allclose(rows.means, sums.means)
    assert rows.patients.tolist() == sums.patients.tolist()
    np.testing.assert_allclose(bootstrap_means(rows, 50), bootstrap_means(sums, 50))
    for one, other in ((rows, sums), (rows.pair(0, 1).shared(), sums.pair(0, 1).shared())):
        weights = other.sizes.sum((0, 1))
        assert permutation_p(one, weights, 200) == permutation_p(other, weights, 200)


def test_a_frame_of_a_mean_as_a_function_is_the_plain_frame() -> None:
    draw = np.random.default_rng(2)
    table = pd.DataFrame(
        {
            "sex": draw.choice(["M", "F"], 80),
            "view": draw.choice(["PA", "AP"], 80),
            "patient": draw.integers(0, 40, 80),
            "dice": draw.normal(0.8, 0.05, 80),
        }
    )
    table.loc[3, "dice"] = np.nan
    frames = [
        GroupFrame(table, metric, "sex", "view", smallest=10, **FAST)
        for metric in ("dice", OverRows("dice", mean, ("dice",)))
    ]
    for name in ("means", "pairs", "adjusted"):
        for one, other in zip(*(getattr(frame, name) for frame in frames), strict=True):
            plain, function = (vars(x) for x in (one, other))
            assert {k: v for k, v in plain.items() if not isinstance(v, float)} == {
                k: v for k, v in function.items() if not isinstance(v, float)
            }
            numbers = [[v for v in x.values() if isinstance(v, float)] for x in (plain, function)]
            np.testing.assert_allclose(*numbers)
    assert frames[0].left_out == frames[1].left_out
    pd.testing.assert_frame_equal(frames[0].summary(), frames[1].summary())


def test_a_gap_in_auc_is_found_and_none_where_there_is_none() -> None:
    metric = auc_of("label", "score")
    (pair,) = GroupFrame(findings(gap=1.2), metric, "sex", **FAST).pairs
    assert pair.worse == "F"
    assert pair.p == 1 / 200
    assert pair.ci_low < pair.gap < pair.ci_high
    assert pair.ci_low * pair.ci_high > 0
    found = [
        GroupFrame(findings(60, 0.0, seed), metric, "sex", **FAST).pairs[0].p < 0.05 for seed in range(20)
    ]
    assert sum(found) <= 4


def test_images_of_a_patient_make_no_more_patients() -> None:
    table = findings(80, 0.5)
    metric = auc_of("label", "score")
    one, five = (
        GroupFrame(t, metric, "sex", **FAST) for t in (table, pd.concat([table] * 5, ignore_index=True))
    )
    assert five.patients.equals(one.patients)
    assert five.pairs[0].ci_low == pytest.approx(one.pairs[0].ci_low)
    assert five.pairs[0].p == one.pairs[0].p


def test_a_group_that_does_not_define_the_metric_has_no_value() -> None:
    table = findings(40)
    table.loc[table["sex"] == "F", "label"] = 0
    frame = GroupFrame(table, auc_of("label", "score"), "sex", **FAST)
    assert math.isnan(frame.by_group.loc["F", "auc/score"])
    (pair,) = frame.pairs
    assert math.isnan(pair.p)
    assert math.isnan(pair.p_corrected)
    assert pair.worse is None
    assert frame.worst()["auc/score"] is None
    table["label"] = 0
    frame = GroupFrame(table, auc_of("label", "score"), "sex", **FAST)
    assert math.isnan(frame.summary().loc["auc/score", "gap_low"])
    assert frame.worst()["auc/score"] is None


def test_rows_without_one_of_the_columns_are_told() -> None:
    table = findings(40)
    table.loc[0, "label"] = np.nan
    table.loc[1, "score"] = np.inf
    frame = GroupFrame(table, auc_of("label", "score"), "sex", **FAST)
    assert sum(entry.rows for entry in frame.left_out) == 2
    assert frame.n["auc/score"].sum() == 38


def test_pictures_leave_out_what_single_images_do_not_have() -> None:
    table = findings(60).assign(dice=0.9)
    metrics = [auc_of("label", "score"), "dice"]
    both, alone = (GroupFrame(table, m, "sex", **FAST) for m in (metrics, metrics[0]))
    assert "dice" in words(plot_groups(both))
    assert "auc" not in words(plot_groups(both))
    assert "auc" in words(plot_groups(alone))
    assert "auc" in words(plot_gaps(alone))


def probabilities(n: int = 200) -> pd.DataFrame:
    table = findings(n, gap=1.0)
    return table.assign(p=1 / (1 + np.exp(0.75 - table["score"])))


def test_a_classifier_is_audited_by_its_columns() -> None:
    table = probabilities()
    found = audit(Scores(table, len(table)), ["sex"], classifiers=["label=p@0.4"], **FAST)
    assert found.metrics == ("auc/p", "ece/p", "sensitivity/p", "specificity/p")
    men = table[table["sex"] == "M"]
    values = found.frames[0].by_group.loc["M"]
    assert values["auc/p"] == pytest.approx(auc(men["label"].to_numpy(), men["p"].to_numpy()))
    assert values["sensitivity/p"] == pytest.approx((men["p"][men["label"] == 1] >= 0.4).mean())
    assert values["specificity/p"] == pytest.approx((men["p"][men["label"] == 0] < 0.4).mean())
    assert any("AUC of p is worse in female patients" in each.text for each in sentences(found))


def test_other_metrics_stand_beside_a_classifier_on_request() -> None:
    table = probabilities().assign(dice=0.9)
    both = audit(Scores(table, len(table)), ["sex"], metrics=["dice"], classifiers=["label=p"], **FAST)
    assert both.metrics == ("dice", "auc/p", "ece/p")


def test_a_group_without_the_finding_is_named_not_dropped() -> None:
    table = probabilities()
    table.loc[table["sex"] == "F", "label"] = 0
    found = audit(Scores(table, len(table)), ["sex"], classifiers=["label=p@0.5"], **FAST)
    women = int((table["sex"] == "F").sum())
    texts = [each.text for each in sentences(found)]
    said = "is not defined for female patients:"
    assert f"AUC of p {said} all its images have the finding, or none has ({women})." in texts
    assert f"Sensitivity of p {said} no image has the finding ({women})." in texts
    assert not any(text.startswith("Specificity of p is not") for text in texts)


@pytest.mark.parametrize(
    ("smallest", "said"),
    [
        (
            None,
            ["fewer than 10: female patients (8)", "fewer than 30: female patients (8), male patients (25)"],
        ),
        (26, ["fewer than 26: female patients (8), male patients (25)"]),
        (5, []),
    ],
)
def test_the_smallest_group_is_larger_for_classifiers(smallest: int | None, said: list[str]) -> None:
    table = probabilities(33).assign(dice=0.9, sex=["F"] * 8 + ["M"] * 25)
    table["label"] = [0, 1, 1] * 11
    how = {"metrics": ["dice"], "classifiers": ["label=p"], "smallest": smallest, **FAST}
    found = audit(Scores(table, len(table)), ["sex"], **how)
    texts = [each.text for each in sentences(found) if each.text.startswith("Too few")]
    texts = [text.removeprefix("Too few to judge, ").rstrip(".") for text in texts]
    assert [sorted(text.replace(" and ", ", ").split(": ")[1].split(", ")) for text in texts] == [
        sorted(text.split(": ")[1].split(", ")) for text in said
    ]
    assert found.to_dict()["smallest_group"]["auc/p"] == (smallest or 30)
    if smallest is None:
        assert any("fewer than 10 (30 for auc/p, ece/p) patients" in text for text in caveats(found))


def test_scores_that_are_no_probabilities_are_refused_with_their_row() -> None:
    table = probabilities(20).assign(id=[f"image{n}" for n in range(20)])
    table.loc[3, "p"] = 1.7
    with pytest.raises(DataError, match=r"the column p holds 1.7 in the row of image3; probabilities run"):
        audit(Scores(table, len(table)), ["sex"], classifiers=["label=p"], **FAST)


def test_calibration_error_of_a_group() -> None:
    table = pd.DataFrame({"sex": ["M"] * 40 + ["F"] * 40, "y": [0, 1] * 40, "p": [0.5] * 40 + [0.9] * 40})
    frame = GroupFrame(table, ece_of("y", "p"), "sex", **FAST)
    assert frame.by_group["ece/p"].to_dict() == pytest.approx({"F": 0.4, "M": 0.0})
    assert frame.worst()["ece/p"] == "F"


@pytest.mark.parametrize("text", ["", "y", "y=", "=p", "y=p@1.5", "y=p@half", "y=p@nan"])
def test_a_classifier_is_label_and_score(text: str) -> None:
    with pytest.raises(ConfigError, match="must be LABEL=SCORE"):
        classifier_metrics(text)


def test_equity_scaled_values() -> None:
    table = pd.DataFrame(
        {"sex": ["M"] * 2 + ["F"] * 2, "dice": [0.9, 0.9, 0.7, 0.7], "hd_mm": [1.0, 2, 3, 4]}
    )
    frame = GroupFrame(table, ["dice", "hd_mm"], "sex", **FAST)
    assert frame.equity_scaled()["dice"] == pytest.approx(0.8 / 1.2)
    assert math.isnan(frame.equity_scaled()["hd_mm"])
    alike = GroupFrame(table.assign(dice=0.8), ["dice"], "sex", **FAST)
    assert alike.equity_scaled()["dice"] == pytest.approx(0.8)

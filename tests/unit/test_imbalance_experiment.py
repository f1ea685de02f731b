"""The experiment on imbalance: who trains and who is tested, the gaps, and the published AUCs."""

import itertools
import json
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import mannwhitneyu

from anatozoo.data.case import Case
from anatozoo.errors import DataError
from tests.support.finding_data import write_findings

EXPERIMENT = "imbalance"
GROUPS = ("a", "b")
PATIENTS = {f"p{n}": (GROUPS[n % 3 == 0], n % 2 == 0) for n in range(60)}


@pytest.fixture
def judged(evidence: Any) -> Any:
    import imbalance_report

    return imbalance_report


def test_trainings_are_alike_but_for_the_share_and_nested(evidence: Any) -> None:
    sets = {share: evidence.training_of(PATIENTS, GROUPS, share) for share in evidence.SHARES}
    for share, chosen in sets.items():
        kinds = [PATIENTS[patient] for patient in chosen]
        assert [sum(there for _, there in kinds), len(kinds)] == [10, 20]
        assert sum(group == "b" for group, _ in kinds) / 20 == pytest.approx(share / 100, abs=0.1)
    second = [{p for p in chosen if PATIENTS[p][0] == "b"} for chosen in sets.values()]
    assert all(small < large for small, large in itertools.pairwise(second))


def test_folds_deal_groups_and_findings_evenly(evidence: Any) -> None:
    folds = evidence.folds_of(PATIENTS)
    assert set(folds) == set(PATIENTS)
    for kind in set(PATIENTS.values()):
        sizes = [sum(folds[p] == n for p, own in PATIENTS.items() if own == kind) for n in range(5)]
        assert max(sizes) - min(sizes) <= 1


def _rows(aucs: dict[tuple[int, str], list[float]], finding: str = "x") -> list[dict[str, Any]]:
    return [
        {"share": share, "test": test, "finding": finding, "fold": fold, "auc": auc}
        for (share, test), each in aucs.items()
        for fold, auc in enumerate(each)
    ]


def test_gaps_are_own_less_other_with_tests_over_folds(judged: Any) -> None:
    own, other = [0.8, 0.82, 0.81, 0.79, 0.83], [0.7, 0.72, 0.74, 0.71, 0.78]
    rows = _rows({(0, "a"): own, (100, "a"): other, (0, "b"): other, (100, "b"): own})
    rows += _rows({(0, "a"): own, (100, "a"): own, (0, "b"): own, (100, "b"): own}, "y")
    gaps = judged.gaps_of(rows, GROUPS)
    assert [gap["gap"] for gap in gaps] == pytest.approx([0.08, 0, 0.08, 0])
    p = float(mannwhitneyu(own, other).pvalue)
    assert gaps[0]["p"] == pytest.approx(p)
    assert gaps[0]["p_holm"] == pytest.approx(2 * p)
    assert judged.mean_gaps(gaps) == pytest.approx({"a": 0.04, "b": 0.04})


def test_folds_without_an_auc_are_counted_and_left_out(judged: Any) -> None:
    rows = _rows({(0, "a"): [0.8, float("nan")], (100, "a"): [0.7, 0.7]})
    assert judged.means_of(rows)[0, "a", "x"] == {"mean": 0.8, "sd": 0.0, "folds": 1, "undefined": 1}
    with pytest.raises(DataError, match="x, tested on b: no fold has an AUC of both"):
        judged.gaps_of(rows, GROUPS)


def test_the_published_gaps_are_those_of_the_paper(evidence: Any, judged: Any) -> None:
    record, lines = judged.published_report(evidence.PUBLISHED, evidence.PUBLISHED_SHARES)
    low, high = record["range_of_mean_gaps"]
    assert (round(low, 3), round(high, 3)) == (0.015, 0.029)
    found = record["DenseNet-121, NIH"]["mean_gap"]
    assert found == pytest.approx({"M": 0.828 - 0.803, "F": 0.796 - 0.777}, abs=0.001)
    assert len(record["DenseNet-121, NIH"]["gaps"]) == 28
    half = {(m["test"], m["finding"]): m["auc"] for m in record["shares"] if m["share"] == 50}
    assert half == {
        ("M", "Atelectasis"): 0.844,
        ("F", "Atelectasis"): 0.832,
        ("M", "Pneumothorax"): 0.838,
        ("F", "Pneumothorax"): 0.745,
    }
    assert "Mean gaps from 1.5 to 2.9 points of AUC." in lines


def test_runs_and_their_report(evidence: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_findings(tmp_path / "data", {"train": 60})
    setting = evidence.Setting(
        "findings",
        (),
        "disc",
        ("men", "women"),
        lambda case: {"M": "men", "F": "women"}.get(case.facts["sex"]),
        lambda case: case.facts["disc"] == "1",
        64,
        2,
        8,
    )
    monkeypatch.setitem(evidence.SETTINGS, "lgg-sex", setting)
    monkeypatch.setattr(evidence, "ENCODER", "residual")
    monkeypatch.setattr(evidence, "WEIGHTS", None)
    monkeypatch.setattr(evidence, "SHARES", (0, 100))
    monkeypatch.setattr(evidence, "FOLDS", 2)
    work = tmp_path / "work"
    evidence.do_runs(Namespace(root=root, setting="lgg-sex", work=work))
    runs = [json.loads(path.read_text()) for path in sorted(work.glob("*.json"))]
    assert len(runs) == 4
    tested = [set(run["scores"]["men"]) | set(run["scores"]["women"]) for run in runs if run["share"] == 0]
    assert not tested[0] & tested[1]
    assert len(tested[0] | tested[1]) == 30
    assert runs[0]["trained_on"]["images"] == 2 * runs[0]["trained_on"]["patients"]
    from imbalance_report import draw, report

    record, lines = report(runs)
    assert {mean["folds"] for mean in record["means"]} == {2}
    assert record["gaps"][0]["interval"]["ci_low"] <= record["gaps"][0]["interval"]["gap"]
    assert any("cost of the other" in line for line in lines)
    draw({"lgg-sex": record}, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 1000


def test_unknown_groups_and_test_splits_stay_out(evidence: Any, tmp_path: Path, monkeypatch: Any) -> None:
    def case(name: str, split: str | None, **facts: Any) -> Case:
        return Case(name, name, split, image=lambda: None, facts=facts)  # type: ignore[arg-type,return-value]

    cases = [
        *(case(f"JPCLN00{n}", "train", age=50 + 20 * (n % 2)) for n in range(4)),
        case("JPCNN001", "test", age=50),
        case("JPCNN002", "val", age=0),
        case("JPCNN003", None, age=70),
        case("JPCNN004", "val", age=80),
    ]
    monkeypatch.setattr(evidence, "find_cases", lambda *args: Namespace(cases=cases))
    setting = evidence.SETTINGS["jsrt-age"]
    found = evidence.cases_of(tmp_path, setting)
    assert sorted(c.id for c in found) == [*(f"JPCLN00{n}" for n in range(4)), "JPCNN004"]
    with pytest.raises(DataError, match="do not have both men and women"):
        evidence.cases_of(tmp_path, replace(setting, groups=("men", "women"), group=lambda case: "men"))

"""The age shift in small: who is trained on, who is measured, and which way round the differences are."""

import argparse
import json

import numpy as np
import pandas as pd
import pytest

from anatozoo.errors import ConfigError, DataError
from anatozoo.io.chest import ChestCase
from tests.support.chest_data import write_chest_data

EXPERIMENT = "age_shift"


def patient(number, age, sex="M"):
    name = f"JPCLN{number:03d}"
    return ChestCase(name, None, (8, 8), {}, {}, "train", name, metadata={"age": age, "sex": sex})


@pytest.fixture
def patients():
    """30 of 30 years, a third of them women; 60 of 70, half of them; and some who belong to neither."""
    young = [patient(n, 30.0, "F" if n % 3 == 0 else "M") for n in range(30)]
    old = [patient(100 + n, 70.0, "F" if n % 2 else "M") for n in range(60)]
    return [*young, *old, patient(200, None), patient(201, 50.0), patient(202, 65.0), patient(203, 0.0)]


def test_both_trainings_have_as_many_images_and_the_same_shares_of_women(evidence, patients):
    groups = evidence.deal(patients)
    assert [len(groups[g].train) for g in evidence.GROUPS] == [20, 20]
    assert [len(groups[g].held_out) for g in evidence.GROUPS] == [10, 40]
    women = {g: sum(case.metadata["sex"] == "F" for case in groups[g].train) for g in evidence.GROUPS}
    assert women == {evidence.YOUNG: pytest.approx(20 / 3, abs=1), evidence.OLD: pytest.approx(10, abs=1)}
    names = [case.id for g in groups.values() for case in g.everybody]
    assert sorted(names) == sorted(case.id for case in patients[:90])


def test_patients_are_dealt_the_same_way_in_any_order(evidence, patients):
    one, two = evidence.deal(patients), evidence.deal(patients[::-1])
    assert [case.id for case in one[evidence.OLD].train] == [case.id for case in two[evidence.OLD].train]


def test_without_ages_nothing_is_trained(evidence):
    with pytest.raises(DataError, match=r"only 0 under 50, 0 over 65; does --root hold clinical\.csv"):
        evidence.deal([patient(n, None) for n in range(9)])


def test_images_of_the_test_split_are_not_touched(evidence, tmp_path):
    root = write_chest_data(tmp_path, {"train": 2, "val": 1, "test": 2}, side=32)
    assert [case.id for case in evidence.find_patients(root)] == ["JPCLN001", "JPCLN002", "JPCLN003"]


def tables(evidence, losses, n=12):
    """Rows of the four models: everyone has Dice 0.9, less what its method loses on the other age."""
    draw = np.random.default_rng(0)
    noise = {group: 0.01 * draw.normal(size=n) for group in evidence.GROUPS}
    found = {}
    for run in evidence.RUNS:
        rows = []
        for group in evidence.GROUPS:
            loss = 0.0 if group == run.trained_on else losses[run.method]
            for k in range(n):
                dice = 0.9 - loss + noise[group][k]
                row = {"id": f"{group}{k}", "tested_on": group, "unseen": k < n - 2}
                rows.append(row | {"dice/lungs": dice, "dice/heart": dice})
                rows[-1] |= {"hd_mm/lungs": 100 * (1 - dice), "hd_mm/heart": 100 * (1 - dice)}
        table = pd.DataFrame(rows)
        found[run] = table[table["unseen"] | (table["tested_on"] != run.trained_on)]
    return found


def test_the_shift_is_what_the_other_age_costs(evidence):
    found = evidence.shifts(tables(evidence, {"hybridgnet": 0.02, "unet": 0.05}))
    assert [(method, group) for method, group, _ in found] == [
        ("hybridgnet", evidence.YOUNG),
        ("hybridgnet", evidence.OLD),
        ("unet", evidence.YOUNG),
        ("unet", evidence.OLD),
    ]
    for method, _, comparison in found:
        assert comparison.images == 10
        loss = {"hybridgnet": 0.02, "unet": 0.05}[method]
        assert comparison.metrics["dice/heart"].test.difference == pytest.approx(-loss)
        assert comparison.metrics["hd_mm/heart"].test.difference == pytest.approx(100 * loss)
    for entry in evidence.method_differences(found):
        expected = -0.03 if entry["metric"].startswith("dice") else 3
        assert entry["difference"] == pytest.approx(expected)


def test_means_are_over_unseen_images_or_over_all_of_the_other_age(evidence):
    rows = tables(evidence, {"hybridgnet": 0.0, "unet": 0.1})
    unseen = evidence.means(evidence.parts(rows, unseen=True))
    assert [entry["n"] for entry in unseen] == [10] * 8
    other = evidence.means(evidence.parts(rows, unseen=False))
    assert [entry["n"] for entry in other] == [12] * 4
    assert all(entry["trained on"] != entry["tested on"] for entry in other)
    dice = {entry["method"]: entry["metrics"]["dice/heart"] for entry in other}
    assert dice["unet"]["mean"] < dice["hybridgnet"]["ci_low"]


def test_the_report_says_what_was_found(evidence, patients, tmp_path, monkeypatch, capsys):
    rows = tables(evidence, {"hybridgnet": 0.02, "unet": 0.05})
    monkeypatch.setattr(evidence, "rows_of", lambda run, groups, options: rows[run])
    monkeypatch.setattr(evidence, "find_patients", lambda root: patients)
    words = ["age_shift.py", "--root", "d", "--runs", "r", "--out", str(tmp_path), "--images", str(tmp_path)]
    monkeypatch.setattr("sys.argv", words)
    evidence.main()
    text = (tmp_path / "age-shift_experiment.md").read_text()
    assert text.strip() == capsys.readouterr().out.strip()
    assert "−0.0500 (" in text
    assert "- under 50: 20 trained on (" in text
    record = json.loads((tmp_path / "age-shift_experiment.json").read_text())
    assert record["shift"][0]["metrics"]["dice/heart"]["difference"] == pytest.approx(-0.02)
    assert (tmp_path / "age-shift.png").stat().st_size > 10_000


def test_a_finished_model_is_read_and_one_of_other_settings_refused(
    evidence, patients, tmp_path, monkeypatch
):
    groups = evidence.deal(patients)
    run = evidence.RUNS[0]
    options = argparse.Namespace(runs=tmp_path, size=64, steps=3, batch=2, seed=1)
    done = pd.DataFrame({"id": ["a"], "tested_on": [evidence.OLD], "unseen": [True]})
    monkeypatch.setattr(evidence, "train", lambda *arguments: None)
    monkeypatch.setattr(evidence, "measure", lambda *arguments: done)
    assert evidence.rows_of(run, groups, options).equals(done)
    monkeypatch.setattr(evidence, "train", lambda *arguments: pytest.fail("trained again"))
    assert evidence.rows_of(run, groups, options).equals(done)
    options.steps = 4
    with pytest.raises(ConfigError, match="a model with other settings"):
        evidence.rows_of(run, groups, options)


@pytest.mark.parametrize("method", ["hybridgnet", "unet"])
def test_networks_are_for_lungs_and_heart(evidence, method):
    module = evidence.make_module(method, 64)
    assert list(module.organs) == ["lung_right", "lung_left", "heart"]
    assert module.frame.size == 64

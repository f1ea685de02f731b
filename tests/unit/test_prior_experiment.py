"""The parts of the experiment on shape priors that could be wrong without anybody seeing it."""

import argparse
import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import ttest_rel, wilcoxon

from anatozoo.data.case import Case
from anatozoo.errors import DataError
from tests.support.heart_data import heart, write_hearts

EXPERIMENT = "prior_evidence"


def test_patients_are_drawn_by_the_seed_and_the_others_have_no_label(evidence):
    cases = [
        Case(f"{n}{f}", str(n), "train", organs=frozenset({"a"}), draw=len) for n in range(6) for f in "xy"
    ]
    own, bare = evidence.dealt(cases, 1, 2)
    assert len(own) == 4
    assert len(bare) == 8
    assert not {case.subject for case in own} & {case.subject for case in bare}
    assert all(case.labelled for case in own)
    assert not any(case.labelled for case in bare)
    assert [c.id for c in evidence.dealt(cases, 1, 2)[0]] == [c.id for c in own]
    drawn = {tuple(sorted({c.subject for c in evidence.dealt(cases, seed, 2)[0]})) for seed in range(8)}
    assert len(drawn) > 2
    assert evidence.dealt(cases, 1, None) == (cases, [])
    with pytest.raises(DataError, match="leave none without annotation"):
        evidence.dealt(cases, 1, 6)


def test_the_largest_parts_keep_the_ventricle_in_its_ring(evidence):
    import comparing

    _, labels = heart(6, 48, 48)
    torn = labels.copy()
    torn[2, :3, :3] = 3
    y, x = np.argwhere(labels[3] == 3).mean(0).round().astype(int)
    torn[3, y, x] = 0
    np.testing.assert_array_equal(comparing.largest_parts(torn, 3), labels)


def record(arm, seed, values):
    same = {"arm": arm, "hd_mm": 1.0, "assd_mm": 1.0, "extra_parts": 0.0}
    rows = [
        same | {"case": str(number), "subject": str(number), "dice": value}
        for number, value in enumerate(values)
    ]
    settings = {"setting": "hippocampus", "steps": 1, "prior_steps": 1, "subjects": None, "batch": 2}
    return {"arm": arm, "seed": seed, "settings": settings, "train_cpu_s": 1.0, "rows": rows}


def test_p_is_over_runs_and_over_cases(evidence, tmp_path, capsys):
    import prior_report

    draw = np.random.default_rng(0)
    base, other = draw.random((3, 7)), draw.random((3, 7))
    for arm, values in (("none", base), ("residual", other)):
        for seed, each in enumerate(values, 1):
            path = tmp_path / f"{arm}_{seed}.json"
            path.write_text(json.dumps(record(arm, seed, each.tolist())))
    options = argparse.Namespace(work=tmp_path, setting="hippocampus", out=tmp_path / "out")
    prior_report.report(options, evidence.SETTINGS["hippocampus"])
    found = json.loads((tmp_path / "out" / "prior-hippocampus_experiment.json").read_text())["arms"]
    dice = found["residual"]["dice"]
    assert dice["difference"] == pytest.approx((other - base).mean())
    assert dice["p_runs"] == pytest.approx(ttest_rel(other.mean(1), base.mean(1)).pvalue)
    assert dice["p_cases"] == pytest.approx(wilcoxon((other - base).mean(0)).pvalue)
    assert "no prior" in capsys.readouterr().out
    options.setting = "acdc"
    with pytest.raises(DataError, match="holds runs of hippocampus"):
        prior_report.report(options, evidence.SETTINGS["acdc"])


@pytest.mark.usefixtures("own_seed")
def test_runs_from_data_to_report(evidence, tmp_path, monkeypatch):
    root = write_hearts(tmp_path / "data", {"train": [1, 2, 3], "val": [4]})
    setting = evidence.SETTINGS["acdc"]
    priors = {"denoiser": {**setting.priors["denoiser"], "widths": [4, 4, 4]}}
    small = replace(setting, model={"architecture": "seg", "widths": [2, 2, 2, 2]}, priors=priors)
    monkeypatch.setitem(evidence.SETTINGS, "acdc", small)
    words = ["x", "--setting", "acdc", "--work", str(tmp_path / "work"), "--steps", "2", "--prior-steps", "1"]
    words += ["--subjects", "1"]
    monkeypatch.setattr("sys.argv", [*words, "--root", str(root), "--only", "none:1", "unlabelled:1"])
    evidence.main()
    found = json.loads((tmp_path / "work" / "unlabelled_1.json").read_text())
    assert len(found["rows"]) == 2
    assert found["prior_cpu_s"] > 0
    assert found["truth"]["extra_parts"] == 0
    monkeypatch.setattr("sys.argv", [*words, "--report", "--out", str(tmp_path / "out")])
    evidence.main()
    [text] = (tmp_path / "out").glob("*.md")
    assert "the same, and on unlabelled images" in text.read_text()

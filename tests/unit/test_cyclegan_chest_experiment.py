"""The evidence of CycleGAN between two data sets of chests, on generated ones: all arms, and the report."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anatozoo.data.layouts.registry import find_cases
from tests.support.chest_data import write_chest_data, write_covid

EXPERIMENT = "cyclegan_chest"


@pytest.mark.usefixtures("own_seed")
def test_every_arm_leaves_a_record_and_the_report_has_all(
    evidence: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, work, out = tmp_path / "data", tmp_path / "work", tmp_path / "out"
    write_chest_data(root / "jsrt", {"train": 8, "val": 1})
    write_covid(root)
    monkeypatch.setattr(evidence, "MODELS", (evidence.LEARNER,))
    words = [
        "x",
        "--root",
        str(root),
        "--work",
        str(work),
        "--size",
        "64",
        "--gan-steps",
        "1",
        "--steps",
        "1",
    ]
    monkeypatch.setattr("sys.argv", [*words, "--only", *(f"{arm}:1" for arm in evidence.ARMS)])
    evidence.main()
    runs = {arm: json.loads((work / f"{arm}_1.json").read_text()) for arm in evidence.ARMS}
    measured = [
        case.id for case in find_cases(root, "covid", ["lung_right"], dims=2).cases if case.split == "val"
    ]
    for run in runs.values():
        assert run["images"] == measured
    assert not any(runs["source"]["looks"]["mean_change"])
    assert runs["histogram"]["js"] < runs["source"]["js"]
    # What is learnt from has been seen by the CycleGAN; what is measured has not.
    stored = {
        (case.domain, case.split): case for case in find_cases(work / "squares", "folder", [], dims=2).cases
    }
    assert {("JSRT", "train"), ("covid-cxr", "train"), ("covid-cxr", "val")} <= set(stored)
    monkeypatch.setattr("sys.argv", ["x", "--work", str(work), "--report", "--out", str(out)])
    evidence.main()
    record = json.loads((out / f"{evidence.NAME}.json").read_text())
    tests = record["models"][evidence.LEARNER]["tests"]
    assert set(tests) == {
        *(f"{arm} - source" for arm in evidence.ARMS if arm != "source"),
        "retrained - tuned",
    }
    found = tests["translated - source"]["dice/lungs"]["difference"]
    means = [np.mean(runs[arm]["models"][evidence.LEARNER]["dice/lungs"]) for arm in ("translated", "source")]
    assert found == pytest.approx(means[0] - means[1])
    text = (out / f"{evidence.NAME}.md").read_text()
    assert all(words in text for words in evidence.WORDS.values())

"""The evidence of orthogonal ensembles on generated slices: manifest, two members of two arms, report."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from anatozoo.cli.main import main
from anatozoo.data.layouts.registry import find_cases
from anatozoo.methods.classifier.data import truths_of

EXPERIMENT = "orthogonal_evidence"


def write_lgg(root: Path) -> Path:
    """Two patients of training and two of validation with three slices each: black, healthy, with tumour."""
    random = np.random.default_rng(0)
    patients = {"train": ["TCGA_CS_1_19990101", "TCGA_DU_2_1999"], "val": ["TCGA_DU_3_1", "TCGA_HT_4_2"]}
    for patient in (name for names in patients.values() for name in names):
        for number in range(3):
            image, mask = random.integers(20, 80, (48, 48)).astype(np.uint8), np.zeros((48, 48), np.uint8)
            if number == 2:
                mask[10:30, 15:35] = 1
                image[mask > 0] += 120
            for folder, pixels in (("images", image * (number > 0)), ("masks", mask)):
                (root / folder / patient).mkdir(parents=True, exist_ok=True)
                PIL.Image.fromarray(pixels).save(root / folder / patient / f"{number:03d}.png")
    (root / "splits.json").write_text(json.dumps(patients))
    rows = ["Patient,gender,age_at_initial_pathologic", "TCGA_CS_1,1,30", "TCGA_DU_3,2,61", "TCGA_HT_4,1,"]
    (root / "clinical.csv").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture
def slices(tmp_path: Path, evidence: Any) -> Path:
    """A folder with the manifest."""
    from lgg_slices import write_manifest

    folder: Path = write_manifest(write_lgg(tmp_path / "lgg"), tmp_path / "slices")
    return folder


@pytest.mark.usefixtures("own_seed")
def test_a_run_leaves_members_and_numbers_and_facts_reach_evaluations(
    evidence: Any, slices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("MEMBERS", 2), ("SIZES", (1, 2))):
        monkeypatch.setattr(evidence, name, value)
    work = tmp_path / "work"
    words = ["x", "--root", str(slices), "--work", str(work), "--size", "64", "--batch", "2", "--steps", "1"]
    words += ["--precision", "32-true"]
    monkeypatch.setattr("sys.argv", [*words, "--only", "random:1", "inter:1"])
    evidence.main()
    record = json.loads((work / "inter_1.json").read_text())
    assert record["train"] == 4  # of six slices, two are black
    assert len(record["rows"]) == 2 * 2
    assert 0 < record["diversity"]["cosine"] < 1
    monkeypatch.setattr("sys.argv", [*words, "--report", "--out", str(tmp_path / "out")])
    evidence.main()
    told = json.loads((tmp_path / "out" / f"{evidence.NAME}.json").read_text())
    assert set(told["means"]) == {"random", "inter"}
    assert told["tests"]["inter - random"]["dice/2"]["runs"] == 1
    assert "| inter |" in (tmp_path / "out" / f"{evidence.NAME}.md").read_text()

    cases = [case for case in find_cases(slices, "findings").cases if case.split == "val"]
    assert sorted(truths_of(cases, ["abnormality"])) == [[0], [0], [1], [1]]

    # The first member has nobody to keep away from: it is that of self-orthogonality.
    both = [str(work / "self_1" / "member0"), str(work / "inter_1" / "member1")]
    assert main(["ensemble", *both, "--name", "unet-lgg-oen", "--to", str(tmp_path / "oen")]) == 0
    given = ["evaluate", str(tmp_path / "oen"), "--data", "folder", "--root", str(slices), "--split", "val"]
    assert main([*given, "--out", str(tmp_path / "rows")]) == 0
    [table] = (tmp_path / "rows").glob("*.csv")
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4  # a slice without tumour too
    facts = {row["patient"]: (row["dataset"], row["sex"], row["age"]) for row in rows}
    assert facts == {"TCGA_DU_3_1": ("DU", "M", "61"), "TCGA_HT_4_2": ("HT", "F", "")}
    assert all(0 <= float(row["disagreement"]) <= 1 for row in rows)


def test_numbers_of_a_patient(evidence: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = np.zeros((2, 4, 4), bool)
    truth[0, :2] = True
    votes = np.stack([np.where(truth, 0.9, 0.1), np.where(truth, 0.5, 0.3)])
    patients = np.array(["a", "a"])
    monkeypatch.setattr(evidence, "SIZES", (1, 2))
    rows = {row["size"]: row for row in evidence.measure(votes, truth, patients)}
    assert rows[2]["dice"] == 1
    assert rows[2]["brier_foreground"] == pytest.approx(0.3**2)
    assert rows[2]["brier"] == pytest.approx(0.25 * 0.09 + 0.75 * 0.04)
    assert rows[1]["brier_foreground"] == pytest.approx((0.01 + 0.25) / 2)
    assert rows[1]["dice"] == 0.5  # the second member finds nothing alone
    found = evidence.diversity(votes, truth, patients)
    assert found["disagreement"] == 1
    assert np.isnan(found["variance_on_errors"])

"""The experiment on calibrated probabilities: its rows, its ensemble, its tests over runs and cases."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from anatozoo.errors import DataError
from anatozoo.io.grid import Grid, itk_image

EXPERIMENT = "meep_evidence"
COLUMNS = ("dice", "hd_px", "ece_plus", "brier_plus", "ece", "brier", "nll")


def runs_of() -> list[dict[str, Any]]:
    """Three runs of two arms on six cases, of which MEEP's ECE is lower by .1 in every run."""
    runs = []
    for arm, shift in (("ce", 0.0), ("meep", -0.1)):
        for seed in (1, 2, 3):
            draw = np.random.default_rng(seed)
            rows = [
                {"id": f"c{i}", "list": "val" if i < 4 else "train"}
                | {
                    name: 0.5 + 0.01 * draw.random() + shift * (1 + i * seed / 100) * (name == "ece_plus")
                    for name in COLUMNS
                }
                for i in range(6)
            ]
            kinds = {"own": rows} | ({"tempered": rows} if arm == "ce" else {})
            runs.append(
                {
                    "arm": arm,
                    "seed": seed,
                    "settings": {"steps": 4, "batch": 2},
                    "rows": kinds,
                    "train_cpu_s": 60.0,
                }
                | {"cases": {"train": 9, "temperature": 2, "measured": 6}, "parameters": 7}
                | {"temperature": 1.5 if arm == "ce" else None, "commit": "x"}
            )
    return runs


def write_atria(root: Path, splits: dict[str, list[str]]) -> Path:
    """Balls that noise hides in part, so that a network cannot be sure."""
    place = np.stack(np.indices((20, 18, 18))) - 9
    labels = ((place**2).sum(0) < 30).astype(np.uint8)
    for number, name in enumerate(name for names in splits.values() for name in names):
        image = 60 * labels + np.random.default_rng(number).normal(100, 40, labels.shape)
        for folder, array in (("images", image.astype(np.float32)), ("labels", labels)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            grid = Grid(labels.shape[::-1], (2.0, 2.0, 2.0))
            sitk.WriteImage(itk_image(array, grid), str(root / folder / f"{name}.nii.gz"))
    (root / "splits.json").write_text(json.dumps(splits))
    return root


def test_tests_are_over_runs_and_over_cases(evidence: Any) -> None:
    record = evidence.record_of(runs_of(), [])
    [entry] = [e for e in record["arms"] if e["arm"] == "meep" and e["cases of"] == "all"]
    found = entry["ece_plus"]
    assert found["of cases"]["difference"] == pytest.approx(-0.105)
    assert (found["of cases"]["n"], found["of runs"]["n"]) == (6, 3)
    assert found["of cases"]["p"] == pytest.approx(2 / 2**6)
    assert found["of runs"]["p"] < 0.01
    assert entry["dice"]["of runs"]["p"] is None  # the same in every run
    [few] = [e for e in record["arms"] if e["arm"] == "meep" and e["cases of"] == "val"]
    assert few["ece_plus"]["of cases"]["n"] == 4
    text = evidence.report(record)
    assert "4 cases: few" in text
    assert "CE + MEEP" in text
    assert "1.50, 1.50, 1.50" in text
    with pytest.raises(DataError, match="different cases"):
        evidence.record_of([run | {"cases": run["seed"]} for run in runs_of()], [])


def test_an_ensemble_is_the_mean_of_probabilities(evidence: Any, tmp_path: Path) -> None:
    truth = np.zeros((2, 3, 4), np.uint8)
    truth[0], truth[1, 2] = 1, 255
    margins = (np.full(truth.shape, 2.0), np.where(truth == 1, 4.0, -6.0))
    files = []
    for number, margin in enumerate(margins):
        files.append(tmp_path / f"{number}.npz")
        np.savez_compressed(files[-1], **{"a margin": margin.astype(np.float16), "a truth": truth})
    [row] = evidence.ensemble_rows(files, [{"id": "a", "list": "val"}])
    sides = [1 / (1 + np.exp(-m)) for m in margins]
    p = np.mean(sides, 0)
    assert row["brier_plus"] == pytest.approx(2 * np.mean((1 - p[truth == 1]) ** 2), rel=1e-3)
    assert row["dice"] == 1


@pytest.mark.usefixtures("own_seed")
def test_runs_from_data_to_report(evidence: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"v{n}" for n in range(6)]
    root = write_atria(tmp_path / "data", {"train": names[:5], "val": names[5:]})
    for name, value in (("WIDTHS", [4, 4, 4]), ("CROP", [8, 8, 8]), ("TRAINED", 2)):
        monkeypatch.setattr(evidence, name, value)
    for name, value in (("FOR_TEMPERATURE", 2), ("MORE", 1)):
        monkeypatch.setattr(evidence, name, value)
    words = ["x", "--work", str(tmp_path / "work"), "--steps", "20"]
    monkeypatch.setattr("sys.argv", [*words, "--root", str(root), "--only", "ce:1", "meep:1"])
    evidence.main()
    run = json.loads((tmp_path / "work" / "ce_1.json").read_text())
    assert run["cases"] == {"train": 2, "temperature": 2, "measured": 2}
    assert run["temperature"] > 0
    assert len(run["rows"]["tempered"]) == 2
    monkeypatch.setattr("sys.argv", [*words, "--report", "--out", str(tmp_path / "out")])
    evidence.main()
    assert "| CE + MEEP " in (tmp_path / "out" / "meep_experiment.md").read_text()

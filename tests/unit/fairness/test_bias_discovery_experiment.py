"""The study in small: the evidence finds the gaps, and the masks that are not those of the tables."""

import itertools
import json

import numpy as np
import pandas as pd
import PIL.Image
import pytest

from anatozoo.io.landmarks import draw_organ_mask
from anatozoo.metrics.functional import dice

EXPERIMENT = "bias_discovery"
CIRCLES = {"RL": ((250, 400), 44), "LL": ((700, 400), 50), "H": ((480, 500), 26)}
RADIUS = 150


def contour(organ):
    """A circle, walked round with as many points as the organ has; coordinates are no whole numbers."""
    (x, y), count = CIRCLES[organ]
    angle = 2 * np.pi * np.arange(count) / count
    return np.stack([x + RADIUS * np.cos(angle), y + RADIUS * np.sin(angle)], axis=1) + 0.9


def label_map(shift, heart):
    """What a model finds: lungs, and the heart over them, all a little to the right."""
    labels = np.zeros((1024, 1024), np.uint8)
    for organ, value in (("RL", 1), ("LL", 1), ("H", 2)):
        if organ != "H" or heart:
            labels[draw_organ_mask(np.trunc(contour(organ)), (1024, 1024))] = value
    return np.roll(labels, shift, axis=1)


@pytest.fixture
def study(tmp_path):
    """Two models and two images per sex and list; the second model is worse, above all on women."""
    root, landmarks = tmp_path / "ubd", tmp_path / "landmarks"
    for organ in CIRCLES:
        (landmarks / organ).mkdir(parents=True)
        for name in (f"{s}{images}{k}" for s in "MF" for images in ("heart", "lungs") for k in range(2)):
            if organ != "H" or "heart" in name:
                np.save(landmarks / organ / f"{name}.npy", contour(organ))
    for experiment, sex in itertools.product(("DifferentQualities", "CrossVal"), "MF"):
        folder = root / experiment / sex
        for images in ("heart", "lungs"):
            truth, rows = label_map(0, images == "heart"), []
            for k, (number, model) in itertools.product(range(2), enumerate(("a", "b"))):
                labels = label_map(4 + number * (10 if sex == "M" else 30) + k, images == "heart")
                file = f"{sex}{images}{k}.png"
                (folder / model).mkdir(parents=True, exist_ok=True)
                PIL.Image.fromarray(labels).save(folder / model / file)
                row = {"Model": model, "File": file, "Dice Lungs": dice(labels == 1, truth == 1)}
                rows.append(
                    row | ({"Dice Heart": dice(labels == 2, truth == 2)} if images == "heart" else {})
                )
            table = pd.DataFrame(rows)
            table.to_csv(folder / f"{images}.csv", index=False)
            for name in (f"rca_{images}.csv", f"rca_{images}_max.csv"):
                estimate = table.copy()
                estimate.iloc[:, 2:] = 0.5 * estimate.iloc[:, 2:] + 0.2
                estimate.to_csv(folder / name, index=False)
    return root, tmp_path


def run(evidence, monkeypatch, root, landmarks, out):
    arguments = ["bias_discovery.py", "--root", str(root), "--landmarks", str(landmarks), "--out", str(out)]
    monkeypatch.setattr("sys.argv", arguments)
    evidence.main()
    text = (out / "bias-discovery_experiment.md").read_text()
    return json.loads((out / "bias-discovery_experiment.json").read_text()), text


def test_small_study(evidence, study, monkeypatch, tmp_path, capsys):
    root, landmarks = study
    found, text = run(evidence, monkeypatch, root, landmarks, tmp_path / "out")
    for organ in ("lungs", "heart"):
        fit = found["synthetic"][organ]
        assert (fit["n"], fit["r"], fit["slope"]) == pytest.approx((4, 1.0, 0.5))
        assert fit["signs"][0]["accuracy"] == 1.0
    gaps = {(row["model"], row["metric"]): row["gap"] for row in found["gaps of the real models"]}
    assert gaps["b", "dice/lungs"] > 0.01 > abs(gaps["a", "dice/lungs"])
    assert found["masks"] | {"tolerance": 0} == {
        "n": 32, "tolerance": 0, "equal": 32, "largest difference": 0.0, "files that differ": [],
    }  # fmt: skip
    assert "32 of 32 masks" in text
    assert str(tmp_path) not in text


def test_masks_that_are_not_those_of_the_table(evidence, study, monkeypatch, tmp_path, capsys):
    root, landmarks = study
    PIL.Image.fromarray(label_map(60, True)).save(root / "CrossVal/M/a/Mheart0.png")
    found, text = run(evidence, monkeypatch, root, landmarks, tmp_path / "out")
    (entry,) = found["masks"]["files that differ"]
    assert (entry["file"], entry["masks"], entry["place"], entry["outside"]) == ("Mheart0.png", 1, 1, False)
    assert "`CrossVal/M/heart.csv`. The same polygons give the authors' Dice" in text


def test_estimates_of_other_masks_are_refused(evidence, study):
    root, _ = study
    path = root / "CrossVal/F/rca_lungs.csv"
    pd.read_csv(path).iloc[1:].to_csv(path, index=False)
    with pytest.raises(SystemExit, match="not of the same masks"):
        evidence.read_scores(root, "CrossVal")

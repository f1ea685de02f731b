"""The evidence of CycleGAN on generated slices of two institutions: all arms once, and the report."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PILImage

EXPERIMENT = "cyclegan_evidence"


def write_slices(folder: Path) -> Path:
    """Two training patients of each institution and two of validation in HT, each healthy and with tumour."""
    rows, random = [], np.random.default_rng(0)
    for name, domain, split in (
        *((f"d{i}", "DU", "train") for i in range(2)),
        *((f"h{i}", "HT", "train") for i in range(2)),
        *((f"v{i}", "HT", "val") for i in range(2)),
    ):
        for number in range(2):
            image, mask = random.integers(20, 80, (48, 48)).astype(np.uint8), np.zeros((48, 48), np.uint8)
            if number:
                mask[10:30, 15:35] = 1
                image[mask > 0] += 120
            for kind, pixels in (("images", image), ("masks", mask)):
                (folder / kind).mkdir(parents=True, exist_ok=True)
                PILImage.fromarray(pixels).save(folder / kind / f"{name}{number}.png")
            rows.append((f"images/{name}{number}.png", f"masks/{name}{number}.png", name, split, domain))
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("image", "mask", "subject", "split", "domain"), *rows])
    return folder


@pytest.mark.usefixtures("own_seed")
def test_every_arm_leaves_a_record_and_the_report_has_all(
    evidence: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "LOOKS", {})
    work, out = tmp_path / "work", tmp_path / "out"
    words = ["x", "--root", str(write_slices(tmp_path / "slices")), "--work", str(work), "--size", "64"]
    words += ["--batch", "2", "--steps", "1", "--gan-steps", "1"]
    monkeypatch.setattr("sys.argv", [*words, "--only", *(f"{arm}:1" for arm in evidence.ARMS)])
    evidence.main()
    runs = {arm: json.loads((work / f"{arm}_1.json").read_text()) for arm in evidence.ARMS}
    for run in runs.values():
        assert [(row["patient"], row["split"]) for row in run["rows"]] == [
            *(("h0", "train"), ("h1", "train")),
            *(("v0", "val"), ("v1", "val")),
        ]
    assert runs["source"]["mean_change"] == 0 < runs["histogram"]["mean_change"]
    assert 0 <= runs["translated"]["js"] <= 1
    # Each training patient of HT is judged by a network that has not learnt from it.
    assert {path.name for path in work.iterdir() if path.is_dir()} >= {"target_1", "target0_1", "target1_1"}
    monkeypatch.setattr("sys.argv", [*words, "--levels"])
    evidence.main()
    monkeypatch.setattr("sys.argv", ["x", "--work", str(work), "--report", "--out", str(out)])
    evidence.main()
    record = json.loads((out / f"{evidence.NAME}.json").read_text())
    assert record["patients"] == {"validation": 2, "all": 4}
    assert record["levels"]["translated"]["0.05"]["mean"] == runs["translated"]["js"]
    assert record["levels"]["source"]["0.05"]["values"] == [runs["source"]["js"]]
    assert record["tests"]["translated - source"]["all"]["p_runs"] is None
    text = (out / f"{evidence.NAME}.md").read_text()
    assert all(words in text for words in evidence.WORDS.values())


def test_folds_part_the_training_patients(evidence: Any) -> None:
    from anatozoo.data.case import Case

    cases = [Case(f"{i}{k}", str(i), "train" if i else "val") for i in range(6) for k in range(2)]
    folds = evidence.fold_of(cases)
    assert set(folds) == set("12345")
    assert sorted(folds.values()) == [0, 0, 0, 1, 1]


def test_matching_gives_the_grey_values_that_are_wanted(evidence: Any) -> None:
    draw = np.random.default_rng(0)
    images = draw.uniform(0.1, 0.4, (4, 20, 20)).astype(np.float32)
    images[:, :5] = 0
    wanted = draw.uniform(0.5, 0.9, (2, 20, 20))
    found = evidence.matched(images, np.array(["a", "a", "b", "b"]), wanted)
    assert (found[:, :5] == 0).all()
    np.testing.assert_allclose(np.quantile(found[:2, 5:], [0, 0.5, 1]), [0.5, 0.7, 0.9], atol=0.05)
    order = np.argsort(images[0, 5:], axis=None)
    assert (np.diff(found[0, 5:].ravel()[order]) >= 0).all()


def test_the_detector_is_counted_by_slices(evidence: Any) -> None:
    truth = np.zeros((4, 10, 10), bool)
    truth[2:, :5] = True
    found = np.zeros_like(truth)
    found[0] = found[2] = True  # invented in the first, found in the third, missed in the fourth
    counted = evidence.areas(found, truth)
    assert (counted["area_percent"], counted["true_area_percent"]) == (50, 25)
    assert (counted["found_without_percent"], counted["missed_percent"]) == (50, 50)
    assert (counted["without"], counted["with"]) == (2, 2)

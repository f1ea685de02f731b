"""The evidence of multi-atlas segmentation on phantoms: engines, fusions, resemblance, tables."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from anatozoo.methods.multiatlas.model import MultiAtlasModel
from anatozoo.zoo.checkpoint import write_checkpoint_folder
from tests.support.atlases import fill_atlas
from tests.support.chest_data import write_chest_data

EXPERIMENT = "multiatlas_evidence"


def test_engines_and_fusions_are_measured_and_odd_images_are_less_alike(
    evidence: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    atlas = MultiAtlasModel(atlas=["a", "b", "c"], count=2, frame={"size": 64}, least_resemblance=0.999)
    fill_atlas(atlas)
    folder = write_checkpoint_folder(atlas, tmp_path / "atlas", name="multiatlas-toy", version="1.0.0")
    root = write_chest_data(tmp_path / "data", {"train": 1, "val": 7}, side=128)
    monkeypatch.setattr(evidence, "ENGINES", {"demons": ("voting",)})
    options = ["--root", str(root), "--model", str(folder), "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["multiatlas_evidence.py", *options])
    evidence.main()
    record = json.loads((tmp_path / "multiatlas-jsrt_experiment.json").read_text())
    assert set(record["engines"]["demons"]) == set(evidence.COLUMNS)
    assert record["engines"]["demons"]["dice/heart"]["n"] == 7
    assert set(record["label_maps"]) == {"demons, mean landmarks", "demons, voting"}
    assert record["label_maps"]["demons, voting"]["dice/lungs"]["mean"] > 0.8
    alike = record["resemblance"]
    assert alike["as it is"][0] > max(alike["inverted"][1], alike["turned by 180°"][1], alike["noise"][1])
    below = alike["as it is"][0] < record["least_resemblance"]
    assert bool(record["unlike"]) == below
    text = (tmp_path / "multiatlas-jsrt_experiment.md").read_text()
    assert "| demons " in text
    assert text in capsys.readouterr().out

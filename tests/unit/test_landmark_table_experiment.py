"""The landmark table on phantoms: its rows, answers, faults, tests, tables and pictures."""

import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from anatozoo.cli.settings import configs_of
from anatozoo.errors import DataError
from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.hybridgnet.model import HybridGNetModel
from anatozoo.methods.landmarkvae.model import LandmarkVAEModel
from anatozoo.methods.unet.model import UNetModel
from anatozoo.results.labels import LabelResult
from anatozoo.zoo.checkpoint import write_checkpoint_folder
from tests.support.chest_data import write_chest_data

EXPERIMENT = "landmark_table"
FRAME = FrameSpec(64)


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    """Weights of four rows, not trained."""
    torch.manual_seed(0)
    models = {
        "hybridgnet-jsrt-igsc65": HybridGNetModel(organs="lungs_heart", frame=FRAME, upsampling="copy"),
        "fc-jsrt": LandmarkVAEModel(organs="lungs_heart", frame=FRAME, widths=[512]),
        "fc-jsrt-2": LandmarkVAEModel(organs="lungs_heart", frame=FRAME, widths=[512]),
        "unet-jsrt-row": UNetModel(organs=["lungs", "heart"], frame=FRAME),
    }
    for name, model in models.items():
        write_checkpoint_folder(model, tmp_path / "weights" / name, name=name, version="1.0.0")
    return tmp_path / "weights"


def label_result(label_map: np.ndarray, classes: tuple[str, ...]) -> LabelResult:
    height, width = label_map.shape
    return LabelResult(
        checkpoint="c",
        version="1",
        image="i",
        size=(width, height),
        spacing_mm=None,
        label_map=label_map.astype(np.uint8),
        classes=classes,
    )


def test_names_of_rows_are_unique_and_their_configurations_exist(evidence: Any) -> None:
    names = [name for row in evidence.ROWS for name in row.checkpoints]
    assert len(set(names)) == len(names)
    assert evidence.BEST in names
    for row in evidence.ROWS:
        if row.name != "multiatlas-jsrt":
            assert configs_of([row.config])
    assert {row.published for row in evidence.ROWS if row.published} == set(evidence.published_rows())


def test_the_largest_parts_of_a_pair_are_two(evidence: Any) -> None:
    labels = np.zeros((20, 20), int)
    labels[1:6, 1:6], labels[1:6, 10:14], labels[10:12, 1:3] = 1, 1, 1
    labels[14:18, 10:14], labels[14:16, 1:3] = 2, 2
    result = label_result(labels, ("lungs", "heart"))
    [(name, found)] = list(evidence.answers(result))[1:]
    assert name == "largest parts"
    assert found.label_map[2, 2] == found.label_map[2, 11] == 1
    assert (found.label_map[10, 1], found.label_map[15, 11], found.label_map[15, 1]) == (0, 2, 0)
    assert int((found.label_map > 0).sum()) == 25 + 20 + 16


def test_faults_count_parts_holes_and_crossings_also_untangled_ones(evidence: Any) -> None:
    result = SimpleNamespace(organs=("lungs", "heart"), landmarks={}, flags=())
    numbers = {"components/lungs": 4, "components/heart": 1, "holes/lungs": 1, "holes/heart": 2}
    assert evidence.faults(numbers, result) == {"lost": 0, "parts": 2, "holes": 3, "crossings": 0}
    contours = SimpleNamespace(organs=("heart",), landmarks={"heart": 1}, flags=("untangled_heart",))
    numbers = {"components/heart": 1, "holes/heart": 0, "self_intersections/heart": 0}
    assert evidence.faults(numbers, contours) == {"lost": 0, "parts": 0, "holes": 0, "crossings": 1}
    numbers = {"components/heart": math.nan, "holes/heart": math.nan}
    assert evidence.faults(numbers, contours)["lost"] == 1


def test_the_table_is_measured_once_and_goes_on_where_it_stopped(
    evidence: Any,
    tmp_path: Path,
    checkpoints: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = write_chest_data(tmp_path / "data", {"train": 2, "val": 7}, side=128)
    monkeypatch.setattr(evidence, "seconds_of_prediction", lambda *_: 0.25)
    monkeypatch.setattr(evidence, "minutes_of_training", lambda *_: 12.0)
    out = tmp_path / "out"
    options = ["--root", str(root), "--work", str(tmp_path / "work"), "--checkpoints", str(checkpoints)]
    monkeypatch.setattr(sys, "argv", ["landmark_table.py", *options, "--out", str(out)])
    monkeypatch.setattr(evidence, "resolve", _unknown(evidence))
    evidence.main()
    record = json.loads((out / "landmark-table_experiment.json").read_text())
    lines = {line["title"]: line for line in record["lines"]}
    assert list(lines) == ["FC", "2 IGSC, 6-5", "U-Net", "U-Net: largest parts"]
    assert {"PCA", "PCA (second run)"} <= set(record["missing"])
    assert set(lines["FC"]["runs"]) == set(evidence.METRICS)
    assert set(lines["U-Net"]["metrics"]) == set(evidence.METRICS) - {"mse_px2"}
    assert "against_best" not in lines["2 IGSC, 6-5"]
    assert lines["FC"]["against_best"]["mse_px2"]["n"] == 7
    text = (out / "landmark-table_experiment.md").read_text()
    assert "| FC " in text
    assert "332.2" in text
    first = capsys.readouterr().out
    assert "\nfc-jsrt\n" in "\n" + first
    evidence.main()
    assert "\nfc-jsrt\n" not in "\n" + capsys.readouterr().out


def test_weights_of_another_row_and_damaged_records_are_noticed(
    evidence: Any, tmp_path: Path, checkpoints: Path
) -> None:
    rows = {row.name: row for row in evidence.ROWS}
    evidence.check_row(rows["hybridgnet-jsrt-igsc65"], checkpoints / "hybridgnet-jsrt-igsc65")
    for name in ("pca-jsrt", "hybridgnet-jsrt-igsc54", "fc-jsrt"):
        with pytest.raises(DataError, match=f"not the weights of {name}"):
            evidence.check_row(rows[name], checkpoints / "hybridgnet-jsrt-igsc65")
    (tmp_path / "a.json").write_text("{")
    assert evidence.kept_record(tmp_path / "a.json") == evidence.kept_record(tmp_path / "absent.json") == {}


def test_without_weights_it_says_what_to_do(
    evidence: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_chest_data(tmp_path / "data", {"train": 1, "val": 1}, side=64)
    monkeypatch.setattr(sys, "argv", ["x", "--root", str(root), "--work", str(tmp_path / "work")])
    monkeypatch.setattr(evidence, "resolve", _unknown(evidence))
    with pytest.raises(DataError, match="train one"):
        evidence.main()


def test_cost_and_pictures(evidence: Any, tmp_path: Path, checkpoints: Path) -> None:
    import anatozoo

    pytest.importorskip("pydicom.data", reason="the extra 'demo' is not installed")
    path = str(checkpoints / "fc-jsrt")
    model = anatozoo.load(path, trainable=False)
    assert evidence.parameters(model) == sum(p.numel() for p in model.parameters())
    minutes = evidence.minutes_of_training("landmarkvae/rows/fc.yaml", anatozoo.load(path))
    assert 0 < minutes < 600
    assert (
        evidence.minutes_of_training("unet/jsrt.yaml", anatozoo.load(str(checkpoints / "unet-jsrt-row")))
        is None
    )
    images = evidence.example_radiographs()
    assert len(images) == 3
    drawn = {"FC": {name: model.predict(image) for name, image in images.items()}}
    evidence.draw_radiographs(drawn, images, tmp_path / "rows.png")
    metrics = {"mse_px2": {"mean": 3.0, "ci_low": 2.0, "ci_high": 4.0}}
    evidence.draw_figure(
        [{"title": "FC", "metrics": metrics, "published": {"mse_px2": 5.0}}], tmp_path / "t.png"
    )
    for name in ("rows.png", "t.png"):
        assert (tmp_path / name).stat().st_size > 5000


def _unknown(evidence: Any) -> Any:
    def resolve(name: str) -> Path:
        raise evidence.UnknownCheckpoint(name)

    return resolve

"""The parts of ACNN's evidence that could be wrong without anybody seeing it."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from anatozoo.errors import ConfigError
from anatozoo.frames.spec import FrameSpec
from anatozoo.io.grid import Grid, GridImage
from anatozoo.methods.acnn.module import AcnnModule
from anatozoo.methods.acnnprior.module import AcnnPriorModule
from anatozoo.zoo.checkpoint import write_checkpoint_folder
from tests.support.heart_data import heart, write_hearts

EXPERIMENT = "acnn_evidence"


@pytest.fixture
def stack():
    pixels, labels = heart(8, 48, 48)
    return GridImage(pixels, Grid((48, 48, 8)), "stack"), labels


def write_model(folder: Path, name: str) -> Path:
    torch.manual_seed(len(name))
    module = AcnnModule(widths=[4, 8], frame=FrameSpec([8, 32, 32], long_side=48, fit="slices"))
    return write_checkpoint_folder(module, folder / name, name=name, version="1.0.0")


@pytest.mark.parametrize("kind", ["misaligned", "missing", "ghosting", "bias", "noise"])
def test_a_corruption_changes_the_image_the_same_way_each_time(evidence, stack, kind):
    image, labels = stack
    (a, truth), (b, again) = (evidence.corrupted(image, labels, kind, 1.0) for _ in range(2))
    np.testing.assert_array_equal(a.pixels, b.pixels)
    np.testing.assert_array_equal(truth, again)
    unit = (image.pixels - image.pixels.min()) / np.ptp(image.pixels)
    assert np.isfinite(a.pixels).all()
    assert np.abs(a.pixels - unit).max() > 0.02
    assert (kind == "misaligned") == (not np.array_equal(truth, labels))


def test_misaligned_slices_take_their_truth_along(evidence):
    _, labels = heart(8, 48, 48)
    flat = np.array([0.1, 0.5, 0.3, 0.9], np.float32)[labels]
    pixels, moved = evidence.misaligned(flat, labels, np.random.default_rng(0), 1.0)
    inside = moved > 0
    np.testing.assert_array_equal(pixels[inside], np.array([0.1, 0.5, 0.3, 0.9], np.float32)[moved[inside]])
    assert len(np.unique(np.argmax(moved[1:].any(2), 1))) > 1


def test_missing_slices_are_black_and_never_the_outermost(evidence, stack):
    image, labels = stack
    pixels, truth = evidence.missing(image.pixels, labels, np.random.default_rng(0), 1.0)
    black = [z for z in range(8) if not pixels[z].any()]
    assert len(black) == 2
    assert not {0, 7} & set(black)
    np.testing.assert_array_equal(truth, labels)


def test_ghosts_lie_along_the_columns(evidence):
    pixels = np.zeros((1, 40, 40), np.float32)
    pixels[0, 10, 20] = 1
    ghosts, _ = evidence.ghosting(pixels, np.zeros((1, 40, 40)), np.random.default_rng(0), 1.0)
    assert (ghosts[0, :, 20] > 0.05).sum() > 1
    assert np.abs(np.delete(ghosts[0], 20, 1)).max() < 1e-6


def test_an_open_ring_and_loose_parts_are_counted(evidence):
    _, labels = heart(8, 48, 48)
    assert evidence.implausible(labels) == {"open_slices": 0, "extra_parts": 0}
    labels[3, 24, 24:40] = 3  # the ventricle breaks through its wall
    labels[5, 2:4, 2:4] = 1
    assert evidence.implausible(labels) == {"open_slices": 1, "extra_parts": 1}


def test_a_perfect_model_has_perfect_numbers(evidence):
    _, labels = heart(8, 48, 48)
    row = evidence.row_of(labels, labels)
    assert row["dice"] == row["dice/myocardium"] == 1
    assert row["hd_px"] == row["assd_px/left_ventricle"] == 0


def test_the_command_writes_its_tables_and_the_picture(evidence, tmp_path, monkeypatch, capsys):
    root = write_hearts(tmp_path / "acdc", {"train": [1], "val": [2, 3]})
    models = [str(write_model(tmp_path, name)) for name in ("acnn-acdc", "acnn-acdc-other")]
    prior = AcnnPriorModule(widths=[4, 8], frame=FrameSpec([8, 32, 32], long_side=48, fit="slices"))
    write_checkpoint_folder(prior, tmp_path / "prior", name="acnnprior-acdc", version="1.0.0")
    monkeypatch.setattr(
        sys,
        "argv",
        ["x", "--root", str(root), "--models", *models, "--kinds", "missing", "--out", str(tmp_path / "out")]
        + ["--images", str(tmp_path), "--scarce", "5", *models, "--threads", "1"]
        + ["--prior", str(tmp_path / "prior"), "--also", str(write_model(tmp_path, "acnn-acdc-third"))],
    )
    evidence.main()
    record = json.loads((tmp_path / "out/acnn-acdc_experiment.json").read_text())
    assert list(record["means"]) == ["clean", "missing"]
    assert list(record["means"]["clean"]) == ["truth", "acnn-acdc", "acnn-acdc-other", "acnn-acdc-third"]
    assert list(record["means"]["missing"]) == ["truth", "acnn-acdc", "acnn-acdc-other"]
    test = record["tests"]["clean"]["acnn-acdc-other"]["dice"]
    rows = record["means"]["clean"]
    assert test["n"] == 4
    assert test["difference"] == pytest.approx(rows["acnn-acdc"]["dice"] - rows["acnn-acdc-other"]["dice"])
    assert record["scarce"]["5"]["dice"]["with"] == rows["acnn-acdc"]["dice"]
    assert record["prior"]["n"] == 4
    assert 0 <= record["prior"]["dice"] < 1
    assert str(tmp_path) not in json.dumps(record)
    assert "## Few labels" in (tmp_path / "out/acnn-acdc_experiment.md").read_text()
    assert (tmp_path / "acnn-scarce-labels.png").stat().st_size > 1000
    assert "| acnn-acdc-other" in capsys.readouterr().out


def test_a_model_of_something_else_is_refused(evidence, tmp_path):
    module = AcnnModule(
        organs=["liver"], widths=[4, 8], frame=FrameSpec([8, 32, 32], long_side=48, fit="slices")
    )
    folder = write_checkpoint_folder(module, tmp_path / "m", name="acnn-acdc-m", version="1.0.0")
    with pytest.raises(ConfigError, match="no segmenter of right_ventricle"):
        evidence.load(str(folder))
    with pytest.raises(ConfigError, match="no shape prior of right_ventricle"):
        evidence.reconstructed(str(folder), [])

"""What the experiment of meshes from images counts, and that it runs on a small data set."""

import sys
from pathlib import Path

import numpy as np
import pytest

from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.acnn.module import AcnnModule
from anatozoo.methods.hybridvnet.module import HybridVNetModule
from anatozoo.zoo.checkpoint import write_checkpoint_folder
from tests.support.heart_data import heart, write_hearts

EXPERIMENT = "hybridvnet_evidence"
FRAME = FrameSpec([8, 32, 32], "slices", long_side=40)


def test_defects_are_parts_holes_and_lost_organs(evidence) -> None:
    drawn = heart(8, 64, 64)[1]
    labels = np.array([0, 3, 2, 1], np.uint8)[drawn]  # left ventricle, myocardium, right ventricle
    assert evidence.defects(labels) == 0
    apart = labels.copy()
    apart[4, 2:4, 2:4] = 1
    # The muscle is judged with its cavity, so that a stray piece of that counts for both.
    assert evidence.defects(apart) == 2
    pierced = labels.copy()
    y, x = np.argwhere(labels[4] == 3).mean(0).astype(int)
    pierced[4, y, x] = 0
    assert evidence.defects(pierced) == 1
    assert evidence.defects(np.where(labels == 3, 0, labels).astype(np.uint8)) == 1


def test_contours_of_a_shifted_map_are_as_far_away(evidence) -> None:
    labels = np.array([0, 3, 2, 1], np.uint8)[heart(10, 64, 64)[1]]
    assert evidence.contours(labels, labels) == (0, 0)
    mean, most = evidence.contours(np.roll(labels, 2, 2), labels)
    assert 0.5 < mean < 2
    assert most == pytest.approx(2, abs=0.3)


@pytest.mark.filterwarnings("ignore:Mean of empty slice")
def test_it_measures_a_checkpoint_against_a_unet(
    evidence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_hearts(tmp_path / "acdc", {"train": [1, 2, 3, 4, 5], "val": [6, 7]})
    model = HybridVNetModule(
        frame=FRAME, rings=8, angles=16, widths=(4, 8, 8), graph_widths=(4, 8), skips=(0,), latents=4
    )
    folder = write_checkpoint_folder(model, tmp_path / "mesh", name="hybridvnet-toy", version="1.0.0")
    unet = AcnnModule(frame=FRAME, architecture="unet", widths=[4, 8])
    other = write_checkpoint_folder(unet, tmp_path / "unet", name="acnn-toy", version="1.0.0")
    out = tmp_path / "out"
    given = ["--root", str(root), "--checkpoint", str(folder), "--unet", str(other), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["hybridvnet_evidence.py", *given])
    evidence.main()
    text = (out / "hybridvnet-acdc_experiment.md").read_text()
    assert "Open edges of all meshes: 0." in text
    assert "PCA(32) of the truth" in text
    assert str(tmp_path) not in text
    assert "4/4" in capsys.readouterr().out

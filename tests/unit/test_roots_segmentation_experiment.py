"""The experiment on thin structures: masks from lines, lengths of skeletons, what a gap costs, the report."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from anatozoo.roots.rsml import write_rsml
from anatozoo.roots.system import Root, RootSystem

pytest.importorskip("skimage")
EXPERIMENT = "roots_segmentation"


def line(*points: tuple[int, int], width: int = 9) -> np.ndarray:
    mask = np.zeros((200, 160), np.uint8)
    cv2.polylines(mask, [np.array(points)], False, 1, width)
    return mask > 0


def test_lengths_are_those_of_the_lines(evidence: Any) -> None:
    bones = np.zeros((50, 60), bool)
    bones[10, 5:46] = True
    assert evidence.skeleton_length(bones) == 40
    bones = np.eye(50, dtype=bool)
    assert evidence.skeleton_length(bones) == pytest.approx(49 * np.sqrt(2))
    corner = np.zeros((5, 5), bool)
    corner[0, :3] = corner[:3, 2] = True
    assert evidence.skeleton_length(corner) == 4  # no short cut across the corner


def test_a_gap_costs_cldice_and_length(evidence: Any) -> None:
    truth = line((80, 10), (80, 190))
    same = evidence.measured(truth, truth)
    assert (same["dice"], same["cldice"], same["length_error"], same["parts"]) == (1, 1, 0, 1)
    cut = truth.copy()
    cut[90:110] = False
    found = evidence.measured(cut, truth)
    assert found["parts"] == 2
    assert found["cldice"] == pytest.approx(2 * (160 / 180) / (1 + 160 / 180), abs=0.02)
    assert 0.08 < found["length_error"] < 0.2
    nothing = evidence.measured(np.zeros_like(truth), truth)
    assert (nothing["dice"], nothing["cldice"], nothing["length_error"]) == (0, 0, 1)


def test_photographs_become_a_manifest(evidence: Any, tmp_path: Path) -> None:
    import roots_masks

    root = tmp_path / "roots"
    for name in ("images", "rsml"):
        (root / name).mkdir(parents=True)
    cv2.imwrite(str(root / "images" / "a.jpg"), np.full((200, 160, 3), 90, np.uint8))
    plant = RootSystem((Root(np.array([[40.0, 20.0], [40.0, 150.0]]), None, "1"),), name="a")
    write_rsml(root / "rsml" / "a.rsml", [plant])
    (root / "splits.json").write_text(json.dumps({"train": ["a"]}))
    to = roots_masks.write_manifest(root, tmp_path / "out")
    assert (to / "manifest.csv").read_text().splitlines()[1] == "images/a.png,masks/a.png,a,train"
    mask = cv2.imread(str(to / "masks" / "a.png"), cv2.IMREAD_UNCHANGED)
    assert mask.shape == (200, 160)
    assert mask[80, 35:45].all()
    assert 11 <= mask[80].sum() <= 13
    assert not mask[170].any()


def test_the_report_compares_runs(evidence: Any) -> None:
    same = {"dice": 0.8, "length_error": 0.1, "parts": 3.0}
    runs = [
        {
            "arm": arm,
            "seed": seed,
            "train": 77,
            "settings": {},
            "rows": [{"case": str(n), "cldice": 0.7 + gain * (1 + seed / 10), **same} for n in range(12)],
        }
        for arm, gain in (("dice", 0.0), ("cldice", 0.1))
        for seed in (1, 2, 3)
    ]
    record = evidence.record_of(runs)
    assert record["tests"]["cldice"]["difference"] == pytest.approx(0.12)
    assert record["tests"]["cldice"]["p_runs"] < 0.01
    text = evidence.report({"command": "x", **record})
    assert "| the same and soft clDice | 3 | 0.800 | 0.820 |" in text
    assert "| clDice | +0.120 |" in text

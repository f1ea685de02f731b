"""Landmarks of lungs that end at the heart, from masks that go on behind it."""

import csv
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import anatozoo
from anatozoo.data.layouts.registry import find_cases
from anatozoo.io.organ_masks import OrganMasks
from tests.support.chest_data import COVID_SIDE, write_covid

EXPERIMENT = "lung_landmarks"


class Heart:
    """Finds a heart over the left lung's middle."""

    def predict(self, image: Path) -> Any:
        mask = np.zeros((COVID_SIDE, COVID_SIDE), bool)
        mask[30:50, 30:45] = True
        return SimpleNamespace(masks={"heart": mask})


class Finder:
    """Gives the corners of each mask, and a poor fit for one image."""

    def __init__(self) -> None:
        self.asked: list[OrganMasks] = []

    def predict(self, masks: OrganMasks) -> Any:
        self.asked.append(masks)
        found = {}
        for organ, mask in masks.masks.items():
            y, x = np.nonzero(mask)
            found[organ] = np.array(
                [[x.min(), y.min()], [x.max(), y.min()], [x.max(), y.max()], [x.min(), y.max()]], float
            )
        dice = 0.5 if len(self.asked) == 2 else 0.99
        return SimpleNamespace(landmarks=found, dice=dict.fromkeys(found, dice))


def test_lungs_end_at_the_heart_and_poor_fits_are_left_out(
    evidence: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_covid(tmp_path)
    finder = Finder()
    monkeypatch.setattr(anatozoo, "load", lambda name, **_: Heart() if "hybridgnet" in name else finder)
    out = tmp_path / "out"
    monkeypatch.setattr(sys, "argv", ["lung_landmarks", "--root", str(tmp_path), "--out", str(out)])
    evidence.main()
    assert "left out" in capsys.readouterr().out
    given = finder.asked[0].masks
    assert set(given) == {"lung_right", "lung_left", "heart"}
    assert not (np.asarray(given["lung_left"]) & np.asarray(given["heart"])).any()
    with (out / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(finder.asked) - 1
    cases = find_cases(out, "folder", ["lung_right", "lung_left", "heart"], dims=2).cases
    assert {case.split for case in cases} <= {"train", "val"}
    drawn = cases[0].read_drawn(["lung_right", "lung_left"], cases[0].read_image(2).grid)
    assert set(drawn.landmarks) == {"lung_right", "lung_left"}  # the heart was a guess

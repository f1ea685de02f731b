"""From DICOM files to an audit in two commands."""

import json
from pathlib import Path

import pytest

from anatozoo.cli.main import main
from anatozoo.tasks.engines import Demons
from tests.support.chest_data import write_chest_data
from tests.support.dicom_data import write_scan
from tests.support.fake_model import FakeSegmenter
from tests.unit.serve.fakes import FakeRegistrar, FakeRepairer


class Quick(Demons):
    """An engine that does not look at the images."""

    def register(self, moving, fixed):
        return FakeRegistrar().predict(moving, fixed)


def run(*words: object) -> int:
    return main([str(word) for word in words])


def test_predictions_are_audited_without_another_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("anatozoo.zoo.hub.load", lambda name, device="cpu", trainable=True: FakeSegmenter())
    monkeypatch.setattr("anatozoo.tasks.engines.engine_of", lambda name: Quick())
    root = write_chest_data(tmp_path / "chest", {"train": 2}, side=64)
    atlas, scans, out = tmp_path / "atlas", tmp_path / "in", tmp_path / "out"
    assert run("quality", "build-atlas", root, "--organs", "heart", "--layout", "jsrt", "--atlas", atlas) == 0
    for number in range(6):
        write_scan(scans / f"{number}.dcm", PatientSex="MF"[number % 2], PatientAge=f"0{3 + number}0Y")
    assert run("predict", "fake-phantom", scans, "--out", out, "--quality", atlas, "--groups", "--json") == 0
    printed = capsys.readouterr().out
    images = json.loads(printed[printed.index("{") :])["images"]
    assert [(image["sex"], image["age"]) for image in images[:2]] == [("M", 30.0), ("F", 40.0)]
    # The same phantom in all images has no spread, so that its estimate is named.
    chosen = ["--metrics", "dice_rca_mean/heart", "--permutations", 99]
    assert run("audit", out / "manifest.csv", "--groups", "sex,age_bin", "--json", *chosen) == 0
    groupings = json.loads(capsys.readouterr().out)["groupings"]
    assert [(mean["group"], mean["images"]) for mean in groupings["sex"]["groups"]] == [("M", 3), ("F", 3)]
    ages = [(mean["group"], mean["images"]) for mean in groupings["age_bin"]["groups"]]
    assert ages == [("18–44", 2), ("45–64", 2), ("65+", 2)]


def test_groups_are_for_radiographs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("anatozoo.zoo.hub.load", lambda name, device="cpu", trainable=True: FakeRepairer())
    write_scan(tmp_path / "a.dcm")
    assert run("predict", "fakedae-phantom", tmp_path, "--out", tmp_path / "out", "--groups") == 2
    assert "fakedae-phantom takes masks" in capsys.readouterr().err
    assert run("predict", "x", "--pairs", tmp_path / "p.csv", "--out", tmp_path / "out", "--groups") == 2
    assert "x takes pairs" in capsys.readouterr().err


def test_what_registers_and_chooses_is_for_estimates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[object] = []
    monkeypatch.setattr("anatozoo.zoo.hub.load", lambda name, device="cpu", trainable=True: FakeSegmenter())
    monkeypatch.setattr("anatozoo.tasks.engines.engine_of", lambda name: asked.append(name) or Quick())
    root = write_chest_data(tmp_path / "chest", {"train": 2}, side=64)
    atlas, scans, out = tmp_path / "atlas", tmp_path / "in", tmp_path / "out"
    assert run("quality", "build-atlas", root, "--organs", "heart", "--layout", "jsrt", "--atlas", atlas) == 0
    write_scan(scans / "0.dcm")
    judged = ("--quality", atlas, "--engine", "a,b", "--count", 1, "--selector", "thumbnail")
    assert run("predict", "fake-phantom", scans, "--out", out, *judged) == 0
    assert asked == [("a", "b")]
    assert len(json.loads((out / "0.json").read_text())["quality"]["atlas_images"]) == 1
    capsys.readouterr()
    for option, value in (("--engine", "a"), ("--count", 1), ("--selector", "thumbnail")):
        assert run("predict", "fake-phantom", scans, "--out", out, option, value) == 2
        assert f"{option} is for estimates by --quality" in capsys.readouterr().err

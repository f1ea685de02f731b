"""Runs in which images are translated, alone or before they are segmented."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

from anatozoo.cli.main import main
from anatozoo.errors import ConfigError
from anatozoo.zoo.checkpoint import write_checkpoint_folder
from tests.support.domains import module, shifting
from tests.support.fake_model import FakeSegmenter
from tests.support.runs import run_folder, table_of, visible, write_scans
from tests.unit.serve.fakes import FakeHeart, FakeRegistrar, FakeRepairer, write_volume


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_scans(tmp_path / "in", 3)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint_folder(module(), tmp_path / "model", name="cyclegan-toy", version="1.2.0")


def test_translated_images_are_files_and_inputs(folder: Path, checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["predict", str(checkpoint), str(folder), "--out", str(out), "--quiet"]) == 0
    endings = ("_translated.png", "_translation.png", ".json")
    assert visible(out) == {"manifest.csv", *(f"scan{i}{end}" for i in range(3) for end in endings)}
    about = json.loads((out / "scan1.json").read_text())
    assert (about["checkpoint"], about["domains"]) == ("cyclegan-toy", ["dark", "bright"])
    with PILImage.open(out / "scan1_translated.png") as picture:
        grey = np.asarray(picture)
    expected = module().eval().half().float().predict(folder / "scan1.png").translated
    np.testing.assert_allclose(grey / 255, expected, atol=0.005)
    # A folder of them can be segmented; their pictures are passed over.
    model = FakeSegmenter()
    run_folder(model, [out], tmp_path / "masks", formats=("json",))
    assert sorted(model.seen) == [f"scan{i}_translated" for i in range(3)]


def test_who_translated_stands_in_row_and_json(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    summary = run_folder(FakeSegmenter(), [folder], out, before=[shifting(0.6)], formats=("json",))
    assert not summary.failed
    row = table_of(out)["scan1.png"]
    assert row["models"] == "cyclegan-toy 1.0.0;fake-phantom 1.0.0"
    assert row["flags"] == "large_change"
    about = json.loads((out / "scan1.json").read_text())
    assert (about["checkpoint"], about["translated_by"]) == ("fake-phantom", ["cyclegan-toy 1.0.0"])


def test_before_and_then_are_one_list(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_folder(FakeSegmenter(), [folder], out, before=[shifting()], then=FakeRepairer(), formats=("json",))
    row = table_of(out)["scan1.png"]
    assert row["models"] == "cyclegan-toy 1.0.0;fake-phantom 1.0.0;fakedae-phantom 2.0.0"
    about = json.loads((out / "scan1.json").read_text())
    assert about["translated_by"] == ["cyclegan-toy 1.0.0"]
    assert about["segmenter"]["checkpoint"] == "fake-phantom"


def test_another_translator_does_it_again(folder: Path, tmp_path: Path) -> None:
    def seen(*before: object) -> int:
        model = FakeSegmenter()
        run_folder(model, [folder], tmp_path / "out", before=before, formats=("json",))
        return len(model.seen)

    newer = shifting()
    newer.checkpoint_version = "1.1.0"
    runs = [seen(), seen(shifting()), seen(shifting()), seen(newer), seen()]
    assert runs == [3, 3, 0, 3, 3]


def test_one_image_that_cannot_be_read_fails_alone(folder: Path, tmp_path: Path) -> None:
    (folder / "empty.png").write_bytes(b"")
    model = FakeSegmenter(bad=["scan1"])
    summary = run_folder(model, [folder], tmp_path / "out", before=[shifting()], formats=("json",))
    assert {Path(row.file).name for row in summary.failed} == {"empty.png", "scan1.png"}


def test_what_cannot_be_translated_is_refused_before_the_run(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match="fakedae-phantom translates no images, so it cannot precede"):
        run_folder(FakeSegmenter(), [folder], out, before=[FakeRepairer()])
    with pytest.raises(ConfigError, match="a segmentation of them; fakedae-phantom makes none"):
        run_folder(FakeRepairer(), [folder], out, before=[shifting()])
    with pytest.raises(ConfigError, match="a segmentation of them; cyclegan-toy makes none"):
        run_folder(shifting(), [folder], out, before=[shifting()])
    with pytest.raises(ConfigError, match="translates images; only a segmentation can be followed"):
        run_folder(shifting(), [folder], out, then=FakeRepairer())
    with pytest.raises(ConfigError, match="--pairs"):
        run_folder(FakeRegistrar(), [folder], out, before=[shifting()])
    volume = write_volume(tmp_path / "v.nii.gz", np.zeros((4, 40, 48)))
    with pytest.raises(ConfigError, match="fakeheart-phantom makes none"):
        run_folder(FakeHeart(), [volume], out, before=[shifting()])
    assert not out.exists()


def test_the_command_names_all_steps(
    folder: Path,
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from anatozoo.zoo import hub

    load = hub.load
    fakes = {"fake-phantom": FakeSegmenter(), "fakedae-phantom": FakeRepairer()}
    monkeypatch.setattr(hub, "load", lambda name, **how: fakes.get(name) or load(name, **how))
    given = ["predict", "fake-phantom", str(folder), "--out", str(tmp_path / "out"), "--json"]
    assert main([*given, "--before", str(checkpoint), "--then", "fakedae-phantom"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["before"] == [{"checkpoint": "cyclegan-toy", "version": "1.2.0"}]
    assert (summary["checkpoint"], summary["then"]["checkpoint"]) == ("fake-phantom", "fakedae-phantom")
    assert main([*given, "--before", str(checkpoint), "--overwrite"]) == 0
    assert "then" not in json.loads(capsys.readouterr().out)
    assert main(["predict", str(checkpoint), str(folder), "--out", "x", "--before", str(checkpoint)]) == 2
    assert "--before translates 2-D images for a segmentation" in capsys.readouterr().err

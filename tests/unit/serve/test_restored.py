"""Runs of super-resolution over files, with a small network that interpolates."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from anatozoo.cli.main import main
from anatozoo.errors import ConfigError, DataError
from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.acnnsr.module import AcnnSRModule
from anatozoo.serve.options import ReadOptions
from anatozoo.serve.tasks import kind_of
from anatozoo.zoo.checkpoint import write_checkpoint_folder
from tests.support.fake_model import FakeSegmenter
from tests.support.runs import run_folder, table_of
from tests.unit.serve.fakes import FakeRegistrar, FakeRepairer, write_scan, write_volume

FILES = ("_sr.nii.gz", "_sr.png", ".json")
THICK = (1.0, 1.0, 4.0)


def network() -> AcnnSRModule:
    torch.manual_seed(0)
    module = AcnnSRModule(
        width=4, depth=1, frame=FrameSpec([16, 16, 16], fit="spacing", spacing_mm=[1.0, 1.0, 1.0])
    )
    module.checkpoint_name = "acnnsr-toy"
    return module.eval()


def thick(depth: int = 5) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (depth, 24, 20)).astype(np.uint8)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint_folder(network(), tmp_path / "model", name="acnnsr-toy", version="1.2.0")


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    for name in ("a.nii.gz", "b.mha"):
        write_volume(folder / name, thick(), THICK)
    return folder


def test_every_volume_gets_its_files_and_its_row(
    checkpoint: Path, scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_scan(scans / "radiograph.png")  # no volume, and in a folder passed over
    out = tmp_path / "out"
    assert main(["predict", str(checkpoint), str(scans), "--out", str(out)]) == 0
    assert capsys.readouterr().out.startswith("2 volumes: 2 restored in ")
    assert {path.name for path in out.iterdir() if path.name[0] != "."} == {
        "manifest.csv",
        *(stem + end for stem in "ab" for end in FILES),
    }
    for stem in "ab":
        volume = sitk.ReadImage(str(out / f"{stem}_sr.nii.gz"))
        assert (volume.GetSize(), volume.GetSpacing()) == ((20, 24, 20), (1.0, 1.0, 1.0))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(volume), network().predict(thick()).volume)
    row = table_of(out)["b.mha"]
    assert (row["status"], row["models"], row["flags"]) == ("ok", "acnnsr-toy 1.2.0", "")
    about = json.loads((out / "b.json").read_text())
    assert (about["image"], about["checkpoint"], about["factor"]) == ("b.mha", "acnnsr-toy", 4)


def test_a_run_goes_on_with_what_is_missing(scans: Path, tmp_path: Path) -> None:
    model, out = network(), tmp_path / "out"
    run_folder(model, [scans], out, formats=("nifti", "json"))
    (out / "a_sr.nii.gz").unlink()
    before = (out / "b_sr.nii.gz").stat().st_mtime_ns
    assert run_folder(model, [scans], out, formats=("nifti", "json")).already_done == 1
    assert (out / "a_sr.nii.gz").is_file()
    assert (out / "b_sr.nii.gz").stat().st_mtime_ns == before
    # Results are no volumes to restore again, in whatever folder they lie.
    again = run_folder(model, [tmp_path], out, formats=("nifti", "json"))
    assert (len(again.rows), again.already_done) == (2, 2)


def test_bad_volumes_fail_each_with_its_reason(
    checkpoint: Path, scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = (scans / "a.nii.gz").read_bytes()
    (scans / "short.nii.gz").write_bytes(whole[: len(whole) // 2])
    write_volume(scans / "slice.nii.gz", thick(1), THICK)
    write_volume(scans / "constant.mha", np.zeros((5, 24, 20), np.uint8), THICK)
    flat = write_scan(tmp_path / "flat.png")
    out = tmp_path / "out"
    given = ["predict", str(checkpoint), str(scans), str(flat), "--out", str(out), "--format", "json"]
    assert main([*given, "--json"]) == 3
    summary = json.loads(capsys.readouterr().out)
    assert (summary["restored"], summary["failed"]) == (2, 4)
    rows = table_of(out)
    for name, words in {
        "short.nii.gz": "short.nii.gz",
        "slice.nii.gz": "is one slice; what lies between needs two",
        "constant.mha": "every voxel has the value 0",
        "flat.png": "is one slice",
    }.items():
        assert rows[name]["status"] == "failed"
        assert words in rows[name]["reason"]
    assert not list(out.glob("s*"))


def test_options_are_those_of_volumes(checkpoint: Path, scans: Path, tmp_path: Path) -> None:
    model, out = network(), tmp_path / "out"
    run_folder(model, [scans / "a.nii.gz"], out, formats=("json",), options=ReadOptions((2.0, 2.0, 8.0)))
    about = json.loads((out / "a.json").read_text())
    assert (about["spacing_mm"], about["flags"]) == ([2.0, 2.0, 2.0], ["unusual_spacing"])
    for options, error in (
        (ReadOptions((1.0, 1.0)), "one number or 3 here, not 2"),
        (ReadOptions(invert=True), "invert is for radiographs"),
        (ReadOptions(classes=("a",)), "names the labels of masks"),
    ):
        with pytest.raises(ConfigError, match=error):
            run_folder(model, [scans], out, options=options)
    with pytest.raises(ConfigError, match="restores volumes; only a segmentation"):
        run_folder(model, [scans], out, then=FakeRepairer())
    with pytest.raises(ConfigError, match="repairs no masks, so it cannot follow"):
        run_folder(FakeSegmenter(), [write_scan(tmp_path / "x.png")], out, then=model)
    with pytest.raises(ConfigError, match="restored volumes have no format png"):
        run_folder(model, [scans], out, formats=("png",))
    with pytest.raises(DataError, match="no volume in this folder"):
        run_folder(model, [write_scan(tmp_path / "pictures" / "x.png").parent], out)
    given = ["predict", str(checkpoint), str(scans), "--out", str(out)]
    for wrong in (["--invert"], ["--spacing-mm", "1", "1"], ["--format", "csv"], ["--classes", "a"]):
        assert main([*given, *wrong]) == 2


def test_which_models_take_volumes() -> None:
    assert kind_of(network()).takes == ("volume",)
    assert kind_of(FakeSegmenter()).takes != ("volume",)
    assert kind_of(FakeRepairer(shape=(8, 8, 8))).takes != ("volume",)
    assert kind_of(FakeRegistrar((8, 8, 8))).takes != ("volume",)

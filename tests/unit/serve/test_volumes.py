import json

import numpy as np
import pytest
import SimpleITK as sitk

from anatozoo.cli.main import main
from anatozoo.errors import ConfigError, DataError
from anatozoo.io.grid import Grid, itk_image
from anatozoo.io.read import read_stack
from anatozoo.results.volume import VolumeResult
from anatozoo.serve.options import ReadOptions
from anatozoo.serve.tasks import dims_of
from tests.support.dicom_data import write_series, write_slice
from tests.support.fake_model import FakeSegmenter
from tests.support.runs import run_folder, table_of, visible
from tests.unit.serve.fakes import FakeRepairer, write_scan, write_volume


class FakeVolumeSegmenter:
    """Calls what is bright the heart."""

    kind = "volume"
    checkpoint_name, checkpoint_version = "fakevol-phantom", "4.0.0"
    shape = (4, 32, 32)

    def __init__(self):
        self.seen = []

    def predict(self, x, *, spacing_mm=None):
        stack = read_stack(x, spacing_mm=spacing_mm)
        self.seen.append(stack.name)
        labels = (stack.pixels > 100).astype(np.uint8)
        return VolumeResult(
            self.checkpoint_name,
            self.checkpoint_version,
            stack.source or stack.name,
            stack.grid,
            ("heart",),
            labels,
            flags=("fragmented_heart",),
            dicom=stack.dicom,
        )

    predict_batch = None


@pytest.fixture
def scans(tmp_path):
    for name in ("a.nii.gz", "b.mha"):
        write_volume(tmp_path / "in" / name, scan())
    sitk.WriteImage(itk_image(scan(), Grid((20, 24, 5), (1.0, 1.0, 2.0))), str(tmp_path / "in" / "c.nrrd"))
    write_scan(tmp_path / "in" / "radiograph.png")
    write_volume(tmp_path / "in" / "d.nii.gz", np.zeros((5, 24, 20), np.uint8))
    return tmp_path / "in"


def scan():
    return np.random.default_rng(0).integers(0, 255, (5, 24, 20)).astype(np.uint8)


def test_every_volume_gets_its_files_and_its_row(scans, tmp_path):
    out, model = tmp_path / "out", FakeVolumeSegmenter()
    summary = run_folder(model, [scans], out)
    assert visible(out) == {
        "manifest.csv",
        "measurements.csv",
        *(f"{stem}{end}" for stem in "abc" for end in ("_mask.nii.gz", "_slices.png", ".json")),
    }
    rows = table_of(out)
    assert set(rows) == {"a.nii.gz", "b.mha", "c.nrrd", "d.nii.gz"}  # a picture is no volume
    assert (rows["a.nii.gz"]["status"], rows["a.nii.gz"]["flags"]) == ("ok", "fragmented_heart")
    assert "constant" in rows["d.nii.gz"]["reason"]
    assert len(summary.failed) == 1
    for stem in "abc":
        mask = sitk.ReadImage(str(out / f"{stem}_mask.nii.gz"))
        assert np.array_equal(sitk.GetArrayFromImage(mask), scan() > 100)
        assert mask.GetSpacing() == (1.0, 1.0, 2.0)
    about = json.loads((out / "b.json").read_text())
    assert (about["image"], about["checkpoint"]) == ("b.mha", "fakevol-phantom")
    (out / "c_mask.nii.gz").unlink()
    model.seen.clear()
    assert run_folder(model, [scans], out).already_done == 2
    assert model.seen == ["c"]


def test_options_are_those_of_volumes(scans, tmp_path):
    out, model = tmp_path / "out", FakeVolumeSegmenter()
    run_folder(model, [scans / "a.nii.gz"], out, formats=("json",), options=ReadOptions((2.0, 2.0, 8.0)))
    assert json.loads((out / "a.json").read_text())["spacing_mm"] == [2.0, 2.0, 8.0]
    for options, error in (
        (ReadOptions((1.0, 1.0)), "one number or 3 here, not 2"),
        (ReadOptions(invert=True), "invert is for radiographs"),
        (ReadOptions(classes=("a",)), "names the labels of masks"),
    ):
        with pytest.raises(ConfigError, match=error):
            run_folder(model, [scans], out, options=options)
    with pytest.raises(ConfigError, match="repaired in a run of their own"):
        run_folder(model, [scans], out, then=FakeRepairer())
    with pytest.raises(ConfigError, match="segmented volumes have no format png"):
        run_folder(model, [scans], out, formats=("png",))
    with pytest.raises(DataError, match="no volume in this folder"):
        run_folder(model, [write_scan(tmp_path / "flat" / "x.png").parent], out)
    assert (dims_of(model), dims_of(FakeSegmenter())) == (3, 2)


def test_the_command_line_takes_volumes(scans, tmp_path, monkeypatch, capsys):
    model = FakeVolumeSegmenter()
    monkeypatch.setattr("anatozoo.zoo.hub.load", lambda name, *, device="cpu", trainable=True: model)
    given = ["predict", model.checkpoint_name, str(scans / "[abc].*"), "--out", str(tmp_path / "out")]
    assert main([*given, "--format", "json", "--spacing-mm", "1.5"]) == 0
    assert capsys.readouterr().out.startswith("3 volumes: 3 segmented in ")
    assert json.loads((tmp_path / "out/a.json").read_text())["spacing_mm"] == [1.5] * 3
    for wrong in (["--invert"], ["--spacing-mm", "1", "1"], ["--format", "csv"]):
        assert main([*given, *wrong]) == 2


def test_a_dicom_series_is_done_and_done_again_where_a_slice_changed(tmp_path):
    write_series(tmp_path / "in" / "a" / "SE0", scan().astype(np.uint16))
    write_series(tmp_path / "in" / "b" / "SE0", scan().astype(np.uint16)[:4])
    write_slice(tmp_path / "in" / "b" / "SE0" / "IM900", scan()[0].astype(np.uint16), 90)
    out, model = tmp_path / "out", FakeVolumeSegmenter()
    summary = run_folder(model, [tmp_path / "in"], out)
    good, bad = summary.rows
    assert (good.status, bad.status) == ("ok", "failed")
    assert "mm apart" in bad.reason
    mask = sitk.ReadImage(str(out / f"{good.stem}_mask.nii.gz"))
    assert np.array_equal(sitk.GetArrayFromImage(mask), scan() > 100)
    assert mask.GetSpacing() == pytest.approx((1.5, 2.0, 10.0))
    assert mask.GetOrigin() == (-10.0, 5.0, 0.0)
    assert json.loads((out / f"{good.stem}.json").read_text())["image"] == "SE0"
    (tmp_path / "in" / "b" / "SE0" / "IM900").unlink()
    assert [row.status for row in run_folder(model, [tmp_path / "in"], out).rows] == ["ok", "ok"]
    assert model.seen == ["SE0", "SE0"]
    assert run_folder(model, [tmp_path / "in"], out).already_done == 2
    write_slice(tmp_path / "in" / "a" / "SE0" / "IM000", scan()[1].astype(np.uint16), 0)
    assert run_folder(model, [tmp_path / "in"], out).already_done == 1


def test_a_result_never_replaces_a_slice(tmp_path):
    write_series(tmp_path / "in", scan().astype(np.uint16))
    (tmp_path / "in" / "IM000").rename(tmp_path / "in" / "in.dcm")
    before = {path.name: path.read_bytes() for path in (tmp_path / "in").iterdir()}
    assert run_folder(FakeVolumeSegmenter(), [tmp_path / "in"], tmp_path / "in").rows[0].status == "ok"
    assert {name: (tmp_path / "in" / name).read_bytes() for name in before} == before
    assert run_folder(FakeVolumeSegmenter(), [tmp_path / "in"], tmp_path / "in").already_done == 1

"""DICOM objects by the command line: what is refused, what is told, and what is done again."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image as PILImage

from anatozoo.cli.main import main
from anatozoo.tasks.engines import Demons
from tests.support.chest_data import write_chest_data
from tests.support.dicom_data import STUDY, write_scan, write_series
from tests.support.dicom_results import WITH_UIDS, grey
from tests.support.fake_model import FakeSegmenter
from tests.support.phantoms import make_chest_phantom
from tests.support.runs import rows_of
from tests.unit.serve.fakes import FakeHeart, FakeRegistrar
from tests.unit.serve.test_volumes import FakeVolumeSegmenter

hd = pytest.importorskip("highdicom")


class Quick(Demons):
    """An engine that does not look at the images."""

    def register(self, moving, fixed):
        return FakeRegistrar().predict(moving, fixed)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> FakeSegmenter:
    found = FakeSegmenter()
    monkeypatch.setattr("anatozoo.zoo.hub.load", lambda name, device="cpu", trainable=True: found)
    return found


def run(*words: object) -> int:
    return main([str(word) for word in words])


def test_a_picture_among_dicom_files_fails_alone(tmp_path: Path, model: FakeSegmenter) -> None:
    scans, out = tmp_path / "in", tmp_path / "out"
    write_scan(scans / "a.dcm", **WITH_UIDS)
    write_scan(scans / "b.dcm", BurnedInAnnotation="YES", **WITH_UIDS)
    write_scan(scans / "c.dcm", NumberOfFrames=2, **WITH_UIDS)
    write_scan(scans / "d.dcm")
    PILImage.fromarray(make_chest_phantom(64, 64).image).save(scans / "e.png")
    formats = "dicomseg,sr,gsps,json,png"
    call = ("predict", "fake-phantom", scans, "--out", out, "--format", formats, "--quiet")
    assert run(*call) == 3
    rows = rows_of(out)
    assert [row["status"] for row in rows] == ["ok", "ok", "failed", "failed", "failed"]
    reasons = [row["reason"] for row in rows[2:]]
    assert "holds 2 frames" in reasons[0]
    assert "'d.dcm' has no StudyInstanceUID" in reasons[1]
    assert "'e.png' was not read from DICOM" in reasons[2]
    assert "burned_in_annotation" in rows[1]["flags"]
    assert not list(out.glob("[cde]*"))
    segmented = pydicom.dcmread(out / "b_seg.dcm")
    assert segmented.PatientID == "hospital number 4711"
    # Nothing of it in tables and JSON, and what is done is not done again, nor taken for an image.
    told = (out / "manifest.csv").read_text() + (out / "a.json").read_text()
    assert "hospital number" not in told
    assert STUDY["StudyInstanceUID"] not in told
    seen = len(model.seen)
    assert run(*call) == 3
    assert model.seen[seen:] == ["d", "e"]
    assert run("predict", "fake-phantom", out, "--out", tmp_path / "again", "--quiet") == 1


def test_uids_and_the_patient_are_told_as_asked(tmp_path: Path, model: FakeSegmenter) -> None:
    scans, out = tmp_path / "in", tmp_path / "out"
    write_scan(scans / "a.dcm", SOPInstanceUID="1.2.3", **WITH_UIDS)
    write_scan(scans / "b.dcm", SOPInstanceUID="1.2.4", NumberOfFrames=2, **WITH_UIDS)
    call = ("predict", "fake-phantom", scans, "--out", out, "--format", "dicomseg,json", "--quiet")
    assert run(*call) == 3
    assert run(*call, "--uids", "--no-keep-patient") == 3
    assert model.seen == ["a", "a"]
    one, other = rows_of(out)
    study, series = WITH_UIDS.values()
    assert (one["study_uid"], one["series_uid"], one["instance_uids"]) == (study, series, "1.2.3")
    assert (other["status"], other["instance_uids"]) == ("failed", "1.2.4")
    found = json.loads((out / "a.json").read_text())["dicom"]
    assert found == {"study_uid": study, "series_uid": series, "instance_uids": ["1.2.3"]}
    assert pydicom.dcmread(out / "a_seg.dcm").PatientID == ""


def test_estimated_quality_stands_in_the_report(
    tmp_path: Path, model: FakeSegmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anatozoo.tasks.engines.engine_of", lambda name: Quick())
    root, atlas = write_chest_data(tmp_path / "chest", {"train": 2}, side=64), tmp_path / "atlas"
    assert run("quality", "build-atlas", root, "--organs", "heart", "--layout", "jsrt", "--atlas", atlas) == 0
    scan, out = write_scan(tmp_path / "a.dcm", **WITH_UIDS), tmp_path / "out"
    judged = ("--quality", atlas, "--format", "sr", "--uids", "--quiet")
    assert run("predict", "fake-phantom", scan, "--out", out, *judged) == 0
    [row] = rows_of(out)
    groups = hd.sr.srread(out / "a_sr.dcm").content.get_image_measurement_groups()
    [heart] = [group for group in groups if group.tracking_identifier == "heart"]
    found = {measure.name.value: measure.value for measure in heart.get_measurements()}
    assert found["ESTIMATED_DICE"] == pytest.approx(float(row["dice_rca_max/heart"]), abs=1e-4)
    assert row["study_uid"] == WITH_UIDS["StudyInstanceUID"]


def test_results_within_a_series_are_no_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = FakeVolumeSegmenter()
    monkeypatch.setattr("anatozoo.zoo.hub.load", lambda name, device="cpu", trainable=True: model)
    series = write_series(tmp_path / "in" / "series", grey(), **STUDY)
    formats = "dicomseg,rtstruct,sr,gsps"
    assert run("predict", "fakevol", series, "--out", series, "--format", formats, "--quiet", "--uids") == 0
    [row] = rows_of(series)
    assert row["outputs"].count(".dcm") == 4
    assert len(row["instance_uids"].split(";")) == 6
    assert run("predict", "fakevol", series, "--out", series, "--format", formats, "--quiet", "--uids") == 0
    assert model.seen == ["series"]
    for file in sorted(series.glob("IM*"))[2:3]:
        file.unlink()
    assert run("predict", "fakevol", series, "--out", series, "--format", formats, "--quiet") == 3
    assert "one is missing" in rows_of(series)[0]["reason"]


def test_uids_are_of_single_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = ("predict", "x", "--pairs", tmp_path / "p.csv", "--out", tmp_path / "out")
    assert run(*call, "--uids") == 2
    assert "x takes pairs" in capsys.readouterr().err
    assert run(*call, "--no-keep-patient") == 2
    assert "--keep-patient is about" in capsys.readouterr().err


def heart_series(folder: Path, side: int, number: int, **attributes: object) -> Path:
    """A ventricle of side x side x 4 voxels of 30 mm3 in DICOM, the phase being a series of its own."""
    volume = np.zeros((5, 24, 30), np.uint16)
    volume[:4, 12:22, 5:15] = 150
    volume[:4, 0:side, 0:side] = 250
    own = {"SeriesInstanceUID": f"{STUDY['SeriesInstanceUID']}.{number}", "InstanceNumber": 1}
    return write_series(folder, volume, **{**STUDY, **own, **attributes})


def numbers_of(path: Path) -> dict[str, tuple[float, int]]:
    """Value and number of source images of each measure of a report, by organ and the measure's code."""
    groups = hd.sr.srread(path).content.get_image_measurement_groups()
    return {
        f"{group.tracking_identifier} {measure.name.value}": (measure.value, len(group.source_images))
        for group in groups
        for measure in group.get_measurements()
    }


def test_the_function_of_a_heart_is_in_the_report_of_end_diastole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = FakeHeart()
    monkeypatch.setattr("anatozoo.zoo.hub.load", lambda name, device="cpu", trainable=True: model)
    scans, out = tmp_path / "in", tmp_path / "out"
    early = heart_series(scans / "p1_ED", 10, 1)
    late = heart_series(scans / "p1_ES", 5, 2)
    call = ("predict", "fake", early, late, "--out", out, "--format", "sr")
    assert run(*call) == 0
    ed, es = numbers_of(out / "p1_ED_sr.dcm"), numbers_of(out / "p1_ES_sr.dcm")
    assert set(es) == {"left_ventricle 118565006", "myocardium 118565006"}
    assert ed["left_ventricle 118565006"] == (pytest.approx(12), 5)
    assert ed["left_ventricle 8811-2"] == (pytest.approx(75), 10)
    assert ed["left_ventricle 8821-1"] == (pytest.approx(12), 10)
    assert ed["left_ventricle 8823-7"] == (pytest.approx(3), 10)
    assert ed["myocardium 18087-7"][1] == 10
    assert set(ed) > set(es)
    if shutil.which("dciodvfy") is not None:
        words = ["dciodvfy", "-new", str(out / "p1_ED_sr.dcm")]
        said = subprocess.run(words, capture_output=True, text=True, check=False)
        assert not [line for line in said.stderr.splitlines() if line.startswith("Error")]
    # Nothing is done again, and a report from which the function is missing, as after a kill, is completed.
    whole, changed = (out / "p1_ED_sr.dcm").read_bytes(), (out / "p1_ED_sr.dcm").stat().st_mtime_ns
    assert run(*call) == 0
    assert (out / "p1_ED_sr.dcm").stat().st_mtime_ns == changed
    shutil.copy(out / "p1_ES_sr.dcm", out / "p1_ED_sr.dcm")
    assert run(*call) == 0
    assert (out / "p1_ED_sr.dcm").read_bytes() == whole
    # Another end-systole changes the number, and one that fails takes it away.
    shutil.rmtree(late)
    heart_series(late, 10, 3)
    assert run(*call) == 0
    assert numbers_of(out / "p1_ED_sr.dcm")["left_ventricle 8811-2"][0] == pytest.approx(0)
    capsys.readouterr()
    assert run("predict", "fake", late, "--out", out, "--format", "sr", "--overwrite") == 0
    assert "p1_ED_sr.dcm does not hold this function; give both phases at once." in capsys.readouterr().out
    next(late.iterdir()).write_bytes(b"")
    assert run(*call) == 3
    assert set(numbers_of(out / "p1_ED_sr.dcm")) == set(es)


def test_phases_of_two_studies_have_no_report_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = FakeHeart()
    monkeypatch.setattr("anatozoo.zoo.hub.load", lambda name, device="cpu", trainable=True: model)
    early = heart_series(tmp_path / "p1_ED", 10, 1)
    late = heart_series(tmp_path / "p1_ES", 5, 2, StudyInstanceUID="1.2.3")
    assert run("predict", "fake", early, late, "--out", tmp_path / "out", "--format", "sr") == 0
    assert "are of two studies" in capsys.readouterr().out
    assert "left_ventricle 8811-2" not in numbers_of(tmp_path / "out" / "p1_ED_sr.dcm")
    # A function of before does not stay when the other phase turns out to be of another study.
    assert set(numbers_of(tmp_path / "out" / "p1_ED_sr.dcm")) == {
        "left_ventricle 118565006",
        "myocardium 118565006",
    }
    shutil.rmtree(late)
    heart_series(late, 5, 2)
    call = ("predict", "fake", early, late, "--out", tmp_path / "out", "--format", "sr")
    assert run(*call) == 0
    assert "left_ventricle 8811-2" in numbers_of(tmp_path / "out" / "p1_ED_sr.dcm")
    shutil.rmtree(late)
    heart_series(late, 5, 2, StudyInstanceUID="1.2.3")
    assert run(*call) == 0
    assert "left_ventricle 8811-2" not in numbers_of(tmp_path / "out" / "p1_ED_sr.dcm")


def test_exchanged_phases_are_remarked_and_leave_nothing_when_they_are_put_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = FakeHeart()
    monkeypatch.setattr("anatozoo.zoo.hub.load", lambda name, device="cpu", trainable=True: model)
    out, table = tmp_path / "out", tmp_path / "phases.csv"
    heart_series(tmp_path / "early", 10, 1)
    heart_series(tmp_path / "late", 5, 2)
    call = ("predict", "fake", "--phases", table, "--out", out, "--format", "sr")
    table.write_text("patient,ed,es\np1,late,early\n")
    assert run(*call) == 0
    wrong = hd.sr.srread(out / "late_sr.dcm")
    groups = wrong.content.get_image_measurement_groups()
    remarks = [each.value.meaning for group in groups for each in group.get_qualitative_evaluations()]
    assert remarks == ["negative_ejection_left_ventricle"]
    assert numbers_of(out / "late_sr.dcm")["left_ventricle 8811-2"][0] == pytest.approx(-300)
    table.write_text("patient,ed,es\np1,early,late\n")
    assert run(*call) == 0
    assert numbers_of(out / "early_sr.dcm")["left_ventricle 8811-2"][0] == pytest.approx(75)
    assert "left_ventricle 8811-2" not in numbers_of(out / "late_sr.dcm")

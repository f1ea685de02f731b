"""Columns of patients' groups in the table of a run over DICOM files, and their audit."""

from pathlib import Path

import pytest
from PIL import Image as PILImage

from anatozoo.errors import ConfigError
from anatozoo.serve.groups import NUMBERS, TEXTS
from tests.support.dicom_data import write_scan
from tests.support.fake_model import FakeSegmenter
from tests.support.phantoms import make_chest_phantom
from tests.support.runs import rows_of, run_folder
from tests.unit.serve.fakes import FakeRepairer, labels, write_mask


@pytest.fixture
def folder(tmp_path):
    scans = tmp_path / "in"
    write_scan(scans / "a.dcm", PatientSex="F", PatientAge="045Y", ViewPosition="PA", Manufacturer="Acme")
    write_scan(scans / "b.dcm", PatientSex="M", PatientAge="018M", ViewPosition="AP")
    write_scan(scans / "c.dcm", PatientSex="no", PatientAge="old")
    PILImage.fromarray(make_chest_phantom(60, 70).image).save(scans / "d.png")
    return scans


def by_stem(out):
    return {Path(row["file"]).stem: row for row in rows_of(out)}


def groups_in(out):
    names = ("sex", "age", "view", "modality", "manufacturer")
    return {stem: tuple(row[name] for name in names) for stem, row in by_stem(out).items()}


GROUPS = {
    "a": ("F", "45", "PA", "DX", "Acme"),
    "b": ("M", "1.5", "AP", "DX", ""),
    "c": ("", "", "", "DX", ""),
    "d": ("", "", "", "", ""),
}


def test_groups_are_columns_of_the_table(folder, tmp_path):
    run_folder(FakeSegmenter(), [folder], tmp_path / "out", groups=True)
    assert groups_in(tmp_path / "out") == GROUPS
    text = (tmp_path / "out" / "manifest.csv").read_text()
    assert "Doe" not in text
    assert "hospital number" not in text


def test_nothing_about_patients_unless_asked_for(folder, tmp_path):
    run_folder(FakeSegmenter(), [folder], tmp_path / "out")
    assert not {*TEXTS, *NUMBERS} & set(by_stem(tmp_path / "out")["a"])


def test_groups_come_and_go_without_computing_again(folder, tmp_path):
    out, model = tmp_path / "out", FakeSegmenter()
    run_folder(model, [folder], out)
    model.seen.clear()
    run_folder(model, [folder], out, groups=True)
    assert groups_in(out) == GROUPS
    run_folder(model, [folder / "a.dcm"], out, groups=True)
    assert groups_in(out) == GROUPS
    run_folder(model, [folder], out)
    assert "sex" not in by_stem(out)["a"]
    assert model.seen == []


def test_images_that_fail_have_their_groups(folder, tmp_path):
    summary = run_folder(FakeSegmenter(bad=["a"]), [folder], tmp_path / "out", groups=True)
    assert [Path(row.file).stem for row in summary.failed] == ["a"]
    assert groups_in(tmp_path / "out") == GROUPS


def test_masks_have_no_groups(tmp_path):
    write_mask(tmp_path / "in" / "a_mask.png", labels())
    with pytest.raises(ConfigError, match="fakedae-phantom takes masks"):
        run_folder(FakeRepairer(), [tmp_path / "in"], tmp_path / "out", groups=True)

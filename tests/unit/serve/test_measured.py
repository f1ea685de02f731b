"""The table of measurements: a line for each number, right whatever stops or repeats a run."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PILImage

from anatozoo.cli.main import main
from anatozoo.errors import DataError, OutputError
from anatozoo.metrics.measurements import Measurement
from anatozoo.serve.hearts import Heart, find_hearts, read_phases
from anatozoo.serve.measured import Measured, MeasuredWriter, read_measured
from tests.support.fake_model import FakeSegmenter
from tests.support.phantoms import make_chest_phantom
from tests.support.runs import run_folder, table_of
from tests.unit.serve.fakes import FakeHeart, write_volume


def lines(out: Path) -> list[dict[str, str]]:
    with (out / "measurements.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def values(out: Path, file: str) -> dict[str, str]:
    return {
        f"{x['organ']} {x['quantity']}".strip(): f"{x['value']} {x['unit']}"
        for x in lines(out)
        if x["file"] == file
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.png"):
        PILImage.fromarray(make_chest_phantom(60, 70).image).save(tmp_path / "in" / name)
    return tmp_path / "in"


def test_every_number_has_a_line(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (folder / "bad.png").write_bytes(b"")
    run_folder(FakeSegmenter(), [folder], out)
    result = FakeSegmenter().predict(folder / "a.png")
    assert [
        (x["organ"], x["quantity"], x["value"], x["unit"]) for x in lines(out) if x["file"] == "a.png"
    ] == [(m.organ, m.name, m.text, m.unit) for m in result.measurements]
    assert values(out, "a.png")["heart area"] == f"{result.areas_px['heart']} px2"
    assert float(values(out, "a.png")["cardiothoracic_ratio"].split()[0]) == pytest.approx(
        result.cardiothoracic_ratio, abs=1e-4
    )
    assert {x["checkpoint"] for x in lines(out)} == {"fake-phantom 1.0.0"}
    assert {x["file"] for x in lines(out)} == {"a.png", "b.png"}


def test_a_second_run_replaces_what_it_does_again_and_keeps_the_rest(folder: Path, tmp_path: Path) -> None:
    out, model = tmp_path / "out", FakeSegmenter()
    run_folder(model, [folder], out)
    before = values(out, "b.png")
    PILImage.fromarray(make_chest_phantom(120, 140).image).save(folder / "a.png")
    run_folder(model, [folder / "a.png"], out)
    assert float(values(out, "a.png")["heart area"].split()[0]) > 3 * float(before["heart area"].split()[0])
    assert values(out, "b.png") == before
    assert len(lines(out)) == 2 * len(before)
    (folder / "a.png").write_bytes(b"")
    run_folder(model, [folder], out)
    assert {x["file"] for x in lines(out)} == {"b.png"}


def test_a_run_that_was_killed_leaves_no_line_twice(folder: Path, tmp_path: Path) -> None:
    out, model = tmp_path / "out", FakeSegmenter()
    run_folder(model, [folder], out)
    whole = (out / "measurements.csv").read_bytes()
    manifest = (out / "manifest.csv").read_text().splitlines(keepends=True)
    # As if it was killed between the numbers of b.png and its row, in the middle of a third one's numbers.
    (out / "manifest.csv").write_text("".join(manifest[:2]))
    (out / "measurements.csv").write_bytes(whole + b"c.png,,fake-phantom 1.0.0,heart,ar")
    model.seen.clear()
    run_folder(model, [folder], out)
    assert model.seen == ["b"]
    assert (out / "measurements.csv").read_bytes() == whole
    (out / "measurements.csv").unlink()
    run_folder(model, [folder], out)
    assert (out / "measurements.csv").read_bytes() == whole


def test_the_table_of_somebody_else_is_left_alone(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "measurements.csv").write_text("mine,yours\n1,2\n")
    with pytest.raises(OutputError, match="is not a table of anatozoo and is left alone"):
        run_folder(FakeSegmenter(), [folder], tmp_path / "out")
    assert (tmp_path / "out" / "measurements.csv").read_text() == "mine,yours\n1,2\n"


def test_names_that_a_spreadsheet_would_compute_come_back(tmp_path: Path) -> None:
    names = ("=1+1.png", "a;b.png", "c;d;e.png", "new\nline.png")
    rows = [Measured(name, "c 1", (Measurement("area", "heart", -0.00001, "mm2"),), ("f",)) for name in names]
    writer = MeasuredWriter(tmp_path, rows[:2])
    for row in rows[2:]:
        writer.append(row)
    found = read_measured(tmp_path)
    assert found is not None
    assert list(found) == list(names)
    assert found["=1+1.png"].measurements[0].text == "0"
    both = Measured("a;b.png;c;d;e.png", "c 1", rows[0].measurements)
    assert both.parts(found) == ("a;b.png", "c;d;e.png")
    assert rows[1].parts(found) == ("a;b.png",)
    assert both.parts({"a": 1, "c;d;e.png": 2}) == ()


# Hearts.


def heart(path: Path, side: int, spacing: tuple[float, ...] = (2.0, 2.0, 5.0)) -> Path:
    """A ventricle of `side` x `side` voxels of 20 mm3 in each of four slices; its wall has 400 in all."""
    values = np.zeros((5, 24, 30), np.uint8)
    values[:4, 12:22, 5:15] = 150
    values[:4, 0:side, 0:side] = 250
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_volume(path, values, spacing)


def test_the_function_of_hearts_follows_from_both_phases(tmp_path: Path, capsys: Any) -> None:
    scans, out = tmp_path / "in", tmp_path / "out"
    heart(scans / "p1" / "p1_frame01.nii.gz", 10)
    heart(scans / "p1" / "p1_frame12.nii.gz", 5)
    (scans / "p1" / "Info.cfg").write_text("ED: 1\nES: 12\n")
    heart(scans / "p2_ED.nii.gz", 8)
    heart(scans / "p2_ES.nii.gz", 9)
    heart(scans / "p3_frame01.nii.gz", 8)
    heart(scans / "p3_frame02.nii.gz", 9)
    heart(scans / "alone.nii.gz", 8)
    run_folder(FakeHeart(), [scans], out, formats=("json",))
    ed, es = "p1/p1_frame01.nii.gz", "p1/p1_frame12.nii.gz"
    assert values(out, ed) == {"left_ventricle volume": "8 ml", "myocardium volume": "8 ml"}
    assert values(out, f"{ed};{es}") == {
        "left_ventricle end_diastolic_volume": "8 ml",
        "left_ventricle end_systolic_volume": "2 ml",
        "left_ventricle stroke_volume": "6 ml",
        "left_ventricle ejection_fraction": "75 %",
        "myocardium mass": "8.4 g",
    }
    assert {x["patient"] for x in lines(out) if ";" in x["file"]} == {"p1", "p2"}
    flags = {x["file"]: x["flags"] for x in lines(out)}
    assert flags["p2_ED.nii.gz;p2_ES.nii.gz"] == "negative_ejection_left_ventricle"
    assert flags[f"{ed};{es}"] == ""
    # A later run over one phase changes what follows from both.
    heart(scans / "p1" / "p1_frame12.nii.gz", 10)
    run_folder(FakeHeart(), [scans], out, formats=("json",))
    assert values(out, f"{ed};{es}")["left_ventricle ejection_fraction"] == "0 %"
    (scans / "p1" / "p1_frame12.nii.gz").write_bytes(b"")
    run_folder(FakeHeart(), [scans], out, formats=("json",))
    assert values(out, f"{ed};{es}") == {}
    assert len(table_of(out)) == 7


def test_hearts_are_paired_by_what_is_said_and_never_guessed(tmp_path: Path) -> None:
    (tmp_path / "acdc").mkdir()
    (tmp_path / "acdc" / "Info.cfg").write_text("ED: 1\nES: 09\nGroup: NOR\n")
    named = [
        *("acdc/patient1_frame01.nii.gz", "acdc/patient1_frame09.nii.gz", "acdc/patient1_frame05.nii.gz"),
        *("q/ED.nii.gz", "q/ES.nii.gz", "x_es.mha", "x_ed.mha", "y-ED-sa.nii", "y-ES-sa.nii", "fred_1.nii"),
        *("z_ED.nii", "z_ED.mha", "z_ES.nii", "w_frame1.nii", "w_frame2.nii", "v_ED.nii"),
    ]
    hearts, notes = find_hearts([tmp_path / name for name in named])
    found = {h.patient: tuple(str(Path(p).relative_to(tmp_path)) for p in (h.ed, h.es)) for h in hearts}
    assert found == {
        "patient1": ("acdc/patient1_frame01.nii.gz", "acdc/patient1_frame09.nii.gz"),
        "q": ("q/ED.nii.gz", "q/ES.nii.gz"),
        "x": ("x_ed.mha", "x_es.mha"),
        "y-sa": ("y-ED-sa.nii", "y-ES-sa.nii"),
    }
    assert notes == [
        "z: 2 volumes are called ED, so none was paired.",
        "w: of 2 frames no Info.cfg says which is ED and which ES; give --phases.",
    ]


def test_a_table_names_the_phases(tmp_path: Path) -> None:
    table = tmp_path / "phases.csv"
    table.write_text("patient,es,ed\np7,sub/b.nii.gz,a.nii.gz\n")
    assert read_phases(table) == [Heart("p7", str(tmp_path / "a.nii.gz"), str(tmp_path / "sub" / "b.nii.gz"))]
    for text, words in (
        ("patient,ed\np7,a\n", "needs the columns patient, ed, es"),
        ("patient,ed,es\n", "a line below"),
        ("", "needs the columns"),
        ("patient,ed,es\np7,a,\np8,b,c\n", "line 2: write a patient and two volumes"),
        ("patient,ed,es\np7,a,a\n", "a' is in line 2 already"),
        ("patient,ed,es\np7,a,b\np7,c,d\n", "the patient 'p7' is in line 2 already"),
    ):
        table.write_text(text)
        with pytest.raises(DataError, match=words):
            read_phases(table)


def test_the_command_takes_a_table_of_phases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = FakeHeart()
    monkeypatch.setattr("anatozoo.zoo.hub.load", lambda name, device="cpu", trainable=True: model)
    heart(tmp_path / "late.nii.gz", 5)
    heart(tmp_path / "sub" / "early.nii.gz", 10)
    table = tmp_path / "phases.csv"
    table.write_text("patient,ed,es\np7,sub/early.nii.gz,late.nii.gz\np8,gone.nii.gz,lost.nii.gz\n")
    arguments = [
        "predict",
        "fake",
        "--phases",
        str(table),
        "--out",
        str(tmp_path / "out"),
        "--format",
        "json",
    ]
    assert main(arguments) == 3
    told = capsys.readouterr()
    assert "1 heart with both phases: function in measurements.csv." in told.out
    assert "p8: ED was not segmented." in told.out
    [function] = [x for x in lines(tmp_path / "out") if x["quantity"] == "ejection_fraction"]
    assert (function["patient"], function["value"]) == ("p7", "75")
    assert main([*arguments, str(tmp_path / "late.nii.gz")]) == 2
    assert "leave IN out" in capsys.readouterr().err
    monkeypatch.setattr(model, "organs", ("liver",), raising=False)
    assert main(arguments) == 2
    assert "--phases is for hearts; fakeheart-phantom finds no ventricle" in capsys.readouterr().err

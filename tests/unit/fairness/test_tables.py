from pathlib import Path

import pandas as pd
import pytest

from anatozoo.errors import DataError
from anatozoo.fairness.groups import LeftOut
from anatozoo.fairness.joins import join
from anatozoo.fairness.tables import choose_metrics, read_scores, read_table
from anatozoo.io.keys import plain_name
from anatozoo.serve.manifest import ManifestWriter, Row
from tests.support.chexmask_data import PADCHEST, write_padchest


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_rows_of_an_evaluation(tmp_path):
    path = write(tmp_path / "a.csv", "id,sex,dice/heart,error\n1,M,0.9,\n2,F,,cannot be read\n")
    scores = read_scores(path)
    assert scores.table["id"].tolist() == ["1"]
    assert (scores.rows, scores.left_out) == (2, (LeftOut("image could not be read or segmented", 1),))


def test_the_table_of_a_prediction(tmp_path):
    with ManifestWriter(tmp_path, [Row("/scans/a.png", "ok"), Row("/scans/b.png", "failed", "damaged")]):
        pass
    scores = read_scores(tmp_path / "manifest.csv")
    assert scores.table["file"].tolist() == ["/scans/a.png"]
    joined = join(scores, pd.DataFrame({"File": ["a.png"], "sex": ["F"]}), "File", "clinical.csv")
    assert joined.table["sex"].tolist() == ["F"]


def test_only_failures_are_no_scores(tmp_path):
    with pytest.raises(DataError, match=r"no row of an image that was measured \(1 failed\)"):
        read_scores(write(tmp_path / "a.csv", "id,error\n1,damaged\n"))


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_separators_and_byte_order_marks(tmp_path, separator):
    text = "﻿id, sex,age\n007,M,045Y\n".replace(",", separator)
    table, remarks = read_table(write(tmp_path / "a.csv", text))
    assert not remarks
    assert table.columns.tolist() == ["id", "sex", "age"]
    assert table.loc[0].tolist() == ["007", "M", "045Y"]


def test_unreadable_tables_are_named(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_table(tmp_path / "nowhere.csv")
    with pytest.raises(DataError, match="has no row"):
        read_table(write(tmp_path / "a.csv", "id,sex\n"))
    (tmp_path / "b.csv").write_bytes(b"id,n\x81me\n1,\xff\n")
    with pytest.raises(DataError, match="neither UTF-8 nor Windows-1252"):
        read_table(tmp_path / "b.csv")


def test_names_meet_without_folder_and_suffix(tmp_path):
    scores = read_scores(write(tmp_path / "a.csv", "id,dice\nJPCLN001,0.9\nJPCLN002,0.8\nother,0.7\n"))
    clinical = pd.DataFrame({"File": ["JPCLN002.png", "JPCLN001.png"], "Sex": ["M", "F"]})
    joined = join(scores, clinical, "File", "clinical.csv")
    assert joined.table["Sex"].tolist()[:2] == ["F", "M"]
    assert joined.table["Sex"].isna().tolist() == [False, False, True]
    assert joined.left_out == (LeftOut("not in clinical.csv, so its columns are empty there", 1),)


def test_dots_of_an_identifier_stay():
    assert plain_name("1.2.840.113") == "1.2.840.113"
    assert plain_name("C:\\scans\\a.b.NII.GZ") == "a.b"


def test_the_scores_own_columns_stand_and_are_filled(tmp_path):
    scores = read_scores(write(tmp_path / "a.csv", "id,sex,age,dice\na,M,50,0.9\nb,,60,0.8\n"))
    other = pd.DataFrame({"id": ["a", "b"], "sex": ["F", "F"], "age": ["50.0", "60"]})
    joined = join(scores, other, "id", "t.csv")
    assert joined.table["sex"].tolist() == ["M", "F"]
    assert joined.notes == ("sex differs between the two tables in 1 rows; that of the scores was taken.",)


@pytest.mark.parametrize(
    ("other", "on", "message"),
    [
        ({"id": ["a", "a"], "sex": ["M", "F"]}, "id", "different values for 1 names in id, such as a"),
        ({"id": ["x"]}, "id", "no row has a partner in t.csv: id has a, b, and there id has x"),
        ({"idd": ["a"]}, "id", "t.csv has no column id; did you mean idd"),
    ],
)
def test_joins_that_cannot_be(tmp_path, other, on, message):
    scores = read_scores(write(tmp_path / "a.csv", "id,dice\na,0.9\nb,0.8\n"))
    with pytest.raises(DataError, match=message):
        join(scores, pd.DataFrame(other), on, "t.csv")


def table_of(*columns):
    return pd.DataFrame({column: [0.1, 0.2, 0.3] for column in columns})


def test_metrics_that_are_taken_by_themselves():
    table = table_of(
        "seconds",
        "dice/lung_right",
        "dice/lungs",
        "dice/heart",
        "hd_px/heart",
        "hd_mm/heart",
        "assd_mm/heart",
    )
    assert choose_metrics(table) == ["dice/lungs", "dice/heart", "hd_mm/heart"]
    assert choose_metrics(table_of("hd_px/heart")) == ["hd_px/heart"]
    assert choose_metrics(table_of("id", "Dice RCA (Mean)")) == ["Dice RCA (Mean)"]
    assert choose_metrics(table_of("mse_px2")) == ["mse_px2"]


def test_patterns():
    table = table_of("dice/lungs", "dice/heart", "assd_mm/heart")
    assert choose_metrics(table, ["assd_mm/*", "dice/heart"]) == ["assd_mm/heart", "dice/heart"]
    with pytest.raises(DataError, match="did you mean dice/heart"):
        choose_metrics(table, ["dice/hart"])


def test_no_metric_is_named():
    with pytest.raises(DataError, match="name some by --metrics: id, volume"):
        choose_metrics(table_of("id", "volume"))


@pytest.mark.parametrize("cell", ["fail", "92%", '"0,9"'])
def test_a_word_in_a_metric_is_named_with_its_row(tmp_path, cell):
    text = f"id,dice/lungs,dice/heart,quality\na,0.91,0.8,good\nb,{cell},0.7,poor\nc,0.93,0.6,good\n"
    table = read_scores(write(tmp_path / "a.csv", text)).table
    value = cell.strip('"')
    with pytest.raises(DataError, match=f"dice/lungs holds words, such as '{value}' in the row of b;"):
        choose_metrics(table)
    # Remarks in words are no metric, and what was not asked for is not looked at.
    assert choose_metrics(table, ["dice/heart"]) == ["dice/heart"]
    assert choose_metrics(table.drop(columns="dice/lungs")) == ["dice/heart"]


def test_words_alone_under_the_name_of_a_metric():
    table = table_of("hd_mm/heart").assign(**{"dice/heart": "fail"})
    with pytest.raises(DataError, match="dice/heart holds words, such as 'fail' in the row of number 1"):
        choose_metrics(table)
    percent = pd.DataFrame({"Accuracy": ["92%", "93%"]})
    with pytest.raises(DataError, match="Accuracy holds words, such as '92%'"):
        choose_metrics(percent)


def test_words_of_failed_images_do_not_hide_a_metric(tmp_path):
    text = "id,dice/heart,error\na,0.9,\nb,fail,unreadable\nc,0.8,\n"
    table = read_scores(write(tmp_path / "a.csv", text)).table
    assert choose_metrics(table) == ["dice/heart"]


def test_estimates_that_are_taken_by_themselves():
    estimates = [
        f"{kind}{organ}"
        for kind in ("dice_rca_max", "dice_rca_mean", "hd_mm_rca_min", "hd_mm_rca_mean")
        for organ in ("", "/lungs", "/heart")
    ]
    alone = choose_metrics(table_of(*estimates))
    assert alone == [name for name in estimates if "_mean" in name]
    beside = choose_metrics(table_of("dice/heart", "hd_mm/heart", *estimates))
    assert beside == ["dice/heart", "hd_mm/heart", "dice_rca_mean/heart"]
    # What was named is taken as it is.
    assert choose_metrics(table_of("dice/heart", *estimates), ["dice_rca_max"]) == ["dice_rca_max"]


def test_padchest_in_chexmask_is_put_right_and_says_so(tmp_path):
    scores = read_scores(write_padchest(tmp_path / "Padchest.csv"))
    assert scores.table["Dice RCA (Mean)"].tolist() == [0.80, 0.70, 0.85, 0.86, 0.81]
    assert scores.table["Dice RCA (Max)"].tolist() == [0.90, 0.75, 0.95, 0.90, 0.88]
    (note,) = scores.notes
    assert note.startswith("Dice RCA (Max) and Dice RCA (Mean) were exchanged in 2 rows: this is Padchest's")


def test_other_tables_with_impossible_estimates_are_pointed_out_and_left(tmp_path):
    scores = read_scores(write_padchest(tmp_path / "a.csv", ("dicom_id", *PADCHEST[1:])))
    assert scores.table["Dice RCA (Max)"].tolist() == [0.80, 0.70, 0.95, 0.90, 0.88]
    assert scores.notes == (
        "Dice RCA (Max) is below Dice RCA (Mean) in 2 rows, which cannot be; they were taken as they are.",
    )

import time
import unicodedata

import numpy as np
import pandas as pd
import pytest

from anatozoo.errors import DataError
from anatozoo.fairness.groups import make_groups
from anatozoo.fairness.joins import join
from anatozoo.fairness.tables import Joined, Scores, read_scores, read_table
from anatozoo.io.keys import match_keys


def scores(**columns):
    rows = len(next(iter(columns.values())))
    return Scores(pd.DataFrame(columns | {"dice": [0.9] * rows}), rows)


def joined(names, others, *, column="id", on="name", values=None, **more):
    values = values or [f"v{name}" for name in others]
    other = pd.DataFrame({on: others, "sex": values})
    return join(scores(**{column: names}), other, on, "c.csv", **more).table["sex"]


@pytest.mark.parametrize(
    ("own", "other"),
    [
        ("a", "a"),
        ("a", "a.png"),
        ("/data/x/a.NII.GZ", "a"),
        ("C:\\data\\x\\a.png", "x/a.png"),
        ("A01", " a01 "),
        (unicodedata.normalize("NFD", "Müller"), "Müller"),
        ("0007", '="0007"'),
        ("x/0007.png", "./x/0007.png"),
        ("/data/one/x/a.png", "D:\\two\\x\\a.png"),
        ("1.2.840.113", "1.2.840.113"),
    ],
)
def test_names_that_mean_the_same(own, other):
    assert joined([own, "another"], [other, "else"]).tolist()[0] == f"v{other}"


def test_zeros_in_front_tell_names_apart():
    assert joined(["0007", "7"], ["7", "0007"]).tolist() == ["v0007", "v7"]


@pytest.mark.parametrize(
    ("own", "other"), [("0007", "7"), ("0007", "7.0"), ("7", "0007"), ("p/0007.png", "7")]
)
def test_names_that_a_spreadsheet_changed_are_an_error_not_half_of_the_patients(own, other):
    with pytest.raises(DataError, match=f"1 names differ only as numbers .* {own} .* {other} in c.csv"):
        joined([own, "1234"], [other, "1234"])


def test_names_that_a_spreadsheet_rounded():
    with pytest.raises(DataError, match=r"rounded, such as 1.23E\+15"):
        joined(["1230000000000123", "b"], ["1.23E+15", "b"])


def test_two_sites_and_a_table_of_one():
    files = [f"/data/site{s}/{i:04}.png" for s in "AB" for i in range(3)]
    with pytest.raises(
        DataError, match=r"3 names of c.csv stand for several images .* 0000 for .*siteB/0000"
    ):
        joined(files, ["0000", "0001", "0002"], column="file")
    # As much of the path as tells them apart is enough.
    found = joined(files, [f"siteA/{i:04}" for i in range(3)], column="file")
    assert found.notna().tolist() == [True] * 3 + [False] * 3


def test_one_name_that_stands_for_two_images_is_enough():
    with pytest.raises(DataError, match=r"1 names of c.csv stand for several images"):
        joined(["A/1.png", "B/1.png", "A/2.png"], ["1", "2"], column="file")
    with pytest.raises(
        DataError, match=r"1 names of the scores stand for several rows of c.csv: 1 for A/1, B/1"
    ):
        joined(["1", "2"], ["A/1", "B/1", "A/2"])


def test_sites_in_a_column_of_their_own():
    table = scores(id=["1", "2", "1", "2"], site=["A", "A", "B", "B"])
    one = pd.DataFrame({"id": ["1", "2"], "sex": ["M", "F"]})
    with pytest.raises(DataError, match=r"2 names .* several rows, such as 1, 2 .* site .* --on site,id"):
        join(table, one, "id", "c.csv")
    both = pd.DataFrame({"id": ["1", "2"], "Site": ["a", "A"], "sex": ["M", "F"]}).rename(
        columns={"Site": "site"}
    )
    found = join(table, both, ("site", "id"), "c.csv").table["sex"]
    assert found.isna().tolist() == [False, False, True, True]
    assert found.tolist()[:2] == ["M", "F"]
    # Rows of one image or patient are no fault, where they are said to be.
    assert join(table, one, "id", "c.csv", subject="id").table["sex"].tolist() == ["M", "F", "M", "F"]
    patients = scores(patient=["1", "2", "1", "2"], id=list("abcd"))
    by_patient = one.rename(columns={"id": "patient"})
    assert join(patients, by_patient, "patient", "c.csv").table["sex"].tolist() == ["M", "F", "M", "F"]
    squares = scores(id=["1", "1"], position=[0, 1])
    assert join(squares, one, "id", "c.csv").table["sex"].tolist() == ["M", "M"]


def test_rows_that_repeat_are_taken_once_and_counted():
    other = pd.DataFrame({"id": ["a", "a", "b", None, "c"], "sex": ["M", "M", "F", "F", "F"]})
    found = join(scores(id=["a", "b", "x"]), other, "id", "c.csv")
    assert found.table["sex"].tolist()[:2] == ["M", "F"]
    assert found.joined == (Joined("c.csv", ("id",), ("id",), 3, 2, 1, 1, 1, 1),)


def test_rows_that_contradict_one_another_show_examples():
    other = pd.DataFrame({"id": ["a", "a", "b"], "visit": ["1", "2", "1"], "age": [60, 61, 50]})
    with pytest.raises(
        DataError, match=r"different values for 1 names in id, such as a \(age '60', '61'\). Visit"
    ):
        join(scores(id=["a", "b"]), other, "id", "c.csv")
    own = scores(id=["a", "a", "b"], visit=["1", "2", "1"])
    assert join(own, other, ("id", "visit"), "c.csv").table["age"].tolist() == [60, 61, 50]


def paths(patients, views=2, root="CheXpert-v1.0/train"):
    return [f"{root}/patient{p:05}/study1/view{v}_frontal.jpg" for p in patients for v in range(1, views + 1)]


def test_chexpert_meets_by_the_longest_common_end():
    there = paths(range(20))
    here = ["/data/CheXpert-v1.0-small/train/" + p.split("train/")[1] for p in paths(range(10, 25))]
    found = joined(here, there, column="file", on="Path")
    assert found.tolist()[:20] == [f"v{p}" for p in paths(range(10, 20))]
    assert found.isna().tolist() == [False] * 20 + [True] * 10
    # A file that another patient alone has too is not that patient's.
    stranger = here[0].replace("patient00010/study1", "patient77777/study9")
    found = joined(
        [stranger, *here], [*there, there[0].replace("study1", "study9")], column="file", on="Path"
    )
    assert found.isna().tolist() == [True] + [False] * 20 + [True] * 10


def test_other_patients_of_the_same_file_names_have_no_partner():
    with pytest.raises(DataError, match="no row has a partner"):
        joined(paths([1, 2], 1), paths([3, 4], 1), column="file", on="Path")


def test_folders_of_other_names_meet_by_the_file_name_and_say_so():
    other = pd.DataFrame({"name": ["images/a.png", "images/b.png"], "sex": ["M", "F"]})
    found = join(scores(file=["/out/pred/a.png", "/out/pred/b.png"]), other, "name", "c.csv")
    assert found.table["sex"].tolist() == ["M", "F"]
    assert found.notes == (
        "images meet those of c.csv by the name of the file alone, for their folders differ (out/pred and "
        "images).",
    )


def test_names_are_texts_whatever_pandas_made_of_them():
    other = pd.DataFrame({"StudyID": ["0001", "0002"], "sex": ["M", "F"]})
    found = join(scores(StudyID=["0002", "0001"]), other, "studyid", "c.csv")
    assert found.table["sex"].tolist() == ["F", "M"]


def test_a_hundred_thousand_rows_are_no_matter():
    n = 97_136
    here = [f"/data/images/{i:07}_{i * 7919 % 10007}.png" for i in range(n)]
    there = [f"{i:07}_{i * 7919 % 10007}.png" for i in range(n)]
    start = time.process_time()
    found = joined(here, there[::-1], column="file", values=there[::-1])
    assert found.tolist() == there
    start = time.process_time() - start
    same = paths(range(25_000))
    again = time.process_time()
    assert len(match_keys([("/x/" + p,) for p in same], [(p,) for p in same[::-1]]).pairs) == 50_000
    # On a busy machine one second each; squares of these numbers would take hours.
    assert max(start, time.process_time() - again) < 30


@pytest.mark.parametrize(
    ("text", "date"),
    [
        ("MAR1", "1-Mar"), ("SEPT2", "2-Sep"), ("1-2", "2-Jan"), ("1-2", "1-Feb"), ("1/2", "2-Jan"),
        ("JAN45", "Jan-45"), ("10-45", "Oct-45"), ("dec1.png", "1-Dec"), ("MAR1", "01. Mrz"),
        ("1-2-03", "1/2/2003"), ("MAR1", "2024-03-01 00:00:00"),
    ],
)  # fmt: skip
def test_names_of_which_a_spreadsheet_made_dates(text, date):
    with pytest.raises(DataError, match=f"1 names differ as a spreadsheet makes dates .* {text} and {date}"):
        joined([text, "b"], [date, "b"])
    with pytest.raises(DataError, match=f"1 names differ as a spreadsheet makes dates .* {date} and {text}"):
        joined([date, "b"], [text, "b"])


def test_dates_that_are_no_changed_names_only_lack_a_partner():
    assert joined(["1-Mar", "2-Mar", "2021-05-03"], ["1-Mar", "3-Mar", "2022-05-03"]).notna().tolist() == [
        True,
        False,
        False,
    ]
    assert joined(["SITE1", "b"], ["1-Mar", "b"]).notna().tolist() == [False, True]


def test_names_of_two_columns_do_not_run_into_one_another():
    other = pd.DataFrame(
        {"site": ["a b", "a b", "a", "a"], "id": ["c", "c", "b c", "b c"], "sex": ["M", "M", "F", "F"]}
    )
    found = join(scores(site=["a b", "a"], id=["c", "b c"]), other, ("site", "id"), "c.csv").table["sex"]
    assert found.tolist() == ["M", "F"]


@pytest.mark.parametrize(
    "columns", [{"sex": ["M", "F"]}, {"sex": ["M", "F"], "age": [60, 61]}, {"View": ["AP", "PA"]}]
)
def test_a_contradiction_is_no_column_to_join_by(columns):
    with pytest.raises(DataError, match=r"such as a \(.*each name has one row") as caught:
        join(scores(id=["a"]), pd.DataFrame({"id": ["a", "a"]} | columns), "id", "c.csv")
    assert "--on" not in str(caught.value)


def test_no_row_of_a_table_as_long_as_that_of_chestxray14_is_lost_or_doubled_without_a_word(tmp_path):
    """97,136 images, half of them of women, as in Larrazabal et al., PNAS 2020, with faults."""
    rows = 97_136
    draw = np.random.default_rng(0)
    patient = np.sort(draw.integers(1, 30_806, rows))
    follow_up = np.arange(rows) - np.searchsorted(patient, patient)
    ids = [f"{p:08d}_{f:03d}" for p, f in zip(patient, follow_up, strict=True)]
    sex, age = np.where(np.arange(rows) < rows // 2, "F", "M"), draw.integers(1, 95, rows)
    unknown = draw.random(rows) < 0.02
    facts = pd.DataFrame(
        {
            "Image Index": [f"{name}.png" for name in ids],
            "Patient Sex": np.where(unknown, "", sex),
            "Patient Age": [f"{years:03d}Y" for years in age],
            "Patient ID": [f"{p:08d}" for p in patient],
        }
    )
    absent, twice = np.arange(0, rows, 1000), np.arange(500, rows, 1000)
    extra = facts.iloc[:50].assign(**{"Image Index": [f"9{n:07d}_000.png" for n in range(50)]})
    nameless = facts.iloc[:7].assign(**{"Image Index": ""})
    given = pd.concat([facts.drop(index=absent), facts.iloc[twice], extra, nameless])
    given.sample(frac=1, random_state=0).to_csv(tmp_path / "facts.csv", index=False)
    # Scores name images without the suffix of the file, and their values tell which row is which.
    pd.DataFrame({"id": ids, "dice": np.arange(rows) / rows}).to_csv(tmp_path / "scores.csv", index=False)

    other, _ = read_table(tmp_path / "facts.csv", ["Image Index"])
    found = join(read_scores(tmp_path / "scores.csv"), other, "Image Index", "facts.csv")

    table, (said,) = found.table, found.joined
    there = np.isin(np.arange(rows), absent, invert=True)
    assert table["id"].tolist() == ids
    assert (table["dice"] == np.arange(rows) / rows).all()
    assert (table["Patient Age"].str[:3].astype(float) == np.where(there, age, np.nan))[there].all()
    assert (table["Patient Sex"].fillna("") == np.where(unknown, "", sex))[there].all()
    assert table["Patient ID"][there].tolist() == facts["Patient ID"][there].tolist()
    assert table.loc[~there, ["Patient Sex", "Patient Age", "Patient ID"]].isna().all(axis=None)
    assert (said.rows, said.with_partner, said.without_partner) == (rows, rows - len(absent), len(absent))
    assert (said.unused, said.repeated, said.unnamed) == (50, len(twice), 7)
    assert [(e.reason, e.rows) for e in found.left_out] == [
        ("not in facts.csv, so its columns are empty there", len(absent))
    ]
    groups = make_groups(table, "Patient Sex")
    assert sum(entry.rows for entry in groups.left_out) == len(absent) + unknown[there].sum()
    assert groups.labels.notna().sum() + len(absent) + unknown[there].sum() == rows


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda facts: pd.concat([facts, facts.iloc[:1].assign(sex="M")]), "several rows with"),
        (lambda facts: facts.assign(id=[str(int(name[:-4])) for name in facts["id"]]), "drops zeros"),
        (
            lambda facts: pd.concat([facts.assign(id=f"{x}/" + facts["id"]) for x in "ab"]),
            "stand for several",
        ),
    ],
    ids=["contradiction", "zeros lost", "two folders"],
)
def test_one_bad_row_among_many_stops_the_join_with_a_sentence(change, words):
    names = [f"{number:08d}" for number in range(1, 3001)]
    facts = pd.DataFrame({"id": [f"{name}.png" for name in names], "sex": "F"})
    with pytest.raises(DataError, match=words):
        join(scores(id=names), change(facts), "id", "facts.csv")

import math

import pandas as pd
import pytest

from anatozoo.errors import ConfigError, DataError
from anatozoo.fairness.groups import LeftOut, combine, find_column, make_groups
from anatozoo.fairness.values import read_age, read_sex


@pytest.mark.parametrize(
    ("written", "years"),
    [
        ("045Y", 45), ("45", 45), (45, 45), (45.5, 45.5), ("006M", 0.5), (" 010 d", 10 / 365.25),
        ("052W", 52 * 7 / 365.25), ("45 years", 45), ("1 year old", 1), ("0", 0), ("102Y", 102),
    ],
)  # fmt: skip
def test_ages_as_they_are_written(written, years):
    assert read_age(written) == pytest.approx(years)


@pytest.mark.parametrize("written", [None, "", "nan", "unknown", "N/A", " - ", float("nan")])
def test_an_age_that_is_not_stated(written):
    assert math.isnan(read_age(written))


@pytest.mark.parametrize("written", ["old", "45-50", "-3", "300", "045X", "Y", "1e3"])
def test_what_is_no_age_is_refused(written):
    with pytest.raises(ValueError, match="not an age"):
        read_age(written)


def test_sexes():
    assert [read_sex(w) for w in ("M", "male", " Female ", "f", "WOMAN", "o")] == [
        "M",
        "M",
        "F",
        "F",
        "F",
        "O",
    ]
    assert read_sex("unknown") is None
    for code in (0, 1, "2", "xyz"):
        with pytest.raises(ValueError, match="not a sex"):
            read_sex(code)


def test_mixed_spelling_and_missing_values_are_counted():
    groups = make_groups(pd.DataFrame({"Sex": ["M", "male", "F", "", None, "0", "Female ", "?"]}), "sex")
    assert groups.order == ("M", "F")
    assert groups.labels.tolist() == ["M", "M", "F", None, None, None, "F", None]
    assert groups.left_out == (LeftOut("sex not stated", 3), LeftOut("sex not understood ('0')", 1))


def test_default_bins_of_age_include_their_edges():
    table = pd.DataFrame({"PatientAge": ["017Y", "018Y", "044Y", "045Y", "064Y", "065Y", "006M", "x"]})
    groups = make_groups(table, "age_bin", {})
    assert groups.labels.tolist() == ["0–17", "18–44", "18–44", "45–64", "45–64", "65+", "0–17", None]
    assert groups.order == ("0–17", "18–44", "45–64", "65+")
    assert groups.left_out == (LeftOut("age not understood ('x')", 1),)
    assert make_groups(table, "age").name == "age_bin"


def test_age_zero_is_pointed_out():
    groups = make_groups(pd.DataFrame({"age": [0, 50, 0]}), "age_bin")
    assert "age is 0 in 2 rows" in groups.notes[0]
    assert not make_groups(pd.DataFrame({"age": [1, 50]}), "age_bin").notes


def test_own_bins():
    table = pd.DataFrame({"age": [49, 50, 65], "bmi": [18.4, 18.5, 40.0]})
    assert make_groups(table, "age_bin", {"age": (50, 65)}).labels.tolist() == ["0–49", "50–64", "65+"]
    bmi = make_groups(table, "bmi_bin", {"bmi": (18.5, 30)})
    assert bmi.labels.tolist() == ["<18.5", "18.5 to <30", "≥30"]
    with pytest.raises(ConfigError, match="give bins"):
        make_groups(table, "bmi_bin")
    with pytest.raises(ConfigError, match="ascending"):
        make_groups(table, "age_bin", {"age": (65, 50)})


def test_words_of_any_case_and_small_numbers_are_groups():
    table = pd.DataFrame({"view": ["PA", "pa", "PA ", "AP", ""], "stage": [1, 2, 2, None, 3]})
    view = make_groups(table, "view")
    assert view.labels.tolist() == ["PA", "PA", "PA", "AP", None]
    assert view.left_out == (LeftOut("view not stated", 1),)
    assert make_groups(table, "stage").order == ("1", "2", "3")


def test_a_patient_without_disease_is_a_group():
    assert make_groups(pd.DataFrame({"disease": ["none", "TB"]}), "disease").order == ("none", "TB")


def test_too_many_groups_are_refused():
    table = pd.DataFrame({"n": range(50), "word": [f"w{i}" for i in range(50)]})
    with pytest.raises(ConfigError, match="50 different numbers"):
        make_groups(table, "n")
    with pytest.raises(DataError, match="50 different values"):
        make_groups(table, "word")


def test_no_group_at_all_is_named_with_its_reasons():
    with pytest.raises(DataError, match=r"no row of 2 has a group by sex .*'1'.*: 2"):
        make_groups(pd.DataFrame({"sex": [1, 1]}), "sex")


def test_columns_are_found_by_their_usual_names():
    table = pd.DataFrame(columns=["PatientSex", "Age", "VIEW"])
    assert [find_column(table, name) for name in ("sex", "age", "view")] == ["PatientSex", "Age", "VIEW"]
    with pytest.raises(DataError, match="did you mean Age"):
        find_column(table, "Aged")
    with pytest.raises(DataError, match="may be any of"):
        find_column(pd.DataFrame(columns=["Sex", "gender"]), "sex")


def test_intersections_need_both():
    table = pd.DataFrame({"sex": ["M", "F", "F", None], "view": ["PA", "AP", None, "PA"]})
    both = combine([make_groups(table, "sex"), make_groups(table, "view")])
    assert both.name == "sex × view"
    assert both.order == ("M, PA", "F, AP")
    assert both.labels.tolist() == ["M, PA", "F, AP", None, None]
    apart = pd.DataFrame({"sex": ["M", None], "view": [None, "PA"]})
    with pytest.raises(DataError, match="each of sex, view"):
        combine([make_groups(apart, "sex"), make_groups(apart, "view")])

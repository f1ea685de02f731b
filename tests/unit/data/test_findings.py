"""Tables of images with findings: usual names of columns, patients, and what is refused."""

import math
from pathlib import Path
from typing import Any

import cv2
import pytest

from anatozoo.data.case import Case
from anatozoo.data.findings import check_findings, check_known, finding_of
from anatozoo.data.layouts.registry import find_cases
from anatozoo.errors import ConfigError, DataError
from anatozoo.io.splits import describe
from anatozoo.io.writers import write_csv
from tests.support.finding_data import picture, write_findings


def table(root: Path, header: list[str], rows: list[list[Any]], folder: str = "images") -> Path:
    """A table, and an image for each row below `folder`."""
    for number, row in enumerate(rows):
        path = root / folder / str(row[0]).rsplit("/", 1)[-1]
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), picture(number, False))
    return write_csv(root / "findings.csv", header, rows)


@pytest.mark.parametrize(
    ("cell", "value"),
    [("1", 1), ("0.0", 0), ("Yes", 1), ("negative", 0), (True, 1), ("", None), ("-1.0", None), ("nan", None)],
)
def test_a_cell_says_yes_no_or_nothing(cell: object, value: float | None) -> None:
    found = finding_of(Case("a", "a", facts={"Pleural Effusion": cell}), "pleural_effusion")
    assert math.isnan(found) if value is None else found == value


def test_a_cell_that_says_something_else_is_refused() -> None:
    with pytest.raises(DataError, match="a: nodule is '2'; write 1 or 0"):
        finding_of(Case("a", "a", facts={"nodule": "2"}), "nodule")


def test_a_list_says_what_is_there_and_what_is_not() -> None:
    case = Case("a", "a", facts={"findings": "Mass|Pleural_Thickening"})
    assert [finding_of(case, name) for name in ("Mass", "pleural thickening", "Edema")] == [1, 1, 0]
    assert finding_of(Case("b", "b", facts={"findings": "No Finding"}), "Mass") == 0
    assert math.isnan(finding_of(Case("c", "c"), "Mass"))


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], "at least one"),
        (["Mass", "mass"], "twice"),
        (["sex"], "cannot be called 'sex'"),
        (["a/b"], "holds a slash"),
    ],
)
def test_names_that_cannot_be_columns_are_refused(names: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_findings(names)


def test_a_finding_that_no_case_states_is_refused_with_the_name_that_is_near() -> None:
    with pytest.raises(DataError, match=r"no image has 0 or 1 for nodul; did you mean nodule\?"):
        check_known([Case("a", "a", facts={"nodule": "1"})], ["nodul"], "data")


def test_columns_go_by_the_names_of_chestxray14(tmp_path: Path) -> None:
    header = ["Image Index", "Finding Labels", "Patient ID", "Patient Age", "Patient Gender", "View Position"]
    rows = [
        ["00000001_000.png", "Mass|Nodule", "1", "58", "M", "PA"],
        ["00000002_000.png", "No Finding", "2", "61", "F", "AP"],
    ]
    path = table(tmp_path, header, rows, "images_001/images")
    listing = find_cases(path, "findings")
    assert [case.subject for case in listing.cases] == ["1", "2"]
    assert dict(listing.cases[0].facts) == {
        "findings": "Mass|Nodule",
        "age": "58",
        "sex": "M",
        "view": "PA",
    }
    assert listing.cases[0].read_image(2).grid.size == (72, 72)
    assert {case.split for case in listing.cases} <= {"train", "val", "test"}
    assert find_cases(tmp_path, "auto").layout == "findings"


def test_columns_go_by_the_names_of_chexpert(tmp_path: Path) -> None:
    root = tmp_path / "CheXpert-v1.0"
    places = ["train/patient00001/study1/view1_frontal.jpg", "train/patient00002/study1/view1_frontal.jpg"]
    for number, place in enumerate(places):
        (root / place).parent.mkdir(parents=True)
        cv2.imwrite(str(root / place), picture(number, False))
    rows = [
        [f"{root.name}/{place}", "Female", 60 + n, "-1.0" if n else "1.0"] for n, place in enumerate(places)
    ]
    path = write_csv(root / "train.csv", ["Path", "Sex", "Age", "Edema"], rows)
    listing = find_cases(path, "findings", subject_pattern=r".*/(patient\d+)/.*")
    assert [case.subject for case in listing.cases] == ["patient00001", "patient00002"]
    assert [finding_of(case, "Edema") for case in listing.cases] == pytest.approx([1, math.nan], nan_ok=True)
    assert "no column of patients" not in " ".join(describe(listing.cases))


def test_images_without_patients_are_remarked(tmp_path: Path) -> None:
    path = table(tmp_path, ["image", "nodule"], [["a.png", 1], ["b.png", 0]])
    listing = find_cases(path, "findings")
    assert "no column of patients" in " ".join(describe(listing.cases))
    assert [case.subject for case in listing.cases] == ["a", "b"]


@pytest.mark.parametrize(
    ("header", "rows", "words"),
    [
        (["image", "subject"], [["a.png", "1"], ["b.png", ""]], r"1 images have no patient \(line 3\)"),
        (["image", "subject"], [["a.png", "1"], ["a.png", "1"]], "lines 2 and 3 are both a"),
        (
            ["image", "subject", "split"],
            [["a.png", "1", "train"], ["b.png", "1", "val"]],
            "subject 1 is in the splits train and val",
        ),
        (["image", "split"], [["a.png", "trian"]], "in the split 'trian'"),
        (["picture", "nodule"], [["a.png", "1"]], "has no column of images"),
        (["image", "nodule"], [["../a.png", "1"]], "does not lie in the folder"),
    ],
)
def test_tables_that_contradict_themselves_are_refused(
    header: list[str], rows: list[list[str]], words: str, tmp_path: Path
) -> None:
    path = table(tmp_path, header, rows)
    with pytest.raises(DataError, match=words):
        find_cases(path, "findings")


def test_missing_and_ambiguous_images_are_named(tmp_path: Path) -> None:
    root = write_findings(tmp_path, {"train": 3})
    (root / "images" / "001.png").unlink()
    with pytest.raises(DataError, match=r"1 of its 3 images are not there: line 3: 001.png"):
        find_cases(root, "findings")
    for folder in ("x", "y"):
        (root / folder).mkdir()
        cv2.imwrite(str(root / folder / "001.png"), picture(1, True))
    with pytest.raises(DataError, match=r"line 3: 001.png is in several folders"):
        find_cases(root, "findings")

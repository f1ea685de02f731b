"""Lists of splits are found wherever they lie; a deal is said; what is wrong with a list is an error."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from anatozoo.data.case import Case
from anatozoo.data.layouts.acdc import HEART
from anatozoo.data.layouts.registry import find_cases
from anatozoo.errors import DataError
from anatozoo.io.chest_folders import scan
from anatozoo.io.splits import deal, describe, origin_record, refuse_dealt, splits_or_deal
from tests.support.chest_data import write_chest_data
from tests.support.heart_data import write_hearts
from tests.support.volume_data import write_volumes

SPLITS = {"train": [3], "val": [1], "test": [2]}
CASES = {f"p{i}_{side}": f"p{i}" for i in range(6) for side in "lr"}


def write(path: Path, lists: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(lists))
    return path


def of(cases: Sequence[Case]) -> Mapping[str, str | None]:
    return {case.id: case.split for case in cases}


def splits_of(root: Path, subjects: Mapping[str, str] = CASES) -> Mapping[str, str]:
    return splits_or_deal(root, subjects).splits


def test_a_root_too_high_or_too_low_gives_the_splits_of_the_right_one(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_hearts(data / "acdc", SPLITS)
    # Lists of other data sets lie beside them.
    write_chest_data(data / "jsrt", {"train": 1, "val": 1})
    write(data / "msd" / "splits.json", {"train": ["hippocampus_001"], "val": ["hippocampus_003"]})
    link = tmp_path / "link"
    link.symlink_to(data / "acdc" / "training")
    right = of(find_cases(data / "acdc", "acdc", HEART, dims=3).cases)
    assert {name.partition("_")[0]: split for name, split in right.items()} == {
        "patient001": "val", "patient002": "test", "patient003": "train",
    }  # fmt: skip
    for root in (data, data / "acdc" / "training", link):
        assert of(find_cases(root, "acdc", HEART, dims=3).cases) == right, root
        masks = find_cases(root, "acdc", HEART, dims=2).cases
        assert {case.id.rpartition("_z")[0]: case.split for case in masks} == right, root
    assert describe(find_cases(data / "acdc", "acdc", HEART, dims=3).cases) == []
    [said] = describe(find_cases(link, "acdc", HEART, dims=3).cases)
    assert str(data / "acdc" / "splits.json") in said


def test_volumes_behind_a_link_are_found_and_a_circle_ends(tmp_path: Path) -> None:
    write_hearts(tmp_path / "disk", SPLITS)
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "training").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "back").symlink_to(tmp_path / "disk")
    expected = of(find_cases(tmp_path / "disk", "acdc", HEART, dims=3).cases)
    assert of(find_cases(tmp_path / "root", "acdc", HEART, dims=3).cases) == expected
    assert set(expected.values()) == {"train", "val", "test"}


def test_radiographs_and_folders_look_above_too(tmp_path: Path) -> None:
    write_chest_data(tmp_path / "jsrt", {"train": 2, "val": 1})
    deeper = tmp_path / "jsrt" / "files"
    deeper.mkdir()
    for folder in ("images", "landmarks", "masks"):
        if (tmp_path / "jsrt" / folder).exists():
            (tmp_path / "jsrt" / folder).rename(deeper / folder)
    right = of(find_cases(tmp_path / "jsrt", "jsrt", ["heart"]).complete(["heart"]))
    assert sorted(map(str, right.values())) == ["train", "train", "val"]
    assert of(find_cases(deeper, "jsrt", ["heart"]).complete(["heart"])) == right
    (tmp_path / "jsrt" / "splits" / "train.txt").unlink()
    (tmp_path / "jsrt" / "splits" / "val.txt").unlink()
    names = sorted(right)
    write(tmp_path / "jsrt" / "splits.json", {"train": names[1:], "val": [f"{names[0].lower()}.png"]})
    assert of(find_cases(deeper, "jsrt", ["heart"]).complete(["heart"]))[names[0]] == "val"

    write_volumes(tmp_path / "msd" / "Task04", ["a", "b", "c"])
    write(tmp_path / "msd" / "splits.json", {"train": ["a"], "val": ["b"], "test": ["c"]})
    expected = {"a": "train", "b": "val", "c": "test"}
    root = tmp_path / "msd" / "Task04"
    assert of(find_cases(root, "folder", ["front", "back"], dims=3).cases) == expected


def test_different_lists_are_an_error_that_names_them(tmp_path: Path) -> None:
    one = write(tmp_path / "old" / "splits.json", {"train": list(CASES)[:6], "val": list(CASES)[6:]})
    other = write(tmp_path / "new" / "splits.json", {"train": list(CASES)[2:], "val": list(CASES)[:2]})
    with pytest.raises(DataError, match=r"splits train and val|splits val and train") as caught:
        splits_of(tmp_path)
    assert str(one) in str(caught.value)
    assert str(other) in str(caught.value)
    other.write_text(one.read_text())  # a copy contradicts nobody
    assert splits_of(tmp_path)["p0_l"] == "train"


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ({"train": ["p0"], "val": ["p0"]}, "p0 is in the splits train and val"),
        ({"train": ["p0"], "val": ["P0"]}, "P0 is in the splits train and val"),
        ({"train": ["p0"], "val": ["p0_l"]}, "p0_l is in the splits train and val"),
        ({"train": ["p0"], "validation": ["p1"]}, "no split 'validation'; call it val"),
        ({"train": ["p0"], "fold0": ["p1"]}, "no split 'fold0'; they are train, val, test"),
        ({"train": [], "val": []}, "lists are empty"),
        ({"train": "p0"}, "must be a list"),
        ([{"train": ["p0"]}], "must be"),
        ({"train": ["q1", "q2"]}, "names 2 cases, and none of the 12 found"),
    ],
)
def test_lists_that_cannot_be_meant(tmp_path: Path, lists: object, message: str) -> None:
    write(tmp_path / "splits.json", lists)
    with pytest.raises(DataError, match=message):
        splits_of(tmp_path)


def test_a_split_of_another_name_in_the_folder_of_lists(tmp_path: Path) -> None:
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / "train.txt").write_text("p0\n")
    (tmp_path / "splits" / "valid.txt").write_text("p1\n")
    with pytest.raises(DataError, match=r"no split 'valid'; call the file val.txt"):
        splits_of(tmp_path)


def test_names_in_lists_may_have_folders_suffixes_capitals_and_neighbours(tmp_path: Path) -> None:
    (tmp_path / "SPLITS").mkdir()
    (tmp_path / "SPLITS" / "Train.txt").write_bytes("\ufeffimages/p0_l.nii.gz P0_R\n".encode())
    (tmp_path / "SPLITS" / "val.txt").write_text("my case.png\n1.2.840\n")
    found = splits_of(tmp_path, {"p0_l": "p0_l", "p0_r": "p0_r", "my case": "my case", "1.2.840": "1.2.840"})
    assert found == {"p0_l": "train", "p0_r": "train", "my case": "val", "1.2.840": "val"}


def test_names_with_dots_are_whole_and_other_systems_paths_are_understood(tmp_path: Path) -> None:
    names = ("s.left", "s.right", "1.2.840.113.5", "1.2.840.113.6", "y")
    path = write(
        tmp_path / "splits.json",
        {
            "train": ["s.left.png", "1.2.840.113.5.nii.gz"],
            "val": ["images\\s.right.png", "1.2.840.113.6"],
            "test": ["y.v1"],
        },
    )
    found = splits_of(tmp_path, {name: name for name in names})
    # The list speaks of another version of y.
    assert found == dict(zip(names, ("train", "val", "train", "val"), strict=False))
    path.write_text('{"train": ["y"], "val": ["s.left"], "train": ["s.right"]}')
    with pytest.raises(DataError, match=r"the key 'train' is there twice"):
        splits_of(tmp_path, {name: name for name in names})


def test_lists_may_have_comments(tmp_path: Path) -> None:
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / "train.txt").write_text("# not p1\np0\n")
    assert set(splits_of(tmp_path)) == {"p0_l", "p0_r"}


def test_what_lists_do_not_cover_is_said_with_counts(tmp_path: Path) -> None:
    write_hearts(tmp_path, {"train": [1, 3], "val": [2]})
    write(
        tmp_path / "splits.json", {"train": ["patient001"], "val": ["patient002", "patient007", "patient008"]}
    )
    cases = find_cases(tmp_path, "acdc", HEART, dims=3).cases
    said = " ".join(describe(cases))
    assert "2 of its names match no case" in said
    left_out = sum(case.split is None for case in cases)
    assert left_out
    assert f"{left_out} of {len(cases)} cases are in no list" in said


def test_a_deal_is_said_recorded_and_no_ground_for_evidence(tmp_path: Path) -> None:
    write_hearts(tmp_path, {"train": [1, 2], "val": [3, 4]})
    (tmp_path / "splits.json").unlink()
    cases = find_cases(tmp_path, "acdc", HEART, dims=3).cases
    assert of(cases) == {case.id: deal(case.subject) for case in cases}
    [said] = describe(cases)
    assert "DEALT" in said
    assert str(tmp_path) in said
    assert origin_record(cases) == {"dealt": len(cases), "listed": 0, "lists": []}
    with pytest.raises(DataError, match=r"--allow-dealt-split"):
        refuse_dealt(cases)
    refuse_dealt(cases, allow=True)
    write(
        tmp_path / "splits.json", {"train": ["patient001", "patient002"], "val": ["patient003", "patient004"]}
    )
    cases = find_cases(tmp_path, "acdc", HEART, dims=3).cases
    refuse_dealt(cases)
    assert origin_record(cases) == {"dealt": 0, "listed": len(cases), "lists": ["splits.json"]}


def test_a_deal_names_the_files_that_may_hold_the_splits(tmp_path: Path) -> None:
    write_hearts(tmp_path, {"train": [1, 2], "val": [3, 4]})
    (tmp_path / "splits.json").rename(tmp_path / "splits_final.json")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "Fold0.csv").write_text("patient001\n")
    for other in ("unsplit.csv", "folder.csv", "split.png"):
        (tmp_path / other).write_text("x")
    cases = find_cases(tmp_path, "acdc", HEART, dims=3).cases
    [said] = describe(cases)
    assert "DEALT" in said
    assert said.endswith(
        ' Not read: splits_final.json, lists/Fold0.csv; write such lists as splits.json: {"train": [...], '
        '"val": [...], ...}.'
    )
    with pytest.raises(DataError, match=r"Not read: splits_final\.json"):
        refuse_dealt(cases)


def test_radiographs_that_are_dealt_name_such_files_too(tmp_path: Path) -> None:
    root = write_chest_data(tmp_path, {"train": 2, "val": 1}, side=64)
    for path in (root / "splits").iterdir():
        path.unlink()
    (root / "splits.csv").write_text("id,split\n")
    [said] = describe(find_cases(root, "jsrt", ("heart",)).cases)
    assert "Not read: splits.csv;" in said


@pytest.mark.parametrize("layout", ["jsrt", "auto"])
def test_folders_of_radiographs_are_walked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    root = write_chest_data(tmp_path, {"train": 2, "val": 1}, side=64)
    for path in (root / "splits").iterdir():
        path.unlink()

    def again(*_: object) -> None:
        raise AssertionError("these folders have been walked before")

    walks: list[Path] = []
    monkeypatch.setattr("anatozoo.io.splits.lists_below", again)
    monkeypatch.setattr(
        "anatozoo.data.layouts.chest.scan", lambda place: (walks.append(place), scan(place))[1]
    )
    assert {case.split for case in find_cases(root, layout, ("heart",)).cases} <= {"train", "val"}
    assert walks == [root]


def test_the_deal_is_the_same_in_every_release() -> None:
    dealt = [deal(f"patient{i:03}") for i in range(1, 9)]
    assert dealt == ["train", "test", "train", "train", "train", "test", "val", "train"]

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PILImage

from anatozoo.data.case import Case, Drawn
from anatozoo.data.layouts.registry import find_cases
from anatozoo.errors import AnatozooError, ConfigError, DataError
from anatozoo.io.grid import Grid
from anatozoo.io.rle import encode_rle
from anatozoo.organs import CHEST_ORGANS
from tests.support.acdc_data import write_acdc
from tests.support.chest_data import write_chest_data
from tests.support.phantoms import make_chest_phantom
from tests.support.volume_data import write_volumes

ALL = list(CHEST_ORGANS)
SPLITS = {"train": ["a"], "val": ["b"], "test": ["c"]}


def find_masks(root: Path, layout: str, organs: list[str], *, dims: int, **settings: Any) -> list[Case]:
    """Cases in a split that have all the organs; no image is needed."""
    found = find_cases(root, layout, organs, dims=dims, **settings).cases
    return [case for case in found if case.split and all(map(case.has, organs))]


def block(value: int = 1, shape: tuple[int, int] = (20, 30)) -> np.ndarray:
    labels = np.zeros(shape, np.uint8)
    labels[4:12, 5:20] = value
    return labels


def save(path: Path, labels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PILImage.fromarray(labels).save(path)


def forget_images(root: Path) -> None:
    for path in (root / "images").iterdir():
        path.unlink()


def test_jsrt_needs_no_image(tmp_path: Path) -> None:
    write_chest_data(tmp_path, {"train": 3, "val": 1, "test": 1})
    forget_images(tmp_path)
    cases = find_masks(tmp_path, "jsrt", ALL, dims=2)
    assert [case.split for case in cases] == ["train", "train", "train", "val", "test"]
    labels, grid = cases[0].read_labels(ALL)
    assert labels.shape == (1024, 1024)
    assert grid.spacing_mm == (0.35, 0.35)
    assert np.unique(labels).tolist() == [0, 1, 2, 3, 4, 5]


def test_masks_win_over_contours_and_sides_make_one_label(tmp_path: Path) -> None:
    write_chest_data(tmp_path, {"train": 1, "val": 1, "test": 1})
    heart = np.zeros((128, 128), np.uint8)
    heart[60:90, 50:80] = 255
    for number in (1, 2, 3):
        save(tmp_path / "masks" / "heart" / f"JPCLN{number:03d}.png", heart)
    labels, grid = find_masks(tmp_path, "jsrt", ["lungs", "heart"], dims=2)[0].read_labels(["lungs", "heart"])
    assert labels.shape == (128, 128)  # that of the masks
    assert grid.spacing_mm == (0.35 * 8, 0.35 * 8)
    assert np.array_equal(labels == 2, heart > 0)
    assert (labels[:, :64] == 1).any()
    assert (labels[:, 64:] == 1).any()


def test_the_landmark_data_set_needs_no_image_and_never_trains_on_jsrt(tmp_path: Path) -> None:
    write_chest_data(tmp_path, {"train": 4})
    forget_images(tmp_path)
    (tmp_path / "splits" / "train.txt").unlink()
    for folder in (tmp_path / "landmarks").iterdir():
        for number in range(1, 4):
            (folder / f"JPCLN{number:03d}.npy").rename(folder / f"CHN_{number}.npy")
    cases = find_masks(tmp_path, "landmarks", ["lungs"], dims=2)
    # Nobody says which split the case of JSRT is in: it may be a test case.
    assert [case.id for case in cases] == ["CHN_1", "CHN_2", "CHN_3"]
    assert all(case.split in ("train", "val", "test") for case in cases)
    (tmp_path / "splits" / "val.txt").write_text("JPCLN004\n")
    dealt = {case.id: case.split for case in find_masks(tmp_path, "landmarks", ["lungs"], dims=2)}
    assert dealt == {case.id: case.split for case in cases} | {"JPCLN004": "val"}


def test_cases_without_an_organ_are_left_out(tmp_path: Path) -> None:
    write_chest_data(tmp_path, {"train": 2, "val": 1, "test": 1})
    (tmp_path / "landmarks" / "H" / "JPCLN001.npy").unlink()
    assert len(find_masks(tmp_path, "jsrt", ["heart"], dims=2)) == 3
    assert len(find_masks(tmp_path, "jsrt", ["lungs"], dims=2)) == 4
    for path in (tmp_path / "landmarks" / "H").iterdir():
        path.unlink()
    assert find_masks(tmp_path, "jsrt", ["heart"], dims=2) == []


def test_label_maps_without_images_in_3d(tmp_path: Path) -> None:
    write_volumes(tmp_path, ["a", "b", "c"], values=(5, 7), splits=SPLITS)
    for path in (tmp_path / "imagesTr").iterdir():
        path.unlink()
    (tmp_path / "imagesTr").rmdir()
    cases = find_masks(tmp_path, "folder", ["front", "back"], dims=3, label_values=[7, 5])
    assert [(case.id, case.split) for case in cases] == [("a", "train"), ("b", "val"), ("c", "test")]
    labels, grid = cases[0].read_labels(["front", "back"])
    assert labels.shape == (12, 14, 16)
    assert grid.spacing_mm == (1, 1, 1)
    assert (labels == 1).sum() == (labels == 2).sum() == 4 * 6 * 4
    assert labels[4, 4, 4] == 2  # the value 5 is the second organ
    stray = find_masks(tmp_path, "folder", ["front", "back"], dims=3)[0]
    with pytest.raises(DataError, match=r"values 5, 7, .*label_values"):
        stray.read_labels(["front", "back"])
    flat = find_masks(tmp_path, "folder", ["front", "back"], dims=2, label_values=[7, 5])[0]
    with pytest.raises(AnatozooError, match="is 3-D, but 2-D is needed"):
        flat.read_labels(["front", "back"])


def test_pictures_are_dealt_by_subject(tmp_path: Path) -> None:
    for name in [f"p{i}_{k}" for i in range(12) for k in "lr"]:
        save(tmp_path / "labels" / f"{name}.png", block())
    cases = find_masks(tmp_path, "folder", ["kidney"], dims=2, subject_pattern=r"(p\d+)_")
    splits = {case.subject: case.split for case in cases}
    assert len(cases) == 24
    assert len(splits) == 12
    assert all(splits[case.subject] == case.split for case in cases)
    labels, grid = cases[0].read_labels(["kidney"])
    assert np.array_equal(labels, block())
    assert grid == Grid((30, 20))


def test_one_folder_per_organ(tmp_path: Path) -> None:
    for organ, row in (("spleen", 2), ("liver", 6)):
        mask = np.zeros((20, 30), np.uint8)
        mask[row : row + 8, 5:20] = 255
        save(tmp_path / "masks" / organ / "a.png", mask)
    [case] = find_masks(tmp_path, "folder", ["spleen", "liver"], dims=2)
    labels, _ = case.read_labels(["spleen", "liver"])
    assert labels[3, 10] == 1
    assert labels[7, 10] == 2  # the later one covers the earlier one
    with pytest.raises(DataError, match="no mask of kidney"):
        find_cases(tmp_path, "folder", ["spleen", "kidney"]).cases[0].read_labels(["kidney"])


def test_a_table_of_chexmask(tmp_path: Path) -> None:
    masks = {"Left Lung": block(), "Right Lung": block()[::-1], "Heart": block()[:, ::-1]}
    table = tmp_path / "masks.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image_id", *masks, "Height", "Width"])
        writer.writerow(["one.png", *(encode_rle(mask > 0) for mask in masks.values()), 20, 30])
    [case] = find_masks(table, "folder", ["lungs", "heart"], dims=2)
    labels, grid = case.read_labels(["lungs", "heart"])
    assert (case.id, grid.size) == ("one", (30, 20))
    assert np.array_equal(labels == 2, masks["Heart"] > 0)
    assert np.array_equal(labels > 0, sum(masks.values()) > 0)  # type: ignore[arg-type]


def test_contours_without_a_size_are_refused(tmp_path: Path) -> None:
    from anatozoo.io.landmarks import write_landmarks

    write_landmarks(tmp_path / "one_landmarks.csv", make_chest_phantom().landmarks, None)
    [case] = find_masks(tmp_path, "folder", ["heart"], dims=2)
    with pytest.raises(DataError, match="how large the image"):
        case.read_labels(["heart"])


def test_acdc_is_read_slice_by_slice_and_split_by_patient(tmp_path: Path) -> None:
    write_acdc(tmp_path, splits={"train": [1, 3], "val": [2]})
    organs = ["left_ventricle", "myocardium"]
    cases = find_masks(tmp_path, "acdc", organs, dims=2)
    assert len(cases) == 3 * 2 * 3  # the empty slices are left out
    assert cases[0].id == "patient001_frame01_z01"
    assert {(case.subject, case.split) for case in cases} == {
        ("patient001", "train"),
        ("patient002", "val"),
        ("patient003", "train"),
    }
    labels, grid = cases[0].read_labels(organs)
    assert grid == Grid((30, 20), (1.5, 1.25))
    assert labels[10, [7, 11, 15]].tolist() == [0, 2, 1]  # in the order of the organs
    only = find_masks(tmp_path, "acdc", ["right_ventricle"], dims=2)
    assert len(only) == 3 * 2 * 2
    with pytest.raises(ConfigError, match="ACDC has no atrium"):
        find_masks(tmp_path, "acdc", ["atrium"], dims=2)


@pytest.mark.parametrize(
    ("layout", "organs", "dims", "values", "error"),
    [
        ("nifti", ["heart"], 2, None, "layout='nifti' is unknown"),
        ("jsrt", ["heart"], 3, None, "holds no 3-D volumes"),
        ("folder", ["heart"], 2, [1, 2], "one number above 0"),
        ("folder", ["heart", "liver"], 2, [1, 1], "one number above 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    tmp_path: Path, layout: str, organs: list[str], dims: int, values: list[int] | None, error: str
) -> None:
    with pytest.raises(ConfigError, match=error):
        find_masks(tmp_path, layout, organs, dims=dims, label_values=values)


def test_folders_without_masks_say_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a folder"):
        find_masks(tmp_path / "nothing", "acdc", ["myocardium"], dims=2)
    with pytest.raises(DataError, match="patientNNN"):
        find_masks(tmp_path, "acdc", ["myocardium"], dims=2)
    save(tmp_path / "labels" / "a.png", block())
    (tmp_path / "splits.json").write_text(json.dumps({"train": ["a", "z"]}))
    with pytest.raises(DataError, match="without a mask, first z"):
        find_masks(tmp_path, "folder", ["kidney"], dims=2)


def test_a_subject_belongs_to_one_split(tmp_path: Path) -> None:
    for name in ("p1_l", "p1_r"):
        save(tmp_path / "labels" / f"{name}.png", block())
    (tmp_path / "splits.json").write_text(json.dumps({"train": ["p1_l"], "val": ["p1_r"]}))
    with pytest.raises(DataError, match="p1 is in the splits train and val"):
        find_masks(tmp_path, "folder", ["kidney"], dims=2, subject_pattern=r"(p\d+)_")


def test_painting_needs_every_organ() -> None:
    drawn = Drawn(Grid((30, 20)), masks={"lung_right": block() > 0})
    with pytest.raises(DataError, match=r"no mask of lung_left, but lung_right"):
        drawn.label_map(["lungs"])

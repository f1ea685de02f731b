"""The layout ``folder``: names, sizes, codes, sites, manifests, and what is wrong with them."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import SimpleITK as sitk

from anatozoo.data.case import Case
from anatozoo.data.layouts.base import Listing
from anatozoo.data.layouts.names import image_key, mask_key, organ_at_end, pair
from anatozoo.data.layouts.registry import LAYOUTS, find_cases, recognised
from anatozoo.errors import AnatozooError, ConfigError, DataError
from tests.support.acdc_data import write_acdc
from tests.support.chest_data import write_chest_data
from tests.support.volume_data import write_volumes

SIZE = (40, 30)


def picture(seed: int = 0, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, size[::-1]).astype(np.uint8)


def block(value: int = 1, size: tuple[int, int] = SIZE) -> np.ndarray:
    mask = np.zeros(size[::-1], np.uint8)
    mask[5:20, 8:30] = value
    return mask


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())  # OpenCV knows no accents in names
    return path


def write_json(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def find(root: Path, organs: Sequence[str] = ("heart",), **settings: Any) -> Listing:
    return find_cases(root, "folder", organs, **settings)


def cases(root: Path, organs: Sequence[str] = ("heart",), **settings: Any) -> dict[str, Case]:
    return {case.id: case for case in find(root, organs, **settings).cases}


def test_names_without_what_marks_images_and_masks() -> None:
    assert [image_key(n) for n in ("a_0000", "a_image", "IMG-a", "a.b", "0000")] == [
        "a",
        "a",
        "a",
        "a.b",
        "0000",
    ]
    assert [mask_key(n) for n in ("a_seg", "label_a", "a-Mask", "a_0000_gt", "a")] == ["a"] * 5
    assert organ_at_end("a_lung_right", []) == ("a", "lung_right")
    assert organ_at_end("a_mask_Liver", ["Liver"]) == ("a", "Liver")
    assert organ_at_end("heart", []) == ("heart", None)


@pytest.mark.parametrize(
    ("images", "masks", "names"),
    [
        (["a", "b"], ["a", "b"], ["a", "b"]),
        (["a_0000", "b_0000"], ["a", "b"], ["a", "b"]),
        (["a", "b"], ["a_mask", "seg-b"], ["a", "b"]),
        (["img_1", "img_2"], ["label_1", "label_2"], ["1", "2"]),
        # What all names share, but no digits of it.
        (["scan11x", "scan12x"], ["truth11", "truth12"], ["scan11x", "scan12x"]),
    ],
)
def test_images_and_masks_are_matched(images: list[str], masks: list[str], names: list[str]) -> None:
    found = pair(images, masks[::-1])
    assert found.of_image == dict(zip(images, masks, strict=True))
    assert found.names == dict(zip(images, names, strict=True))
    assert found.lonely == ()


def test_what_was_left_out_of_names_is_said() -> None:
    assert pair(["a", "b"], ["a", "b"]).how == ""
    marks = pair(["a_0000", "b"], ["a", "b"])
    assert marks.how == "matched by their names without what marks images and masks: a_0000 and a"
    others = pair([f"annaA_{n}" for n in (1, 2, 3)], [f"bertB_{n}" for n in (1, 2, 3)])
    assert others.how == (
        "matched by their names without 'annaA_' of the images, 'bertB_' of the masks: annaA_1 and bertB_1, "
        "annaA_2 and bertB_2, annaA_3 and bertB_3"
    )
    ends = pair(["x1_a", "x2_a"], ["1", "2"])
    assert ends.how.startswith(
        "matched by their names without 'x' and '_a' of the images, nothing of the masks:"
    )


def test_a_match_that_may_be_another_is_refused() -> None:
    with pytest.raises(DataError, match="several ways"):
        pair(["a"], ["a_mask", "a_seg"])
    with pytest.raises(DataError, match="several ways"):
        pair(["a"], ["a", "a_seg"])
    with pytest.raises(DataError, match="several ways"):
        pair(["a_image", "a_0000"], ["a"])


def test_images_with_and_without_masks_of_any_size(tmp_path: Path) -> None:
    for index, name in enumerate(["ä", "b", "c"]):
        save(tmp_path / "images" / f"{name}.png", picture(index, (40 + index, 30)))
    for index, name in enumerate(["ä", "b"]):
        save(tmp_path / "masks" / f"{name}_mask.png", block(255, (40 + index, 30)))
    (tmp_path / "images" / "readme.txt").write_text("hello")
    save(tmp_path / "masks" / "stranger.png", block())
    listing = find(tmp_path)
    found = {case.id: case for case in listing.cases}
    assert sorted(found) == ["b", "c", "stranger", "ä"]
    assert [found[name].labelled for name in ("ä", "b", "c")] == [True, True, False]
    assert listing.left_out == {"files that are not images": ["images/readme.txt"]}
    assert found["stranger"].image is None
    assert [case.id for case in listing.complete(["heart"])] == ["b", "ä"]
    image, labels = found["b"].read(["heart"], 2)
    assert image.pixels.shape == (30, 41)
    assert labels is not None
    assert np.array_equal(labels, block(1, (41, 30)))
    assert found["ä"].domain == tmp_path.name
    with pytest.raises(DataError, match="c is not annotated"):
        found["c"].read(["heart"], 2)
    assert [case.labelled for case in find(tmp_path, ()).cases] == [False] * 3


def test_a_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.png", picture())
    save(tmp_path / "masks" / "a.png", block(1, (41, 30)))
    with pytest.raises(DataError, match=r"another grid.*40 x 30 against 41 x 30"):
        cases(tmp_path)["a"].read(["heart"], 2)


def test_volumes_of_sixteen_bits_without_a_unit(tmp_path: Path) -> None:
    labels = np.zeros((6, 20, 24), np.uint16)
    labels[2:4, 5:15, 5:20] = 700
    for folder, values in (("images", labels + picture(1, (24, 20))), ("labels", labels)):
        (tmp_path / folder).mkdir()
        image = sitk.GetImageFromArray(values.astype(np.uint16))
        sitk.WriteImage(
            image, str(tmp_path / folder / ("p_0000.nii.gz" if folder == "images" else "p.nii.gz"))
        )
    found = cases(tmp_path, ["liver"], dims=3, label_values=[700])
    image, drawn = found["p"].read(["liver"], 3)
    assert image.grid.shape == (6, 20, 24)
    assert drawn is not None
    assert drawn.dtype == np.uint8
    assert np.array_equal(drawn > 0, labels > 0)
    with pytest.raises(DataError, match=r"values 700.*give label_values"):
        cases(tmp_path, ["liver"], dims=3)["p"].read(["liver"], 3)
    with pytest.raises(AnatozooError, match="2-D"):
        cases(tmp_path, ["liver"], dims=2, label_values=[700])["p"].read(["liver"], 2)


def test_codes_in_words_and_in_the_files_of_others(tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.png", picture())
    mask = block(3)
    mask[:3] = 7
    save(tmp_path / "masks" / "a.png", mask)
    wanted = ["kidney", "liver"]

    def counts(**settings: Any) -> list[int]:
        labels, _ = cases(tmp_path, wanted, **settings)["a"].read_labels(wanted)
        return [int((labels == value).sum()) for value in (1, 2)]

    expected = [3 * 40, 15 * 22]
    assert counts(label_values="kidney=7,liver=2+3") == expected
    assert counts(label_values=[7, 3]) == expected
    for stated in (
        {"labels": {"background": 0, "Liver": 3, "Kidney": 7, "spleen": 9}},
        {"labels": {"0": "background", "3": "liver", "7": "kidney"}},
        {"labels": {"liver": [2, 3], "kidney": 7}, "channel_names": {"0": "CT"}},
    ):
        write_json(tmp_path / "dataset.json", stated)
        assert counts() == expected
    for stated, error in (
        ({"labels": {"spleen": 3}}, "names spleen, not kidney, liver"),
        ({"labels": ["liver"]}, "must be"),
        ({"labels": {"liver": "x", "kidney": 7}}, "not whole numbers"),
        ({"labels": {"liver": True, "kidney": 7}}, "not whole numbers"),
    ):
        write_json(tmp_path / "dataset.json", stated)
        with pytest.raises(DataError, match=error):
            counts()
    with pytest.raises(ConfigError, match="no value for kidney, liver"):
        counts(label_values="spleen=7")
    with pytest.raises(ConfigError, match=r"data\.label_values"):
        counts(label_values="kidney")
    write_json(tmp_path / "dataset.json", {"labels": {"liver": 1, "kidney": 7}})
    with pytest.raises(DataError, match="holds the values 3"):
        counts()
    (tmp_path / "dataset.json").unlink()
    write_json(tmp_path / "labels.json", {"kidney": [3, 7]})
    for values in (None, "kidney=3+7"):
        (case,) = cases(tmp_path, wanted, label_values=values).values()
        assert case.organs == {"kidney"}
        assert not case.has("liver")
    sides = cases(tmp_path, ["kidneys", "lungs"], label_values="lung_right=3,lung_left=7")["a"]
    assert [sides.has(organ) for organ in ("kidneys", "lungs")] == [False, True]


def test_one_file_or_folder_for_each_organ(tmp_path: Path) -> None:
    for name in "ab":
        save(tmp_path / "images" / f"{name}.png", picture())
    save(tmp_path / "masks" / "a_lung_right.png", block(255))
    save(tmp_path / "masks" / "a_lung_left_mask.png", block(255)[:, ::-1])
    found = cases(tmp_path, ["lungs"])
    assert found["a"].organs == {"lung_right", "lung_left"}
    assert found["a"].has("lungs")
    assert not found["b"].labelled
    labels, _ = found["a"].read_labels(["lungs"])
    assert np.array_equal(labels > 0, (block() | block()[:, ::-1]) > 0)
    other = tmp_path / "other"
    save(other / "images" / "a.png", picture())
    save(other / "masks" / "heart" / "a.png", block(255))
    assert cases(other)["a"].organs == {"heart"}


def test_sites_are_domains(tmp_path: Path) -> None:
    for site in ("north", "south"):
        save(tmp_path / site / "images" / "a.png", picture())
        save(tmp_path / site / "masks" / "a.png", block())
    found = cases(tmp_path)
    assert {name: case.domain for name, case in found.items()} == {"north/a": "north", "south/a": "south"}


def test_a_manifest_says_everything(tmp_path: Path) -> None:
    save(tmp_path / "x" / "1.png", picture())
    save(tmp_path / "y" / "1.png", picture(1))
    save(tmp_path / "truth" / "one.png", block())
    rows = [
        ["image", "mask", "subject", "split", "domain", "sex"],
        ["x/1.png", "truth/one.png", "p1", "train", "siteA", "F"],
        ["y\\1.png", "", "p2", "val", "", ""],
    ]
    write_csv(tmp_path / "manifest.csv", rows)
    for root in (tmp_path, tmp_path / "manifest.csv"):
        listing = find(root)
        first, second = listing.cases
        assert (first.id, first.subject, first.split, first.domain) == ("x/1", "p1", "train", "siteA")
        assert (first.facts, first.labelled) == ({"sex": "F"}, True)
        assert (second.id, second.split, second.labelled) == ("y/1", "val", False)
        labels, _ = first.read_labels(["heart"])
        assert np.array_equal(labels, block())
        assert recognised(root)[0] == "folder"
    assert first.origin is not None
    assert not first.origin.dealt


def write_csv(path: Path, rows: list[list[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


@pytest.mark.parametrize(
    ("row", "error"),
    [
        (["../a.png", "", "train"], "does not lie in the folder"),
        (["/etc/passwd", "", "train"], "does not lie in the folder"),
        (["https://host/a.png", "", "train"], "does not lie in the folder"),
        (["c:/a.png", "", "train"], "does not lie in the folder"),
        (["gone.png", "", "train"], "1 of its files are not there: line 3: .*gone.png"),
        (["a.png", "", "train"], "lines 2 and 3 are both"),
        (["", "", "train"], "line 3 names neither"),
        (["b.png", "", "training"], "write train"),
        (["b.png", "", "fold0"], "they are train, val, test"),
    ],
)
def test_a_manifest_that_cannot_be_is_refused(tmp_path: Path, row: list[str], error: str) -> None:
    for name in "ab":
        save(tmp_path / f"{name}.png", picture())
    write_csv(tmp_path / "manifest.csv", [["image", "mask", "split"], ["a.png", "", "train"], row])
    with pytest.raises(DataError, match=error):
        find(tmp_path)


def test_a_manifest_with_splits_beside_lists_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "a.png", picture())
    write_csv(tmp_path / "manifest.csv", [["image", "split"], ["a.png", "train"]])
    write_json(tmp_path / "splits.json", {"train": ["a"], "val": []})
    with pytest.raises(DataError, match="keep one of them"):
        find(tmp_path)


LABELME = {
    "shapes": [{"label": "heart", "points": [[5, 5], [25, 5], [25, 20]], "shape_type": "polygon"}],
    "imageWidth": 40,
    "imageHeight": 30,
}


def test_contours_of_labelme_beside_the_images_or_in_a_folder(tmp_path: Path) -> None:
    for place in ("images", "annotations"):
        root = tmp_path / place
        save(root / "images" / "a.png", picture())
        write_json(root / place / "a.json", LABELME)
        [case] = find(root).cases
        drawn = case.read_drawn(["heart"], case.read_image(2).grid)
        assert drawn.free == {"heart"}
        assert drawn.landmarks["heart"].tolist() == [[4.5, 4.5], [24.5, 4.5], [24.5, 19.5]]
        labels, _ = case.read_labels(["heart"])
        assert 100 < labels.sum() < 200
    write_json(root / "annotations" / "a.json", LABELME | {"imageWidth": 41})
    with pytest.raises(DataError, match="drawn on an image of 41 x 30"):
        find(root).cases[0].read(["heart"], 2)
    shapes = [dict(LABELME["shapes"][0], label="hart")]  # type: ignore[index]
    write_json(root / "annotations" / "a.json", LABELME | {"shapes": shapes})
    with pytest.raises(DataError, match="lack heart, but name hart"):
        find(root).cases[0].read(["heart"], 2)


def test_several_outlines_of_one_organ_are_a_mask(tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.png", picture())
    parts = [LABELME["shapes"][0] | {"points": [[x, 5], [x + 5, 5], [x + 5, 9]]} for x in (5, 25)]  # type: ignore[index,operator]
    write_json(tmp_path / "annotations" / "a.json", LABELME | {"shapes": parts})
    drawn = find(tmp_path).cases[0].read_drawn(["heart"])
    assert not drawn.landmarks
    assert drawn.masks["heart"][6, [8, 15, 28]].tolist() == [True, False, True]


@pytest.mark.parametrize("place", ["", "annotations/"])
def test_one_file_of_coco_or_cvat_for_all_images(tmp_path: Path, place: str) -> None:
    for index, name in enumerate("ab"):
        save(tmp_path / "images" / f"{name}.png", picture(index))
    coco = {
        "images": [{"id": 1, "file_name": "images/a.png", "width": 40, "height": 30}],
        "categories": [{"id": 1, "name": "Heart"}],
        "annotations": [{"image_id": 1, "category_id": 1, "segmentation": [[5, 5, 25, 5, 25, 20]]}],
    }
    path = write_json(tmp_path / place / "instances.json", coco)
    found = cases(tmp_path)
    assert [found[name].labelled for name in "ab"] == [True, False]
    assert found["a"].read_drawn(["heart"]).landmarks["heart"].shape == (3, 2)
    path.unlink()
    (tmp_path / place / "cvat.xml").write_text(
        '<annotations><image name="b.png" width="40" height="30">'
        '<polygon label="heart" points="5,5;25,5;25,20"/></image></annotations>'
    )
    save(tmp_path / place / "previews" / "b.png", picture())  # annotates nothing beside the file
    found = cases(tmp_path)
    assert [found[name].labelled for name in "ab"] == [False, True]
    assert found["b"].read_drawn(["heart"]).free == {"heart"}


@pytest.mark.parametrize("name", ["a_heart.mrk.json", "heart/a.mrk.json", "a.mrk.json"])
def test_markups_of_slicer_lie_where_the_image_does(tmp_path: Path, name: str) -> None:
    save(tmp_path / "images" / "a.png", picture())
    points = [[5, 5, 0], [25, 5, 0], [25, 20, 0]]
    controls = [{"label": f"heart-{i}", "position": p} for i, p in enumerate(points, 1)]
    markup = {"type": "ClosedCurve", "coordinateSystem": "LPS", "controlPoints": controls}
    write_json(tmp_path / "masks" / name, {"markups": [markup]})
    [case] = find(tmp_path).cases
    drawn = case.read_drawn(["heart"], case.read_image(2).grid)
    assert drawn.landmarks["heart"].tolist() == [[5, 5], [25, 5], [25, 20]]


def test_folders_that_hold_nothing_or_too_much_say_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no layout is recognised"):
        recognised(tmp_path)
    with pytest.raises(DataError, match="no annotations in"):
        find(tmp_path)
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match=r"no images in images or imagesTr.*manifest\.csv"):
        find(tmp_path, ())
    save(tmp_path / "images" / "a.png", picture())
    save(tmp_path / "images" / "a.bmp", picture())
    with pytest.raises(DataError, match="have the same name"):
        find(tmp_path, ())
    (tmp_path / "images" / "a.bmp").unlink()
    save(tmp_path / "masks" / "a.png", block())
    save(tmp_path / "masks" / "a_mask.png", block())
    with pytest.raises(DataError, match="both annotate a"):
        find(tmp_path)
    (tmp_path / "masks" / "a_mask.png").unlink()
    write_json(tmp_path / "splits.json", {"train": ["z"]})
    with pytest.raises(DataError, match="names 1 cases, and none"):
        find(tmp_path)


def test_each_layout_is_recognised(tmp_path: Path) -> None:
    chest = write_chest_data(tmp_path / "chest", {"train": 1, "val": 1}, side=64)
    write_acdc(tmp_path / "acdc", splits={"train": [1, 3], "val": [2]})
    write_volumes(tmp_path / "volumes", ["a", "b"])
    assert recognised(chest)[0] == "chest"
    assert recognised(tmp_path / "acdc")[0] == "acdc"
    assert recognised(tmp_path / "volumes")[0] == "folder"
    known = {"jsrt", "landmarks", "hybridgnet", "covid", "chest", "acdc", "folder", "findings"}
    assert known == set(LAYOUTS)
    with pytest.raises(ConfigError, match="layout='msd' is unknown"):
        find_cases(chest, "msd")
    with pytest.raises(ConfigError, match="no 3-D volumes"):
        find_cases(chest, "jsrt", ["heart"], dims=3)

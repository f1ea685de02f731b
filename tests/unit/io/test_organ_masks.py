from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anatozoo.errors import AnatozooError, DataError, GeometryError, ImageError
from anatozoo.io.annotation import shown_box
from anatozoo.io.grid import Grid
from anatozoo.io.label_codes import LabelCodes
from anatozoo.io.organ_masks import OrganMasks, read_organ_masks
from tests.support.tracer import ORGANS, chest, label_map

NAMES = list(ORGANS)


def test_a_label_map_holds_the_organs_in_order() -> None:
    found = read_organ_masks(label_map(), NAMES, spacing_mm=0.5)
    assert list(found.masks) == NAMES
    assert found.grid.spacing_mm == (0.5, 0.5)
    assert int(found.masks["heart"].sum()) == int((label_map() == 3).sum())


def test_values_are_named_in_three_ways() -> None:
    labels = label_map("lung_right", "heart")
    for classes in (
        ["lungs", "heart"],
        {1: "lungs", 2: "heart"},
        LabelCodes({"lungs": ((1, 1),), "heart": ((2, 9),)}),
    ):
        found = read_organ_masks(labels, NAMES, classes=classes)
        assert {name: int(mask.sum()) for name, mask in found.masks.items()} == {
            "lungs": int((labels == 1).sum()),
            "heart": int((labels == 2).sum()),
        }


def test_planes_may_overlap() -> None:
    planes = np.stack(list(chest("lung_left", "heart").values()))
    for stored in (planes, planes.astype(np.uint8) * 255, planes.astype(float)):
        found = read_organ_masks(stored, NAMES, classes=["lung_left", "heart"])
        assert np.array_equal(found.masks["lung_left"], planes[0])


def test_one_organ_in_black_and_white_is_that_organ(tmp_path: Path) -> None:
    white = chest("heart")["heart"].astype(np.uint8) * 255
    Image.fromarray(white).save(tmp_path / "a.png")
    for source in (white, tmp_path / "a.png"):
        assert list(read_organ_masks(source, NAMES, classes=["heart"]).masks) == ["heart"]
    with pytest.raises(AnatozooError, match="255"):
        read_organ_masks(white, NAMES)


def test_a_pair_gives_way_to_its_two_sides() -> None:
    masks = chest("lung_right", "lung_left")
    both = masks | {"lungs": masks["lung_right"] | masks["lung_left"]}
    found = read_organ_masks(OrganMasks(both, Grid((300, 300))), NAMES)
    assert list(found.masks) == ["lung_right", "lung_left"]


def test_an_organ_without_a_pixel_is_not_there() -> None:
    masks = chest("lung_right") | {"heart": np.zeros((300, 300), bool)}
    assert list(read_organ_masks(OrganMasks(masks, Grid((300, 300))), NAMES).masks) == ["lung_right"]


def test_a_mask_of_true_and_false_is_one_organ() -> None:
    heart = chest("heart")["heart"]
    assert np.array_equal(read_organ_masks(heart, NAMES, classes=["heart"]).masks["heart"], heart)
    with pytest.raises(ImageError, match=r"true and false.*one organ, but there are 5"):
        read_organ_masks(heart, NAMES)
    with pytest.raises(ImageError, match="one organ, but there are 2: lungs, heart"):
        read_organ_masks(heart, NAMES, classes=["lungs", "heart"])


def test_masks_of_results_are_looked_at() -> None:
    heart, grid = chest("heart")["heart"], Grid((300, 300))
    for stored in (heart.astype(np.uint8), heart * np.uint8(255), heart.astype(float)):
        found = read_organ_masks(OrganMasks({"heart": stored}, grid), NAMES).masks["heart"]
        assert found.dtype == bool
        assert np.array_equal(found, heart)
    with pytest.raises(ImageError, match=r"mask of heart holds \[7\]; the mask of an organ holds 0 and 1"):
        read_organ_masks(OrganMasks({"heart": heart * np.uint8(7)}, grid), NAMES)
    small = {"heart": heart, "lung_left": chest("lung_left", size=200)["lung_left"]}
    with pytest.raises(GeometryError, match="lung_left is 200 x 200 pixels, but the image 300 x 300"):
        read_organ_masks(OrganMasks(small, grid), NAMES)


def test_masks_that_were_read_are_for_other_models_too() -> None:
    found = read_organ_masks(OrganMasks(chest("heart"), Grid((300, 300))), NAMES)
    assert read_organ_masks(found, NAMES).masks["heart"] is found.masks["heart"]
    assert read_organ_masks(found, NAMES, spacing_mm=0.5).grid.spacing_mm == (0.5, 0.5)
    with pytest.raises(ImageError, match="heart, which this model does not know"):
        read_organ_masks(found, ["lung_right", "lung_left"])


def test_what_holds_all_masks_is_found() -> None:
    one, other = np.zeros((2, 20, 30), bool)
    one[3, 4] = other[7, 21] = True
    assert shown_box(one, other) == (slice(3, 8), slice(4, 22))
    assert shown_box(one) == (slice(3, 4), slice(4, 5))
    volume = np.zeros((4, 5, 6), bool)
    volume[1, 2, 3] = volume[3, 4, 3] = True
    assert shown_box(volume) == (slice(1, 4), slice(2, 5), slice(3, 4))
    assert shown_box(volume.any(2).any(1)) == (slice(1, 4),)
    empty = [np.zeros(shape, bool) for shape in ((3, 3), (0, 3), (3, 3, 3))]
    assert [shown_box(), *map(shown_box, empty)] == [None] * 4


@pytest.mark.parametrize(
    ("mask", "classes", "words"),
    [
        (np.zeros((20, 20), np.uint8), None, "is empty: it shows no organ"),
        (np.ones((20, 20), np.uint8), None, "lung_right everywhere"),
        (np.zeros((20, 20, 3), np.uint8), None, "colour picture"),
        (np.full((20, 20), 0.5), None, "fractions"),
        (np.full((20, 20), np.nan), None, "NaN or infinity"),
        (label_map() * 7, None, "7"),
        (label_map("heart"), ["liver"], "liver, which this model does not know"),
        (np.zeros((2, 20, 20), np.uint8), None, "nor one plane"),
        (np.ones((3, 3), np.uint8) - np.eye(3, dtype=np.uint8), None, "shape"),
        (np.zeros((2, 2, 2, 2), np.uint8), None, "4-D"),
    ],
)
def test_what_is_no_mask_is_named_in_a_sentence(
    mask: np.ndarray, classes: list[str] | None, words: str
) -> None:
    with pytest.raises((ImageError, DataError), match=words):
        read_organ_masks(mask, NAMES, classes=classes)


def test_soft_edges_are_named(tmp_path: Path) -> None:
    import cv2

    soft = cv2.GaussianBlur(chest("heart")["heart"].astype(np.uint8) * 255, (0, 0), 2)
    Image.fromarray(soft).save(tmp_path / "soft.png")
    with pytest.raises(AnatozooError, match="not a label map"):
        read_organ_masks(tmp_path / "soft.png", NAMES, classes=["heart"])
    with pytest.raises(AnatozooError, match="along its edges"):
        read_organ_masks(soft, NAMES, classes=["heart"])
    half = LabelCodes({"heart": ((128, 255),), "background": ((0, 127),)})
    assert list(read_organ_masks(tmp_path / "soft.png", NAMES, classes=half).masks) == ["heart"]

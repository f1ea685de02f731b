"""Plausibility of masks without a reference: parts, holes, order, contact, ratios."""

import math

import numpy as np
import pytest
import torch

from anatozoo.errors import ConfigError, DataError, GeometryError
from anatozoo.io.landmarks import draw_organ_mask
from anatozoo.metrics.plausibility import (
    CHEST_ORDER,
    Order,
    area_ratio,
    border_px,
    cardiothoracic_lines,
    cardiothoracic_ratio,
    centroid,
    components,
    enclosure,
    holes,
    organ_masks,
    organ_order,
    shared_border_px,
    touching,
)
from tests.support.phantoms import make_chest_phantom

EMPTY = np.zeros((30, 45), bool)


def box(*parts: slice, shape: tuple[int, ...] = (30, 45)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[parts] = True
    return mask


def ring(shape: tuple[int, ...], wall: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """A box in the middle of a grid, and a wall all round it."""
    inner = box(*(slice(5, n - 5) for n in shape), shape=shape)
    outer = box(*(slice(5 - wall, n - 5 + wall) for n in shape), shape=shape) & ~inner
    return inner, outer


@pytest.fixture
def chest() -> dict[str, np.ndarray]:
    phantom = make_chest_phantom(width=180, height=200)
    return {organ: draw_organ_mask(points, (180, 200)) for organ, points in phantom.landmarks.items()}


# Parts and holes


def test_parts_hang_together_by_corners() -> None:
    diagonal = np.eye(5, dtype=bool)
    assert components(diagonal) == 1
    diagonal[2, 2] = False
    assert components(diagonal) == 2
    corner = np.zeros((4, 4, 4), bool)
    corner[1, 1, 1] = corner[2, 2, 2] = True
    assert components(corner) == 1
    corner[2, 2, 2], corner[3, 3, 3] = False, True
    assert components(corner) == 2


def test_holes_do_not_leak_through_corners() -> None:
    diamond = np.zeros((5, 5), bool)
    diamond[[1, 2, 2, 3], [2, 1, 3, 2]] = True
    assert components(diamond) == 1
    assert holes(diamond) == 1
    cage = box(slice(1, 4), slice(1, 4), slice(1, 4), shape=(5, 5, 5))
    cage[2, 2, 2] = False
    assert holes(cage) == 1
    cage[1, 2, 2] = False  # a dent is no hole
    assert holes(cage) == 0


@pytest.mark.parametrize("shape", [(30, 45), (45, 30), (1, 7), (9, 12, 7)])
def test_empty_full_and_single_pixels(shape: tuple[int, ...]) -> None:
    empty, full, single = np.zeros(shape, bool), np.ones(shape, bool), np.zeros(shape, bool)
    single[(0,) * len(shape)] = True
    assert [components(m) for m in (empty, full, single)] == [0, 1, 1]
    assert [holes(m) for m in (empty, full, single)] == [0, 0, 0]
    assert all(isinstance(f(m), int) for f in (components, holes) for m in (empty, full))
    assert np.isnan(centroid(empty)).all()
    assert centroid(empty).shape == (len(shape),)
    assert centroid(single).tolist() == [0] * len(shape)
    assert border_px(single) == 2 * len(shape)


def test_background_at_the_border_of_the_image_is_no_hole() -> None:
    mask = box(slice(0, 30), slice(10, 12))  # divides the image, and encloses nothing
    assert holes(mask) == 0
    mask[14, 10:12] = False
    assert holes(mask) == 0
    assert components(mask) == 2


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.float32, bool])
def test_kinds_of_arrays_and_tensors_give_the_same(kind: type) -> None:
    mask = (box(slice(2, 9), slice(3, 20)) & ~box(slice(4, 6), slice(5, 7))).astype(kind)
    for given in (mask, np.asfortranarray(mask), torch.from_numpy(mask), mask.tolist()):
        assert (components(given), holes(given)) == (1, 1)
        assert centroid(given) == pytest.approx(np.argwhere(mask).mean(0)[::-1])
    assert components(mask[:, ::-1]) == 1


@pytest.mark.parametrize("measure", [components, holes, centroid, border_px])
@pytest.mark.parametrize(
    "mask",
    [
        np.full((4, 5), 2, np.uint8),  # a label map
        np.full((4, 5), 0.5),
        np.where(np.eye(4) > 0, np.nan, 0.0),
        np.full((4, 5), 256 + 1, np.int64),  # 1 in eight bits
        np.full((4, 5), -1, np.int64),
        np.ones((2, 1, 4, 5)),
        np.ones(7),
        np.zeros((0, 3)),
    ],
)
def test_what_is_no_mask_is_refused(measure, mask: np.ndarray) -> None:
    with pytest.raises(GeometryError, match="mask"):
        measure(mask)


# Label maps


def test_a_label_map_is_split_into_organs() -> None:
    labels = np.zeros((4, 6), np.uint8)
    labels[1, 2], labels[2, 3:] = 1, 3
    masks = organ_masks(labels, ["heart", "liver", "spleen"])
    assert {organ: int(mask.sum()) for organ, mask in masks.items()} == {"heart": 1, "liver": 0, "spleen": 3}
    for given in (torch.from_numpy(labels), labels.astype(np.float32), labels.astype(np.int64)):
        again = organ_masks(given, ["heart", "liver", "spleen"])
        assert all((again[organ] == mask).all() for organ, mask in masks.items())


@pytest.mark.parametrize("value", [3, 255, 257, -1, 0.5, np.nan, np.inf])
def test_a_label_without_an_organ_is_refused(value: float) -> None:
    labels = np.zeros((4, 6), np.uint8 if value in (3, 255) else np.float64)
    labels[1, 1] = value
    with pytest.raises(GeometryError, match="holds"):
        organ_masks(labels, ["heart", "liver"])


def test_a_batch_of_label_maps_is_refused() -> None:
    with pytest.raises(GeometryError, match="one at a time"):
        organ_masks(np.zeros((2, 1, 4, 6)), ["heart"])


# Order


def test_a_chest_is_in_order_and_a_mirrored_one_is_not(chest) -> None:
    assert organ_order(chest) == []
    mirrored = {organ: mask[:, ::-1] for organ, mask in chest.items()}
    assert organ_order(mirrored) == [pair for pair in CHEST_ORDER if pair.relation == "left of"]
    upside_down = {organ: torch.from_numpy(mask[::-1].copy()) for organ, mask in chest.items()}
    assert organ_order(upside_down) == [pair for pair in CHEST_ORDER if pair.relation == "above"]


def test_swapped_labels_are_found(chest) -> None:
    chest["lung_right"], chest["lung_left"] = chest["lung_left"], chest["lung_right"]
    assert organ_order(chest, [("lung_right", "left of", "lung_left")]) == [
        Order("lung_right", "left of", "lung_left")
    ]
    assert organ_order(chest, [("lung_right", "right of", "lung_left")]) == []
    assert organ_order(chest, [("heart", "below", "clavicle_left")]) == []
    assert organ_order(chest, [("heart", "above", "clavicle_left")]) != []


def test_order_in_a_volume_is_that_of_its_slices() -> None:
    shape = (5, 30, 45)
    masks = {
        "a": box(slice(0, 2), slice(2, 5), slice(3, 9), shape=shape),
        "b": box(slice(3, 5), slice(9, 20), slice(12, 40), shape=shape),
    }
    assert organ_order(masks, [("a", "above", "b"), ("a", "left of", "b")]) == []
    assert len(organ_order(masks, [("a", "below", "b"), ("a", "right of", "b")])) == 2


def test_level_centroids_violate_an_order_and_empty_masks_do_not(chest) -> None:
    twins = {"a": box(slice(3, 6), slice(3, 6)), "b": box(slice(13, 16), slice(3, 6))}
    assert len(organ_order(twins, [("a", "left of", "b"), ("a", "right of", "b")])) == 2
    assert organ_order(twins | {"b": EMPTY}, [("a", "left of", "b"), ("a", "right of", "b")]) == []


def test_defaults_are_those_of_the_organs_that_are_there(chest) -> None:
    lungs = {organ: chest[organ][:, ::-1] for organ in ("lung_right", "lung_left")}
    assert organ_order(lungs) == [Order("lung_right", "left of", "lung_left")]
    with pytest.raises(ConfigError, match="give `pairs`"):
        organ_order({"myocardium": EMPTY, "lv": EMPTY})


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (("lung_right", "left of", "liver"), "no mask of liver"),
        (("heart", "beside", "heart"), "no such relation"),
    ],
)
def test_unknown_pairs_are_refused(chest, pair: tuple[str, str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        organ_order(chest, [pair])


# Contact


@pytest.mark.parametrize("shape", [(20, 25), (20, 25, 14)])
def test_a_wall_encloses_what_is_in_it(shape: tuple[int, ...]) -> None:
    inner, outer = ring(shape)
    sides = np.array([n - 10 for n in shape])
    faces = int(sum(2 * sides.prod() // n for n in sides))
    assert border_px(inner) == shared_border_px(inner, outer) == shared_border_px(outer, inner) == faces
    assert enclosure(inner, outer) == 1.0
    assert enclosure(outer, inner) < 0.5
    half = outer.copy()
    half[..., : shape[-1] // 2] = False
    assert 0.3 < enclosure(inner, half) < 0.7


def test_faces_of_unequal_pixels_weigh_what_they_measure() -> None:
    inner = box(slice(5, 10), slice(5, 15))  # 10 wide, 5 high
    right = box(slice(5, 10), slice(15, 16))
    assert enclosure(inner, right) == 5 / 30
    assert enclosure(inner, right, (1.0, 3.0)) == 15 / (2 * 10 + 2 * 15)  # its pixels are 3 mm high
    assert enclosure(inner, right, 0.3) == pytest.approx(5 / 30)


def test_overlap_counts_as_the_border_that_lies_inside() -> None:
    a, b = box(slice(5, 15), slice(5, 15)), box(slice(8, 12), slice(10, 20))
    assert shared_border_px(a, b) == 4  # the right side of a, where b goes on
    assert shared_border_px(b, a) == 4 + 5 + 5
    assert enclosure(a, np.ones_like(a)) == 1.0
    assert touching(a, b)


def test_the_border_of_the_image_encloses_nothing() -> None:
    corner = box(slice(0, 10), slice(0, 10))
    assert border_px(corner) == 40
    assert enclosure(corner, ~corner) == 0.5


def test_touching_by_corners_is_touching_without_a_shared_border() -> None:
    a, b = box(slice(2, 4), slice(2, 4)), box(slice(4, 6), slice(4, 6))
    assert touching(a, b)
    assert touching(b, a)
    assert shared_border_px(a, b) == 0
    assert not touching(a, np.roll(b, 1, axis=1))
    deep = np.zeros((4, 4, 4), bool), np.zeros((4, 4, 4), bool)
    deep[0][1, 1, 1] = deep[1][2, 2, 2] = True
    assert touching(*deep)
    assert not touching(deep[0], np.roll(deep[1], 1, axis=0))


def test_boxes_that_interlock_need_not_touch() -> None:
    comb = box(slice(0, 10), slice(0, 1)) | box(slice(0, 1), slice(0, 10))
    tooth = box(slice(5, 6), slice(5, 6))
    assert not touching(comb, tooth)
    assert shared_border_px(comb, tooth) == 0


def test_what_is_empty_touches_nothing() -> None:
    a = box(slice(2, 4), slice(2, 4))
    for pair in ((a, EMPTY), (EMPTY, a), (EMPTY, EMPTY)):
        assert not touching(*pair)
        assert shared_border_px(*pair) == 0
    assert enclosure(a, EMPTY) == 0.0
    assert math.isnan(enclosure(EMPTY, a))


@pytest.mark.parametrize("measure", [touching, shared_border_px, enclosure, area_ratio])
def test_different_shapes_are_refused(measure) -> None:
    for other in (np.zeros((45, 30), bool), np.zeros((3, 30, 45), bool)):
        with pytest.raises(GeometryError, match="one shape"):
            measure(EMPTY, other)


# Ratios


def test_area_ratio_does_not_overflow_eight_bits() -> None:
    large, small = np.ones((300, 400), np.uint8), np.zeros((300, 400), np.uint8)
    small[:3, :4] = 1
    assert area_ratio(large, small) == 10_000
    assert area_ratio(torch.from_numpy(small), large) == 1e-4
    assert area_ratio(np.zeros_like(small), small) == 0
    assert math.isnan(area_ratio(small, np.zeros_like(small)))


def test_cardiothoracic_ratio_of_masks_and_of_landmarks() -> None:
    masks = {
        "lung_right": box(slice(2, 20), slice(2, 10)),
        "lung_left": box(slice(2, 20), slice(25, 43)),
        "heart": box(slice(10, 20), slice(12, 33)),
    }
    assert cardiothoracic_ratio(masks) == 20 / 40
    assert cardiothoracic_ratio({"lungs": masks["lung_right"] | masks["lung_left"], **masks}) == 20 / 40
    points = {organ: np.argwhere(mask)[:, ::-1] for organ, mask in masks.items()}
    assert cardiothoracic_ratio(landmarks=points) == 20 / 40
    shifted = {organ: p + 0.25 for organ, p in points.items()}
    shifted["heart"] = np.array([[12.5, 0.0], [33.0, 4.0], [20.0, 9.0]])
    assert cardiothoracic_ratio(landmarks=shifted) == 20.5 / 40
    for organ in masks:
        assert math.isnan(cardiothoracic_ratio(masks | {organ: EMPTY}))
        assert math.isnan(cardiothoracic_ratio(landmarks=points | {organ: np.empty((0, 2))}))


def test_cardiothoracic_lines_run_between_the_outermost_points() -> None:
    masks = {
        "lung_right": box(slice(2, 20), slice(2, 10)),
        "lung_left": box(slice(6, 23), slice(25, 43)),
        "heart": box(slice(10, 21), slice(12, 33)),
    }
    lines = cardiothoracic_lines(masks)
    assert lines is not None
    assert lines.heart == ((12, 15), (32, 15))
    # Lungs end at the heights (2..19) and (6..22): their line lies midway.
    assert lines.thorax == ((2, 12.25), (42, 12.25))
    assert lines.widths_px == (20, 40)
    assert lines.ratio == 0.5
    points = {"heart": [[5, 8], [9, 2], [7, 0]], "lungs": [[0, 3], [20, 7], [20, 9], [4, 4]]}
    assert cardiothoracic_lines(landmarks=points).heart == ((5, 5), (9, 5))
    assert cardiothoracic_lines(landmarks=points).thorax == ((0, 5.5), (20, 5.5))
    assert cardiothoracic_lines(masks | {"heart": EMPTY}) is None
    assert cardiothoracic_lines(landmarks={**points, "lungs": [[3, 3], [3, 9]]}) is None


def test_cardiothoracic_ratio_of_a_result_is_the_same() -> None:
    from anatozoo.results.contours import ContourResult
    from anatozoo.results.labels import LabelResult

    phantom = make_chest_phantom(width=180, height=200)
    options = {"checkpoint": "c", "version": "1", "image": "i", "size": (180, 200), "spacing_mm": None}
    result = ContourResult(landmarks=phantom.landmarks, **options)
    assert result.cardiothoracic_ratio == cardiothoracic_ratio(landmarks=phantom.landmarks)
    labelled = LabelResult(label_map=result.mask, classes=result.organs, **options)
    assert labelled.cardiothoracic_ratio == cardiothoracic_ratio(organ_masks(result.mask, result.organs))


def test_cardiothoracic_ratio_says_what_it_lacks(chest) -> None:
    with pytest.raises(DataError, match="needs lung_left"):
        cardiothoracic_ratio({organ: chest[organ] for organ in ("heart", "lung_right")})
    with pytest.raises(ConfigError, match="one of the two"):
        cardiothoracic_ratio()
    with pytest.raises(ConfigError, match="one of the two"):
        cardiothoracic_ratio(chest, landmarks={})
    with pytest.raises(GeometryError, match="2-D"):
        cardiothoracic_ratio({organ: mask[None] for organ, mask in chest.items()})
    with pytest.raises(GeometryError, match="finite"):
        cardiothoracic_ratio(landmarks=dict.fromkeys(chest, np.array([[np.nan, 1.0]])))

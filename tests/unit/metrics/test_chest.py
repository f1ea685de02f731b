import math

import numpy as np
import pytest

from anatozoo.io.annotation import Annotation
from anatozoo.metrics.cases import Case, Measures, case_row
from anatozoo.metrics.chest import (
    comparable,
    draw_masks,
    exclusive,
    to_frame,
    with_pairs,
)
from tests.support.phantoms import make_chest_phantom

FRAME = (1024, 1024)


def ring(centre: tuple[float, float], turn: float = 0.0, radius: float = 100.0) -> np.ndarray:
    angle = np.arange(40) * 2 * np.pi / 40 + turn
    return np.array(centre) + radius * np.stack([np.cos(angle), np.sin(angle)], 1)


def square(left: float, top: float, side: float) -> np.ndarray:
    return np.array([[0, 0], [side, 0], [side, side], [0, side]], dtype=float) + (left, top)


def landmark_row(
    prediction: dict[str, np.ndarray],
    truth: dict[str, np.ndarray],
    spacing_mm: float | None = None,
    measures: Measures | None = None,
) -> dict:
    spacing = None if spacing_mm is None else (spacing_mm, spacing_mm)
    return case_row(
        Case(Annotation(FRAME, prediction), Annotation(FRAME, truth, spacing_mm=spacing)), measures
    )


def test_sliding_along_a_contour_and_leaving_it_are_told_apart() -> None:
    truth = {"heart": ring((500, 600))}
    slid = landmark_row({"heart": ring((500, 600), turn=0.05)}, truth)
    left = landmark_row({"heart": ring((500, 600), radius=105)}, truth)
    chord = 2 * 100 * np.sin(0.025)
    assert slid["mse_px2"] == pytest.approx(chord**2 / 2)
    assert slid["mse_px2/along"] == pytest.approx(chord**2 / 2, rel=1e-3)
    assert slid["mse_px2/across"] == pytest.approx(0, abs=0.02)
    assert left["mse_px2/along"] == pytest.approx(0, abs=1e-9)
    assert left["mse_px2/across"] == pytest.approx(12.5)


def test_the_parts_add_up_over_organs() -> None:
    rng = np.random.default_rng(0)
    truth = {"heart": ring((500, 600)), "lung_left": ring((700, 400))}
    guess = {organ: points + rng.normal(0, 8, points.shape) for organ, points in truth.items()}
    row = landmark_row(guess, truth)
    assert row["mse_px2/along"] + row["mse_px2/across"] == pytest.approx(row["mse_px2"])
    assert row["mse_px2/along"] == pytest.approx(row["mse_px2/across"], rel=0.5)


def test_landmark_metrics_of_a_shift() -> None:
    truth = {organ: np.trunc(p) for organ, p in make_chest_phantom(1024, 1024).landmarks.items()}
    moved = {organ: p + [3.0, 4.0] for organ, p in truth.items()}
    row = landmark_row(moved, truth, spacing_mm=0.35)
    assert row["mse_px2"] == row["mse_px2/lungs_heart"] == 12.5
    assert row["error_px"] == 5.0
    for organ in (*truth, "lungs"):
        assert 0 < row[f"dice/{organ}"] < 1
        assert 0 < row[f"assd_px/{organ}"] <= row[f"hd_px/{organ}"] <= 5.0
        assert row[f"hd_mm/{organ}"] == pytest.approx(0.35 * row[f"hd_px/{organ}"])
    assert not any("_mm" in name for name in landmark_row(moved, truth))
    perfect = landmark_row(truth, truth)
    assert perfect["dice/lungs"] == 1.0
    assert perfect["hd_px/heart"] == perfect["mse_px2"] == 0.0


def test_rounding_decides_where_a_contour_meets_the_grid() -> None:
    heart = square(10, 10, 20)
    nearly = {"heart": heart + 0.9}
    truncated = landmark_row(nearly, {"heart": heart}, measures=Measures(rounding="truncate"))
    nearest = landmark_row(nearly, {"heart": heart}, measures=Measures(rounding="nearest"))
    assert truncated["dice/heart"] == 1.0
    assert nearest["hd_px/heart"] == math.sqrt(2)


def test_masks_of_another_size_show_the_same_view() -> None:
    phantom = make_chest_phantom(512, 512)
    full = draw_masks(phantom.landmarks, (512, 512), (512, 512))
    half = draw_masks(phantom.landmarks, (512, 512), (256, 256))
    blocks = {organ: mask.reshape(256, 2, 256, 2).mean((1, 3)) >= 0.5 for organ, mask in full.items()}
    row = case_row(Case(Annotation((256, 256), masks=half), Annotation((256, 256), masks=blocks)))
    assert min(row[f"dice/{organ}"] for organ in ("lungs", "lung_left", "lung_right", "heart")) > 0.98


def test_frame_maps_pixel_centres() -> None:
    points = to_frame({"heart": np.array([[0.5, 0.5], [2047.0, 0.0]])}, (2048, 2048))
    np.testing.assert_allclose(points["heart"], [[0.0, 0.0], [1023.25, -0.25]])


def test_a_pair_is_drawn_where_the_other_side_knows_it_as_one() -> None:
    lungs = {"lung_right": square(2, 2, 5), "lung_left": square(12, 2, 5)}
    apart = Annotation((24, 20), lungs)
    together = Annotation((24, 20), masks={"lungs": np.zeros((20, 24), bool)})
    drawn = with_pairs(apart, together)
    assert np.count_nonzero(drawn.masks["lungs"]) == 2 * 6 * 6
    assert drawn.landmarks is apart.landmarks
    assert with_pairs(apart, apart) is apart
    assert with_pairs(together, apart) is together
    only_one = Annotation((24, 20), {"lung_right": lungs["lung_right"]})
    assert with_pairs(only_one, together) is only_one


def test_exclusive_organs_cover_one_another_in_order() -> None:
    heart, lung = square(6, 2, 5), square(2, 2, 7)
    cut = exclusive(Annotation((16, 12), {"lung_left": lung, "heart": heart}))
    assert np.count_nonzero(cut.masks["heart"]) == 36
    assert np.count_nonzero(cut.masks["lung_left"]) == 64 - 4 * 6
    assert not (cut.masks["heart"] & cut.masks["lung_left"]).any()
    assert list(cut.landmarks) == ["lung_left", "heart"]


def test_an_organ_that_one_side_lacks_cuts_nothing() -> None:
    with_heart = Annotation((16, 12), {"lung_left": square(2, 2, 7), "heart": square(6, 2, 5)})
    without = Annotation((16, 12), {"lung_left": square(2, 2, 7)})
    one, two = comparable(with_heart, without, cut=True)
    np.testing.assert_array_equal(one.masks["lung_left"], two.masks["lung_left"])
    assert one.organs == ["lung_left"]


def test_a_pair_beside_its_parts_is_not_cut_by_them() -> None:
    masks = {"lungs": np.ones((4, 6), bool), "lung_right": np.ones((4, 6), bool)}
    masks["lung_left"] = np.zeros((4, 6), bool)
    side = Annotation((6, 4), masks=masks)
    row = case_row(Case(*comparable(side, side, cut=True)))
    assert row["dice/lungs"] == row["dice/lung_right"] == 1.0

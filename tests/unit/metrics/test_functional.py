import math

import numpy as np
import pytest
import torch

from anatozoo.errors import GeometryError
from anatozoo.metrics import functional
from anatozoo.metrics.functional import (
    assd_mm,
    assd_px,
    dice,
    hausdorff_mm,
    hausdorff_px,
    iou,
    nsd,
    per_class,
    surface_distances,
)
from anatozoo.metrics.surface import as_mask, surface_points

EMPTY = np.zeros((30, 45), bool)


def box(rows: slice, columns: slice, shape: tuple[int, int] = (30, 45)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[rows, columns] = True
    return mask


A = box(slice(5, 15), slice(10, 20))
SHIFTED = box(slice(5, 15), slice(13, 23))


def test_everything_named_is_there_and_sorted() -> None:
    assert all(hasattr(functional, name) for name in functional.__all__)
    assert functional.__all__ == sorted(functional.__all__)


def test_distances_of_shifted_boxes_follow_each_axis_spacing() -> None:
    assert hausdorff_px(A, SHIFTED) == 3.0
    assert hausdorff_mm(A, SHIFTED, (0.5, 2.0)) == 1.5  # the shift is along x, the first spacing
    assert hausdorff_mm(A.T, SHIFTED.T, (0.5, 2.0)) == 6.0
    assert hausdorff_mm(A, SHIFTED, 0.35) == pytest.approx(1.05)


def test_distances_of_nested_boxes_differ_by_direction() -> None:
    large, small = box(slice(5, 25), slice(10, 40)), box(slice(10, 11), slice(15, 16))
    distances = surface_distances(small, large)
    to_reference, to_prediction = distances.mean_to_reference(), distances.mean_to_prediction()
    assert to_reference == 5.0
    assert to_prediction > 10.0
    assert hausdorff_px(small, large) == math.hypot(14, 24)
    assert hausdorff_px(small, large, percentile=0) == 5.0
    turned = surface_distances(large, small)
    assert (turned.mean_to_reference(), turned.mean_to_prediction()) == (to_prediction, to_reference)
    in_mm = distances.in_mm(2)
    assert (in_mm.mean_to_reference(), in_mm.mean_to_prediction()) == (2 * to_reference, 2 * to_prediction)


def test_tolerance_is_inclusive() -> None:
    column, other = box(slice(0, 30), slice(10, 11)), box(slice(0, 30), slice(12, 13))
    assert nsd(column, other, tolerance_px=1.999) == 0.0
    assert nsd(column, other, tolerance_px=2.0) == 1.0
    assert nsd(column, other, tolerance_mm=1.0, spacing_mm=(0.5, 7.0)) == 1.0
    assert nsd(column, other, tolerance_mm=0.999, spacing_mm=(0.5, 7.0)) == 0.0
    assert assd_px(column, other) == 2.0
    assert assd_mm(column, other, (0.5, 7.0)) == 1.0


def test_surface_of_a_full_image_is_its_border() -> None:
    points = surface_points(np.ones((6, 9), bool))
    assert len(points) == 2 * 9 + 2 * 4
    assert all(r in (0, 5) or c in (0, 8) for r, c in points)


def test_surface_has_neighbours_by_faces_only() -> None:
    cross = np.zeros((5, 5), bool)
    cross[2, 1:4] = cross[1:4, 2] = True
    assert len(surface_points(cross)) == 4  # the centre has all four face neighbours though no corner ones
    assert len(surface_points(np.ones((3, 3, 3), bool))) == 26


@pytest.mark.parametrize("pixel", [(0, 0), (29, 44), (12, 7)])
def test_single_pixels(pixel: tuple[int, int]) -> None:
    one = EMPTY.copy()
    one[pixel] = True
    other = EMPTY.copy()
    other[10, 10] = True
    expected = math.hypot(pixel[0] - 10, pixel[1] - 10)
    assert hausdorff_px(one, other) == assd_px(one, other) == expected
    assert hausdorff_px(one, one) == 0.0
    assert dice(one, one) == 1.0


def test_single_voxels_follow_the_spacing_of_their_axes() -> None:
    one, other = np.zeros((2, 9, 5, 7), bool)
    one[1, 2, 3] = other[7, 4, 6] = True
    assert hausdorff_px(one, other) == assd_px(one, other) == 7.0  # 6, 2, 3
    assert hausdorff_mm(one, other, (2.0, 3.0, 0.5)) == math.hypot(3.0, 6.0, 6.0)


def test_touching_the_border_changes_nothing_but_where_the_image_ends() -> None:
    inside, at_the_edge = box(slice(10, 20), slice(20, 30)), box(slice(10, 20), slice(35, 45))
    small = np.pad(inside, ((0, 0), (0, 7)))[:, :45]
    assert len(surface_points(inside)) == len(surface_points(at_the_edge)) == 36
    np.testing.assert_array_equal(surface_points(small), surface_points(inside))
    assert hausdorff_px(inside, at_the_edge) == 15.0


def test_both_empty_is_nan_whatever_the_policy() -> None:
    values = [hausdorff_px(EMPTY, EMPTY), hausdorff_mm(EMPTY, EMPTY, 0.5), assd_px(EMPTY, EMPTY, missing=7.0)]
    nothing = surface_distances(EMPTY, EMPTY)
    values += [nsd(EMPTY, EMPTY, tolerance_px=1.0), nothing.mean_to_reference(), nothing.mean_to_prediction()]
    assert all(math.isnan(v) for v in values)


@pytest.mark.parametrize("pair", [(A, EMPTY), (EMPTY, A)])
def test_one_empty_follows_the_policy(pair: tuple[np.ndarray, np.ndarray]) -> None:
    diagonal = math.hypot(30, 45)
    assert dice(*pair) == iou(*pair) == 0.0
    assert hausdorff_px(*pair) == assd_px(*pair) == diagonal
    assert hausdorff_mm(*pair, (2.0, 3.0)) == math.hypot(30 * 3, 45 * 2)
    assert nsd(*pair, tolerance_px=5.0) == 0.0
    assert math.isnan(hausdorff_px(*pair, missing="nan"))
    assert math.isnan(nsd(*pair, tolerance_px=5.0, missing="nan"))
    assert hausdorff_px(*pair, missing=12.5) == assd_mm(*pair, 0.1, missing=12.5) == 12.5
    distances = surface_distances(*pair)
    assert distances.mean_to_reference() == distances.mean_to_prediction() == diagonal
    assert distances.missing
    assert not distances.absent


def test_no_distance_exceeds_the_worst() -> None:
    corners = EMPTY.copy()
    corners[0, 0] = True
    opposite = EMPTY.copy()
    opposite[-1, -1] = True
    assert hausdorff_px(corners, opposite) < surface_distances(corners, opposite).worst


@pytest.mark.parametrize("spacing", [0.35, (0.35, 0.35), (0.5, 2.0)])
@pytest.mark.parametrize("pair", [(A, SHIFTED), (A, EMPTY), (EMPTY, EMPTY)])
def test_millimetres_from_pixels_are_those_measured(
    pair: tuple[np.ndarray, np.ndarray], spacing: float | tuple[float, float]
) -> None:
    in_px = surface_distances(*pair)
    in_mm, measured = in_px.in_mm(spacing), surface_distances(*pair, spacing)
    assert (in_px.unit, in_mm.unit, measured.unit) == ("px", "mm", "mm")
    for name in ("to_reference", "to_prediction", "worst"):
        np.testing.assert_allclose(getattr(in_mm, name), getattr(measured, name), rtol=1e-12)
    assert (in_mm.missing, in_mm.absent) == (measured.missing, measured.absent)
    np.testing.assert_equal(in_px.hausdorff(), surface_distances(*pair).hausdorff())  # these stay pixels


def test_square_pixels_are_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    in_px = surface_distances(A, SHIFTED)
    monkeypatch.setattr("anatozoo.metrics.surface._by_tree", None)
    monkeypatch.setattr("anatozoo.metrics.surface._by_transform", None)
    assert in_px.in_mm(0.35).hausdorff() == pytest.approx(1.05)
    with pytest.raises((TypeError, AttributeError)):
        in_px.in_mm((0.35, 0.36))


def test_tensors_lists_and_integers_are_masks_too() -> None:
    assert hausdorff_px(torch.from_numpy(A), SHIFTED.astype(np.uint8)) == 3.0
    assert hausdorff_mm(A.tolist(), torch.from_numpy(SHIFTED).bfloat16(), 2) == 6.0
    assert dice(torch.from_numpy(A).float().requires_grad_(), A.tolist()) == 1.0
    assert dice(np.asfortranarray(A), A[::1].astype(np.int16)) == 1.0


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int8, np.int64, np.float16, np.float64])
def test_masks_of_any_type_become_booleans(dtype: type) -> None:
    mask = as_mask(A.astype(dtype))
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, A)


def test_distances_of_each_class() -> None:
    labels = np.where(A, 1, 0) + np.where(box(slice(20, 25), slice(0, 5)), 2, 0)
    truth = torch.from_numpy(np.where(SHIFTED, 1, 0))
    found = per_class(hausdorff_px, labels, truth, ["lung", "heart"], percentile=100, missing=9.0)
    assert found == {"lung": 3.0, "heart": 9.0}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dice(A, A.T), "different shapes"),
        (lambda: dice(A * 2, A), "only 0 and 1"),
        (lambda: dice(A.astype(int) - 1, A), "only 0 and 1"),
        (lambda: dice(A * 0.4, A), "only 0 and 1"),
        (lambda: hausdorff_px(np.where(A, np.nan, 0), A), "only 0 and 1"),
        (lambda: dice(np.zeros((0, 4)), np.zeros((0, 4))), "no pixels"),
        (lambda: dice(A[None, None], A[None, None]), "one by one"),
        (lambda: dice(A[0], A[0]), r"\(H, W\) or \(D, H, W\)"),
        (lambda: dice(1, 1), r"\(H, W\) or \(D, H, W\)"),
        (lambda: hausdorff_mm(A, A, None), "give spacing_mm"),
        (lambda: assd_mm(A, A, None), "give spacing_mm"),
        (lambda: surface_distances(A, A).in_mm(None), "give spacing_mm"),
        (lambda: surface_distances(A, A, 0.5).in_mm(0.5), "already"),
        (lambda: hausdorff_mm(A, A, (1.0, 1.0, 1.0)), "2 positive numbers"),
        (lambda: hausdorff_mm(A, A, 0.0), "positive"),
        (lambda: hausdorff_mm(A, A, (1.0, math.nan)), "positive"),
        (lambda: hausdorff_px(A, A, percentile=101), r"0\.\.100"),
        (lambda: hausdorff_px(A, A, percentile=math.nan), r"0\.\.100"),
        (lambda: hausdorff_px(A, EMPTY, missing="zero"), "'worst', 'nan' or a number"),
        (lambda: hausdorff_px(A, A, missing="zero"), "'worst', 'nan' or a number"),
        (lambda: nsd(A, A, tolerance_px=-1.0), "at least 0"),
        (lambda: nsd(A, A, tolerance_px=math.nan), "at least 0"),
        (lambda: nsd(A, A), "one tolerance"),
        (lambda: nsd(A, A, tolerance_px=1, tolerance_mm=1, spacing_mm=1), "one tolerance"),
        (lambda: nsd(A, A, tolerance_mm=1), "give spacing_mm"),
        (lambda: nsd(A, A, tolerance_px=1, spacing_mm=1), "takes no spacing"),
    ],
)
def test_wrong_input_is_refused(call, message: str) -> None:
    with pytest.raises(GeometryError, match=message):
        call()

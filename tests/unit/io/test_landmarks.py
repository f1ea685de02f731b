import json

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anatozoo.errors import DataError, GeometryError, OutputError
from anatozoo.io.landmarks import (
    draw_label_map,
    draw_organ_mask,
    read_landmarks,
    split_landmarks,
    write_landmarks,
)
from anatozoo.organs import CHEST_ORGANS
from tests.support.phantoms import NODES, make_chest_phantom

TRIANGLE = np.array([[2.0, 1.0], [8.0, 1.0], [2.0, 7.0]])


def test_a_triangle_is_filled_with_its_boundary():
    mask = draw_organ_mask(TRIANGLE, (10, 9))
    expected = np.zeros((9, 10), bool)
    for y in range(1, 8):
        expected[y, 2 : 8 - (y - 1) + 1] = True
    np.testing.assert_array_equal(mask, expected)


def test_landmarks_are_rounded_to_the_nearest_pixel():
    np.testing.assert_array_equal(
        draw_organ_mask(TRIANGLE + 0.4, (10, 9)), draw_organ_mask(TRIANGLE, (10, 9))
    )
    assert not np.array_equal(draw_organ_mask(TRIANGLE + 0.6, (10, 9)), draw_organ_mask(TRIANGLE, (10, 9)))


@given(st.lists(st.tuples(st.integers(-30, 60), st.integers(-30, 60)), min_size=3, max_size=12))
@settings(max_examples=60)
def test_filling_equals_a_polygon_fill_for_any_shape(points):
    contour = np.array(points)
    expected = np.zeros((31, 37), np.uint8)
    cv2.fillPoly(expected, [contour.astype(np.int32)], 1)
    np.testing.assert_array_equal(draw_organ_mask(contour, (37, 31)), expected.astype(bool))


def test_later_organs_cover_earlier_ones():
    box = np.array([[0, 0], [5, 0], [5, 5], [0, 5]])
    labels = draw_label_map({"a": box, "b": box + 3, "c": box + 100}, (10, 8))
    assert labels.shape == (8, 10)
    assert labels[0, 0] == 1
    assert labels[4, 4] == 2
    assert set(np.unique(labels)) == {0, 1, 2}


def test_area_is_close_to_the_polygons_own():
    phantom = make_chest_phantom(640, 512)
    for organ, points in phantom.landmarks.items():
        x, y = points.T
        area = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
        perimeter = np.linalg.norm(points - np.roll(points, 1, axis=0), axis=1).sum()
        # Drawing the boundary adds about half a pixel all around.
        assert draw_organ_mask(points, (640, 512)).sum() == pytest.approx(area + perimeter / 2, rel=0.03), (
            organ
        )


def test_too_many_organs_for_a_byte():
    with pytest.raises(GeometryError, match="255"):
        draw_label_map({str(i): TRIANGLE for i in range(256)}, (4, 4))


@pytest.mark.parametrize("suffix", [".csv", ".json", ".npy"])
def test_every_format_leads_back(tmp_path, suffix):
    landmarks = make_chest_phantom(333, 257).landmarks
    path = write_landmarks(tmp_path / f"心 臓{suffix}", landmarks)
    again = read_landmarks(path)
    assert list(again) == list(landmarks)
    for organ, points in landmarks.items():
        np.testing.assert_allclose(again[organ], points, atol=0 if suffix == ".npy" else 5.1e-4)


def test_csv_has_millimetres_where_the_spacing_is_known(tmp_path):
    known = write_landmarks(tmp_path / "a.csv", {"heart": TRIANGLE}, (0.5, 2.0)).read_text().splitlines()
    unknown = write_landmarks(tmp_path / "b.csv", {"heart": TRIANGLE}).read_text().splitlines()
    assert known[:2] == ["organ,index,x_px,y_px,x_mm,y_mm", "heart,0,2.0,1.0,1.0,2.0"]
    assert unknown[1] == "heart,0,2.0,1.0,,"


def test_csv_rows_may_come_in_any_order(tmp_path):
    path = write_landmarks(tmp_path / "a.csv", {"heart": TRIANGLE})
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([header, *reversed(rows)]))
    np.testing.assert_array_equal(read_landmarks(path)["heart"], TRIANGLE)


def test_json_of_a_result_is_read(tmp_path):
    path = tmp_path / "r.json"
    path.write_text(json.dumps({"checkpoint": "x", "landmarks": {"heart": TRIANGLE.tolist()}}))
    np.testing.assert_array_equal(read_landmarks(path)["heart"], TRIANGLE)


@pytest.mark.parametrize(("total", "organs"), [(94, 2), (120, 3), (166, 5)])
def test_vectors_are_split_by_their_length(total, organs):
    points = np.arange(2.0 * total)
    parts = split_landmarks(points)
    assert list(parts) == list(CHEST_ORGANS)[:organs]
    np.testing.assert_array_equal(np.concatenate(list(parts.values())).ravel(), points)
    assert parts["lung_left"][0].tolist() == [88, 89]


def test_organ_table_agrees_with_the_phantom():
    assert CHEST_ORGANS == NODES


def test_vectors_of_other_organs_need_their_numbers():
    with pytest.raises(DataError, match="name the organs"):
        split_landmarks(np.zeros((7, 2)))
    assert list(split_landmarks(np.zeros((7, 2)), {"a": 3, "b": 4})) == ["a", "b"]
    with pytest.raises(DataError, match="do not divide"):
        split_landmarks(np.zeros((7, 2)), {"a": 3})
    with pytest.raises(DataError, match="must be"):
        split_landmarks(np.zeros((7, 3)))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b""),
        ("a.csv", b"organ,index,x_px,y_px\nheart,0,one,2\n"),
        ("a.csv", b"organ,x\nheart,0\n"),
        ("a.csv", b"\xff\xfe\x00"),
        ("a.json", b"{"),
        ("a.json", b"[1, 2]"),
        ("a.json", b'{"landmarks": {}}'),
        ("a.npy", b""),
        ("a.npy", b"\x93NUMPY broken"),
        ("a.txt", b"1 2"),
    ],
)
def test_files_that_hold_no_landmarks_are_refused(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=name):
        read_landmarks(path)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.csv"):
        read_landmarks(tmp_path / "gone.csv")


def test_pickles_are_never_loaded(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.array([{"x": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="allow_pickle=False"):
        read_landmarks(path)


def test_writing_refuses_what_cannot_be_read_again(tmp_path):
    with pytest.raises(GeometryError, match="finite"):
        write_landmarks(tmp_path / "a.csv", {"heart": [[0, np.inf]]})
    with pytest.raises(DataError, match=r"\.csv, \.json or \.npy"):
        write_landmarks(tmp_path / "a.xlsx", {"heart": TRIANGLE})
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        write_landmarks(tmp_path / "file" / "a.csv", {"heart": TRIANGLE})
    assert [path.name for path in tmp_path.iterdir()] == ["file"]

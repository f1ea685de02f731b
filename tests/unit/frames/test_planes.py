from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from anatozoo.frames.frame import Frame
from anatozoo.frames.planes import (
    in_one_part,
    labels_on_grid,
    largest_plane,
    organ_planes,
    to_frame,
)
from anatozoo.frames.spec import FrameSpec
from anatozoo.io.grid import Grid


def blobs(shape: tuple[int, ...], organs: int = 3, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    fields = [ndimage.gaussian_filter(draw.random(shape), 0.08 * max(shape)) for _ in range(organs + 1)]
    return np.argmax([field / field.std() for field in fields], 0).astype(np.uint8)


def frame(size: tuple[int, ...], shape: tuple[int, ...], fit: Any = "pad") -> Frame:
    return Frame.fit(Grid(size), FrameSpec(list(shape), fit))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("size", "shape", "fit"),
    [
        ((128, 128), (64, 64), "pad"),  # whole pixels
        ((100, 128), (64, 64), "pad"),
        ((101, 128), (64, 64), "pad"),  # half a pixel
        ((70, 45), (64, 64), "pad"),
        ((70, 45), (48, 64), "stretch"),
        ((30, 20), (64, 64), "pad"),  # enlarged
        ((64, 64), (64, 64), "pad"),
    ],
)
def test_shares_are_those_of_the_geometry(size: tuple[int, int], shape: tuple[int, int], fit: str) -> None:
    labels = blobs(size[::-1])
    to = frame(size, shape, fit)
    found = organ_planes(labels, 3, to)
    assert found.shape == (3, *shape)
    for value in (1, 2, 3):
        expected = to.geometry.image_to_target((labels == value).astype(np.float32))
        # Bytes on the way: within one of 255.
        np.testing.assert_allclose(found[value - 1], expected, atol=1.5 / 255)


@pytest.mark.parametrize("size", [(128, 128), (100, 128), (101, 77), (30, 20), (64, 64), (17, 90)])
def test_labels_on_the_grid_are_those_of_interpolating_every_plane(size: tuple[int, int]) -> None:
    to = frame(size, (64, 64))
    logits = np.random.default_rng(1).normal(size=(4, 64, 64)).astype(np.float32)
    smooth = ndimage.gaussian_filter(logits, (0, 4, 4)) * 30
    probability = (np.exp(smooth) / np.exp(smooth).sum(0)).astype(np.float32)
    found = labels_on_grid(probability, to)
    planes = [to.to_source(plane) for plane in probability]
    # At the frame's outermost half pixel the two continue it in different ways.
    inside = np.zeros(found.shape, bool)
    inside[2:-2, 2:-2] = True
    assert found.shape == size[::-1]
    assert np.mean((found != largest_plane(planes))[inside]) < 1e-3


def test_beyond_the_frame_is_background() -> None:
    to = Frame.fit(Grid((40, 40), (1.0, 1.0)), FrameSpec([16, 16], "spacing", [1.0, 1.0]))
    sure = np.stack([np.zeros((16, 16)), np.ones((16, 16))]).astype(np.float32)
    found = labels_on_grid(sure, to)
    rows, columns = np.nonzero(found)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (12, 27, 12, 27)


@pytest.mark.parametrize(
    ("size", "shape"),
    [((20, 24, 16), (16, 24, 20)), ((10, 12, 8), (16, 24, 20)), ((30, 36, 24), (16, 24, 20))],
)
def test_volumes_come_back(size: tuple[int, int, int], shape: tuple[int, int, int]) -> None:
    labels = np.zeros(size[::-1], np.uint8)
    labels[2:-3, 3:-3, 2 : size[0] // 2] = 1
    labels[2:-3, 3:-3, size[0] // 2 : -2] = 2
    to = frame(size, shape)
    planes = to_frame([labels == 1, labels == 2], to)
    assert planes.shape == (2, *shape)
    back = labels_on_grid(np.concatenate([1 - planes.sum(0, keepdims=True), planes]), to)
    for value in (1, 2):
        overlap = (
            2
            * ((back == value) & (labels == value)).sum()
            / ((back == value).sum() + (labels == value).sum())
        )
        assert overlap > (0.99 if size == (20, 24, 16) else 0.85)


def test_a_turned_volume_is_turned_back() -> None:
    labels = blobs((8, 12, 10), 2)
    turned = Grid((10, 12, 8), (1.0, 1.0, 1.0), direction=(-1, 0, 0, 0, -1, 0, 0, 0, 1))
    straight = Grid((10, 12, 8), (1.0, 1.0, 1.0))
    frames = [
        Frame.fit(grid, FrameSpec([8, 12, 10], "spacing", [1.0, 1.0, 1.0])) for grid in (straight, turned)
    ]
    a, b = (organ_planes(labels, 2, f) for f in frames)
    np.testing.assert_allclose(a, b[:, :, ::-1, ::-1], atol=1e-6)
    whole = np.concatenate([1 - b.sum(0, keepdims=True), b])
    assert np.array_equal(labels_on_grid(whole, frames[1]), labels)


def test_the_first_of_equal_planes_wins() -> None:
    planes = np.array([[0.2, 0.5, 0.1], [0.2, 0.5, 0.3], [0.6, 0.5, 0.3]], np.float32)
    assert largest_plane(list(planes)).tolist() == [2, 0, 1]


def shares(labels: np.ndarray, organs: int = 3) -> np.ndarray:
    """Nearly certain probabilities, so that there is a second most probable label everywhere."""
    hard = np.stack([labels == value for value in range(organs + 1)]).astype(np.float32)
    draw = np.random.default_rng(0).uniform(0, 0.1, hard.shape).astype(np.float32)
    return hard + draw


@pytest.mark.parametrize("shape", [(40, 50), (20, 24, 30)])
def test_what_lies_apart_from_an_organ_goes_to_the_next_most_probable_label(shape: tuple[int, ...]) -> None:
    labels = np.zeros(shape, np.uint8)
    first = tuple(slice(2, 12) for _ in shape)
    labels[first] = 1
    stray = tuple(slice(15, 17) for _ in shape)
    labels[stray] = 1
    given = shares(labels)
    given[(2, *stray)] = 0.5
    before = given.copy()
    found = largest_plane(list(in_one_part(given, [(1, []), (2, []), (3, [])])))
    assert np.array_equal(given, before)
    expected = labels.copy()
    expected[stray] = 2
    assert np.array_equal(found, expected)
    # An organ that is not named may be in as many parts as it likes, and nothing is copied.
    assert in_one_part(given, [(2, []), (3, [])]) is given
    assert in_one_part(given, []) is given


def test_parts_that_hang_together_behind_another_organ_are_one() -> None:
    labels = np.zeros((40, 40), np.uint8)
    labels[5:35, 5:20] = 1
    labels[12:14] = 2  # crosses the organ and cuts off its top
    given = shares(labels, 2)
    assert in_one_part(given, [(1, [2]), (2, [])]) is given
    alone = largest_plane(list(in_one_part(given, [(1, [])])))
    assert not (alone[:12] == 1).any()
    assert np.array_equal(alone[12:], labels[12:])


def test_between_the_cells_of_the_frame_nothing_comes_back() -> None:
    labels = np.zeros((64, 64), np.uint8)
    labels[10:40, 10:30] = 1
    labels[50:53, 50:53] = 1
    given = shares(labels, 1)
    to = frame((300, 300), (64, 64))
    assert ndimage.label(labels_on_grid(given, to) == 1)[1] > 1
    assert ndimage.label(labels_on_grid(in_one_part(given, [(1, [])]), to) == 1)[1] == 1

import matplotlib.pyplot as plt
import numpy as np
import pytest

from anatozoo.io.annotation import Annotation
from anatozoo.metrics.cases import Case
from anatozoo.results.draw.cases import (
    LONGEST_SIDE,
    PREDICTION,
    REFERENCE,
    CasePicture,
    case_picture,
    draw_cases,
)

# Machado, Oliveira & Fernandes, "A physiologically-based model for simulation of color vision deficiency",
# 2009: complete deficiencies, on linear red, green and blue.
DEFICIENCIES = {
    "none": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])


def square(size: tuple[int, int], left: int, top: int, right: int, bottom: int) -> np.ndarray:
    mask = np.zeros(size[::-1], bool)
    mask[top:bottom, left:right] = True
    return mask


def bounds(lines: list[np.ndarray]) -> list[float]:
    points = np.concatenate(lines)
    return [*points.min(0), *points.max(0)]


def lit(picture: CasePicture) -> list[int]:
    rows, columns = np.nonzero(picture.image > 127)
    return [columns.min(), rows.min(), columns.max(), rows.max()]


@pytest.mark.parametrize("side", [32, 64, 128])
def test_contours_of_masks_and_of_landmarks_lie_on_the_image_whatever_its_resolution(side: int) -> None:
    # The image at the network's resolution, the annotations in a frame of their own.
    size = (64, 48)
    mask = square(size, 16, 8, 48, 40)
    corners = np.array([[15.5, 7.5], [47.5, 7.5], [47.5, 39.5], [15.5, 39.5]])
    image = square((side, side * 3 // 4), side // 4, side // 8, side * 3 // 4, side * 5 // 8).astype(float)
    case = Case(Annotation(size, {"a": corners}), Annotation(size, masks={"a": mask}), image)
    picture = case_picture(case)
    scale = LONGEST_SIDE / 64
    assert picture.image.shape == (LONGEST_SIDE * 3 // 4, LONGEST_SIDE)
    expected = np.array([16, 8, 48, 40]) * scale - 0.5
    # Landmarks are on the edge; a mask's line goes through the centres of its outermost pixels.
    np.testing.assert_allclose(bounds(picture.prediction), expected, atol=1e-3)
    np.testing.assert_allclose(
        bounds(picture.reference), expected + np.array([1, 1, -1, -1]) * scale / 2, atol=1e-3
    )
    np.testing.assert_allclose(lit(picture), expected, atol=LONGEST_SIDE / side)


def test_of_a_volume_the_slice_with_the_most_is_drawn() -> None:
    size = (20, 16, 6)
    mask = np.zeros(size[::-1], bool)
    mask[1, 4:6, 4:6], mask[4, 2:12, 2:12] = True, True
    image = np.zeros((12, 16, 20))  # twice as many slices
    image[8:10, 2:12, 2:12] = 1
    reference = Annotation(size, masks={"a": mask}, spacing_mm=(1.0, 2.0, 5.0))
    picture = case_picture(Case(Annotation(size, masks={"a": np.roll(mask, 1, 2)}), reference, image))
    # 20 x 16 pixels of 1 x 2 mm are 20 x 32 mm.
    assert picture.image.shape == (LONGEST_SIDE, LONGEST_SIDE * 20 // 32)
    scale = np.array([15, 30, 15, 30])
    np.testing.assert_allclose(
        bounds(picture.reference), (np.array([2, 2, 11, 11]) + 0.5) * scale - 0.5, atol=1e-3
    )
    np.testing.assert_allclose(
        np.subtract(bounds(picture.prediction), bounds(picture.reference)), [15, 0, 15, 0], atol=1e-3
    )
    assert lit(picture)[1] == pytest.approx(2 * 30, abs=16)
    empty = Annotation(size, masks={"a": np.zeros_like(mask)})
    assert case_picture(Case(empty, empty, image)).reference == []


def test_organs_of_one_side_alone_are_not_drawn_and_an_image_may_be_absent() -> None:
    size = (10, 10)
    here = Annotation(size, masks={"a": square(size, 1, 1, 3, 3), "b": square(size, 5, 5, 9, 9)})
    there = Annotation(size, masks={"b": square(size, 5, 5, 9, 9), "c": square(size, 0, 0, 9, 9)})
    picture = case_picture(Case(here, there))
    assert len(picture.prediction) == len(picture.reference) == 1
    assert bounds(picture.prediction) == bounds(picture.reference)
    assert not picture.image.any()


def panel() -> CasePicture:
    size = (32, 32)
    here, there = (Annotation(size, masks={"a": square(size, left, 8, 24, 24)}) for left in (8, 10))
    return case_picture(Case(here, there, np.random.default_rng(0).random((32, 32))))


def test_rows_of_cases_with_their_names_and_scores() -> None:
    cases = [(f"case{i}", f"dice 0.{i}", panel()) for i in range(3)]
    figure = draw_cases({"worst": cases, "best": cases[:1]})
    titles = [ax.get_title() for ax in figure.axes]
    assert titles == ["case0\ndice 0.0", "case1\ndice 0.1", "case2\ndice 0.2", "case0\ndice 0.0", "", ""]
    assert [ax.texts[0].get_text() for ax in (figure.axes[0], figure.axes[3])] == ["worst", "best"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["reference", "prediction"]
    # The prediction lies on top, and thinner, so that both show where they agree.
    first, second = figure.axes[0].lines
    assert first.get_linewidth() > 2 * second.get_linewidth()
    np.testing.assert_allclose(np.array(first.get_color()) * 255, REFERENCE)
    assert plt.get_fignums() == []
    figure.savefig("/dev/null", format="png")


def test_an_empty_row_and_a_long_name_fit() -> None:
    figure = draw_cases({"worst": [("x" * 100, "mse_px2 1.0", panel())], "best": []})
    assert len(figure.axes) == 1
    assert len(figure.axes[0].get_title().split("\n")[0]) <= 34


@pytest.mark.parametrize("deficiency", list(DEFICIENCIES))
def test_the_two_sides_can_be_told_apart_by_everybody(deficiency: str) -> None:
    linear = (np.array([REFERENCE, PREDICTION]) / 255) ** 2.2
    seen = np.clip(linear @ np.array(DEFICIENCIES[deficiency]).T, 0, 1)
    assert np.abs(np.diff(seen ** (1 / 2.2), axis=0)).max() > 0.4
    low, high = sorted(seen @ LUMINANCE)
    # In grey, too.
    assert (high + 0.05) / (low + 0.05) > 1.7

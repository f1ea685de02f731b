import numpy as np
import pytest

from anatozoo.io import intensity
from anatozoo.results.draw.style import (
    ORGAN_COLORS,
    display_grey,
    display_name,
    label_palette,
    mask_outlines,
    organ_colors,
    stretched,
)


def test_palette_gives_labels_their_organs_colours():
    assert label_palette(["heart", "lung_left"]) == [
        0,
        0,
        0,
        *ORGAN_COLORS["heart"],
        *ORGAN_COLORS["lung_left"],
    ]


def test_organs_without_a_colour_get_one_each():
    colors = organ_colors(["left_ventricle", "heart", "myocardium"])
    assert colors["heart"] == ORGAN_COLORS["heart"]
    assert len(set(colors.values())) == 3


@pytest.mark.parametrize(
    ("organ", "words"),
    [
        ("lung_right", "Right lung"),
        ("heart", "Heart"),
        ("left_ventricle", "Left ventricle"),
        ("aorta_arch", "Aorta arch"),
    ],
)
def test_display_name(organ, words):
    assert display_name(organ) == words


def test_grey_levels_keep_their_order_and_bright_images_become_darker():
    ramp = np.linspace(0, 1, 10000, dtype=np.float32).reshape(100, 100)
    grey = display_grey(ramp).ravel().astype(int)
    assert (np.diff(grey) >= 0).all()
    assert grey[0] == 0
    assert grey[-1] == 255
    assert np.median(display_grey(ramp**0.6)) == pytest.approx(127, abs=3)


def test_constant_pixels_can_be_shown():
    assert (display_grey(np.full((4, 5), 7.0)) == 64).all()


def test_outlines_go_round_every_part_and_hole():
    mask = np.zeros((12, 14), bool)
    mask[1:9, 2:10] = True
    mask[4:6, 5:7] = False
    mask[10, 12] = True
    lines = sorted(mask_outlines(mask), key=len)
    assert [len(line) for line in lines] == [1, 8, 28]
    np.testing.assert_array_equal(lines[0], [[12, 10]])
    np.testing.assert_array_equal([lines[2].min(axis=0), lines[2].max(axis=0)], [[2, 1], [9, 8]])
    assert mask_outlines(np.zeros((4, 5), bool)) == []


def test_grey_levels_are_stretched_and_constant_planes_become_black():
    ramp = np.linspace(-5, 20, 400).reshape(20, 20)
    assert (stretched(ramp).min(), stretched(ramp).max()) == (0, 1)
    assert not stretched(np.full((3, 4), 7.0)).any()


@pytest.mark.parametrize("top", [3, 255, 4095])
def test_levels_that_are_looked_up_are_those_that_are_computed(top, monkeypatch):
    rng = np.random.default_rng(top)
    for shape in ((30, 41), (31, 41)):
        pixels = np.rint(top * rng.random(shape) ** 0.3).astype(np.float32)
        looked_up = display_grey(pixels)
        with monkeypatch.context() as patch:
            patch.setattr(intensity, "whole_levels", lambda *given: None)
            np.testing.assert_array_equal(looked_up, display_grey(pixels))

import io
import itertools
import sys

import cv2
import numpy as np
import pytest
from PIL import Image as PILImage

from anatozoo.io.landmarks import draw_label_map
from anatozoo.results.contours import ContourResult
from anatozoo.results.draw.segmentation import draw_overlay, png_bytes
from anatozoo.results.draw.style import ORGAN_COLORS, display_name
from anatozoo.results.labels import LabelResult
from tests.support.phantoms import make_chest_phantom


def make(width=240, height=256, **changes):
    phantom = make_chest_phantom(width, height)
    values = {
        "checkpoint": "fake",
        "version": "1.0.0",
        "image": "a.png",
        "size": (width, height),
        "spacing_mm": None,
        "flags": (),
        "pixels": phantom.image.astype(np.float32),
    }
    if "label_map" not in changes:
        values["landmarks"] = phantom.landmarks
    return (LabelResult if "label_map" in changes else ContourResult)(**(values | changes))


def legend_rows(picture, height):
    return picture.shape[0] - height


@pytest.mark.parametrize(
    ("size", "drawn"),
    [
        ((240, 256), (938, 1000)),
        ((3000, 2000), (1400, 933)),
        ((1200, 1000), (1200, 1000)),
        ((60, 1100), (60, 1100)),
    ],
)
def test_overlay_has_a_bounded_size_and_a_legend_below(size, drawn):
    picture = draw_overlay(make(*size))
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    assert picture.shape[1] >= drawn[0]
    assert 0 < legend_rows(picture, drawn[1]) < drawn[1] / 2
    assert max(picture.shape) <= 1600


def test_overlay_colours_each_organ_where_it_is():
    result = make()
    with_organs = draw_overlay(result).astype(int)
    scale = 1000 / 256
    for organ in ("lung_right", "lung_left", "heart"):
        x, y = (result.landmarks[organ].mean(axis=0) - (0, 8)) * scale  # off the lines of the widths
        pixel = with_organs[round(y), round(x)]
        # A translucent fill pulls grey towards the colour of the organ: the channels keep their order.
        color = np.array(ORGAN_COLORS[organ])
        assert np.ptp(pixel) > 10
        assert np.argmax(pixel) == np.argmax(color)
        assert np.argmin(pixel) == np.argmin(color)
    corner = with_organs[5, 5]
    assert np.ptp(corner) == 0


def test_contours_lie_on_the_landmarks():
    points = np.array([[20.0, 20.0], [99.0, 20.0], [99.0, 79.0], [20.0, 79.0]])
    result = make(120, 100, landmarks={"heart": points}, pixels=None)
    picture = draw_overlay(result).astype(int)
    scale = 1000 / 120
    strong = np.argwhere(np.abs(picture[:833] - ORGAN_COLORS["heart"]).sum(axis=2) < 30)
    top, left = strong.min(axis=0)
    bottom, right = strong.max(axis=0)
    centre = [(left + right) / 2, (top + bottom) / 2]
    np.testing.assert_allclose(centre, (points.mean(axis=0) + 0.5) * scale - 0.5, atol=1)
    assert right - left == pytest.approx(79 * scale, abs=4)


def test_flags_make_the_legend_show_more():
    plain = draw_overlay(make())
    flagged = draw_overlay(make(flags=("lateral_view",)))
    assert plain.shape == flagged.shape
    changed = np.any(plain != flagged, axis=2)
    assert changed[1000:].any()
    assert not changed[:1000].any()


def test_many_flags_and_unknown_organs_wrap():
    flags = tuple(f"remark_number_{i}" for i in range(12))
    picture = draw_overlay(make(flags=flags))
    assert legend_rows(picture, 1000) > legend_rows(draw_overlay(make()), 1000)


def test_landmarks_far_outside_do_not_stop_the_drawing():
    wild = {"heart": np.array([[-1e9, 0.0], [1e9, 0.0], [0.0, 1e9]])}
    assert draw_overlay(make(landmarks=wild)).shape[1] == 938


def test_png_bytes_are_lossless():
    picture = draw_overlay(make())
    decoded = cv2.imdecode(np.frombuffer(png_bytes(picture), np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(decoded[:, :, ::-1], picture)


def test_plot_leaves_nothing_open_and_shows_every_organ(tmp_path):
    result = make(flags=("lateral_view",))
    before = sys.modules.get("matplotlib.pyplot")
    figure = result.plot()
    if before is None:
        assert "matplotlib.pyplot" not in sys.modules
    else:
        assert before.get_fignums() == []
    (ax,) = figure.axes
    assert {line.get_label() for line in ax.lines} == {display_name(organ) for organ in result.organs}
    assert ax.get_title() == "lateral view"
    assert ax.get_xlim() == (-0.5, 239.5)
    assert ax.get_ylim() == (255.5, -0.5)
    figure.savefig(tmp_path / "plot.png", dpi=40)
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_plot_draws_on_given_axes():
    from matplotlib.figure import Figure

    figure = Figure()
    first, second = figure.subplots(1, 2)
    assert make(pixels=None).plot(second) is figure
    assert not first.lines
    assert len(second.lines) == 5


def labelled(**changes):
    """The phantom's organs as a label map; the heart has a hole, and a part of the lung lies apart."""
    phantom = make_chest_phantom(240, 256)
    classes = [organ for organ in phantom.landmarks if organ != "clavicle_left"]
    labels = draw_label_map({organ: phantom.landmarks[organ] for organ in classes}, (240, 256))
    labels[155:165, 130:140] = 0
    labels[240:250, 20:30] = classes.index("lung_right") + 1
    values = {"label_map": labels, "classes": [*classes, "clavicle_left"]}
    return make(**(values | changes))


def test_outlines_of_a_label_map_follow_every_part_and_hole():
    lines = labelled().outlines()
    assert {organ: len(each) for organ, each in lines.items()} == {
        "lung_right": 3,  # its tip lies beyond the clavicle
        "lung_left": 1,
        "heart": 2,
        "clavicle_right": 1,
        "clavicle_left": 0,
    }
    part = next(line for line in lines["lung_right"] if line[:, 1].min() >= 240)
    np.testing.assert_array_equal([part.min(axis=0), part.max(axis=0)], [[20, 240], [29, 249]])


def test_outlines_of_landmarks_are_the_landmarks():
    result = make()
    assert all(np.array_equal(line, result.landmarks[o]) for o, [line] in result.outlines().items())


def test_overlay_of_a_label_map_colours_organs_and_leaves_holes_open():
    picture = draw_overlay(labelled(pixels=None)).astype(int)
    scale = 1000 / 256
    heart = picture[round(170 * scale), round(135 * scale)]
    assert np.argmax(heart) == np.argmax(ORGAN_COLORS["heart"])
    assert np.ptp(heart) > 10
    assert np.ptp(picture[round(160 * scale), round(135 * scale)]) == 0  # in the hole
    assert np.ptp(picture[round(245 * scale), round(25 * scale)]) > 10  # in the part that lies apart


def test_plot_of_a_label_map_names_every_organ_once(tmp_path):
    result = labelled()
    (ax,) = result.plot().axes
    assert [line.get_label() for line in ax.lines] == [display_name(organ) for organ in result.organs]
    assert len(ax.patches) == 4  # the left clavicle has no pixel
    [heart] = [line for line in ax.lines if line.get_label() == "Heart"]
    x = heart.get_xdata()[np.isfinite(heart.get_xdata())]
    assert (x.min(), x.max()) == tuple(np.flatnonzero(result.masks["heart"].any(axis=0))[[0, -1]])


def test_bands_are_drawn_around_contours_with_their_width():
    plain = make()
    sigma = {organ: np.zeros_like(points) for organ, points in plain.landmarks.items()}
    sigma["heart"] = np.full_like(sigma["heart"], 4.0)
    result = make(sigma=sigma, samples=50)
    without, with_bands = (draw_overlay(each)[:1000].astype(int) for each in (plain, result))
    changed = np.argwhere(np.abs(without - with_bands).max(-1) > 8)[:, ::-1] * 256 / 1000
    heart = np.concatenate([plain.landmarks["heart"], plain.landmarks["heart"][:1]])
    steps = np.concatenate([np.linspace(a, b, 20) for a, b in itertools.pairwise(heart)])
    away = np.linalg.norm(changed[:, None] - steps, axis=-1).min(1)
    # Two standard deviations of 4 pixels to either side; corners reach a little further.
    assert 7 < away.max() < 11
    assert len(changed) > 5000
    figure = result.plot()
    assert len(figure.axes[0].patches) == len(plain.plot().axes[0].patches) + len(sigma)


def test_widths_of_heart_and_thorax_are_drawn_where_they_are():
    lines = make().cardiothoracic_lines
    bare, scale = make(pixels=None), 1000 / 256
    picture = draw_overlay(bare).astype(int)
    row = picture[round((lines.thorax[0][1] + 0.5) * scale - 0.5)]
    white = np.flatnonzero((row > 235).all(axis=1))
    ends = [(x + 0.5) * scale - 0.5 for x, _ in lines.thorax]
    assert white.min() == pytest.approx(ends[0], abs=2)
    assert white.max() == pytest.approx(ends[1], abs=2)
    (ax,) = bare.plot().axes
    segments = [segment for each in ax.collections for segment in each.get_segments()]
    for line in (lines.heart, lines.thorax):
        assert any(np.allclose(segment, line) for segment in segments)
    assert [text.get_text() for text in ax.texts] == [f"CTR {lines.ratio:.2f}"]
    alone = {organ: points for organ, points in bare.landmarks.items() if organ != "heart"}
    (ax,) = make(landmarks=alone, pixels=None).plot().axes
    assert not ax.texts
    assert not ax.collections


@pytest.mark.parametrize("shape", [(1, 1, 3), (7, 5, 3), (64, 33, 3)])
def test_a_png_reads_back_as_the_picture(shape):
    picture = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    read = PILImage.open(io.BytesIO(png_bytes(picture)))
    assert read.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(read), picture)

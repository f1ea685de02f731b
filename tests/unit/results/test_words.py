"""Results in a terminal and in a notebook: short, escaped, with their numbers."""

import re
from typing import Any

import numpy as np
import pytest

from anatozoo.io.grid import Grid
from anatozoo.metrics.measurements import Measurement
from anatozoo.results.contours import ContourResult
from anatozoo.results.labels import LabelResult
from anatozoo.results.repair import RepairResult
from anatozoo.results.restored import RestoredVolume
from anatozoo.results.volume import VolumeResult
from tests.support.phantoms import make_chest_phantom

HOSTILE = "out/<img src=x onerror=alert(1)>\x1b[31m\n\u202e" + "long" * 60 + ".png"


def contours(image: str = "in/a.png", spacing: Any = (0.5, 0.5), **more: Any) -> ContourResult:
    phantom = make_chest_phantom(60, 70)
    return ContourResult("chest-x", "1.2.0", image, (60, 70), spacing, phantom.landmarks, **more)


def results() -> list[Any]:
    labels = np.zeros((5, 24, 20), np.uint8)
    labels[1:3, 4:9, 4:9] = 1
    grid = Grid((20, 24, 5), (1.0, 1.5, 8.0))
    many = tuple(f"an_organ_with_a_long_name_{i}" for i in range(200))
    thick = labels.astype(np.float32)
    options = {"size": (20, 24), "spacing_mm": None, "flags": tuple(f"flag_{i}" for i in range(50))}
    return [
        contours(HOSTILE),
        LabelResult("c", "1", HOSTILE, label_map=labels[1], classes=many, **options),
        VolumeResult("c", "1", "v.nii.gz", grid, ("left_ventricle",), labels),
        RepairResult("c", "1", "m.png", grid, ("heart",), labels, labels),
        RestoredVolume("c", "1", "v.nii.gz", grid, thick, thick[:1].copy()),
    ]


@pytest.mark.parametrize("result", results(), ids=lambda each: type(each).__name__)
def test_a_result_fits_five_lines(result: Any) -> None:
    text = repr(result)
    lines = text.splitlines()
    assert len(lines) <= 5
    assert max(map(len, lines)) <= 113
    assert text.replace("\n", "").isprintable()
    assert lines[0].startswith(type(result).__name__)


def test_what_a_result_says() -> None:
    lines = repr(contours(flags=("lateral_view",))).splitlines()
    assert lines[0] == "ContourResult 'a.png' by chest-x 1.2.0"
    assert lines[1] == "  60 x 70 px of 0.5 x 0.5 mm"
    assert re.search(r"heart area [0-9.]+ mm2; .*cardiothoracic ratio 0\.[0-9]{3};", " ".join(lines[2:4]))
    assert lines[4] == "  flags: lateral_view"
    assert "spacing unknown" in repr(contours(spacing=None))


def test_a_notebook_shows_picture_and_numbers_escaped() -> None:
    result = contours(HOSTILE, flags=("<b>",))
    text = result._repr_html_()
    assert 'src="data:image/png;base64,iVBOR' in text
    assert "<img src=x" not in text
    assert "&lt;img src=x" in text
    assert "flags: &lt;b&gt;" in text
    assert "\x1b" not in text
    assert text.count("<tr>") == 1 + len(result.measurements)
    for each in result.measurements:
        assert f">{each.text}</td>" in text
    # Whatever the page's colours are: nothing is written in a colour of its own, on none of its own.
    assert set(re.findall(r"(?<!-)color: ([^;]+);", text)) == {"inherit"}


def test_units_are_those_that_are_known() -> None:
    names = {(m.name, m.unit) for m in contours().measurements}
    assert names == {("area", "mm2"), ("cardiothoracic_ratio", "1"), ("width", "mm")}
    known, unknown = contours(), contours(spacing=None)
    assert {m.unit for m in unknown.measurements} == {"px", "px2", "1"}
    for a, b in zip(known.measurements, unknown.measurements, strict=True):
        assert a.value == pytest.approx(b.value * {"mm2": 0.25, "mm": 0.5, "1": 1}[a.unit])
    assert known.to_dict()["measurements"] == [m.to_dict() for m in known.measurements]
    sigma = {organ: np.full(points.shape, 2.0) for organ, points in known.landmarks.items()}
    sampled = contours(sigma=sigma, samples=50).measurements
    assert Measurement("sigma", "heart", 1.0, "mm") in sampled
    assert Measurement("x", "", 12345678.25, "px").text == "12345678.25"

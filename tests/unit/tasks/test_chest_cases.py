from dataclasses import replace

import numpy as np
import pytest

from anatozoo.data.case import Drawn
from anatozoo.io.grid import Grid
from anatozoo.metrics.cases import Measures, case_row
from anatozoo.metrics.chest import draw_masks
from anatozoo.results.contours import ContourResult
from anatozoo.results.labels import LabelResult
from anatozoo.tasks.chest_cases import case_sides, compared
from anatozoo.tasks.trials import Conditions
from tests.support.phantoms import make_chest_phantom


def label_result(size: tuple[int, int]) -> LabelResult:
    """What a model that labels pixels says of a phantom: lungs under one label, cut by the heart."""
    masks = draw_masks(make_chest_phantom(*size).landmarks, size, size)
    labels = (masks["lung_right"] | masks["lung_left"]).astype(np.uint8)
    labels[masks["heart"]] = 2
    return LabelResult("unet", "1", "x", size, None, labels, ("lungs", "heart"))


def drawn_chest(size: tuple[int, int]) -> Drawn:
    return Drawn(Grid(size, (0.175, 0.175)), make_chest_phantom(*size).landmarks)


def test_label_maps_meet_landmarks_on_the_image() -> None:
    case, result = drawn_chest((256, 256)), label_result((256, 256))
    prediction, reference = case_sides(case, result, None)
    assert prediction.size == reference.size == (256, 256)
    assert prediction.spacing_mm == (0.175, 0.175)
    how = Conditions(Measures(rounding="nearest"))
    uncut, cut = (
        case_row(compared(case, result, each), each.measures) for each in (how, replace(how, exclusive=True))
    )
    assert uncut["dice/heart"] == cut["dice/heart"] == 1.0
    # The heart lies over a part of the lungs, which a label map takes from them.
    assert 0.85 < uncut["dice/lungs"] < 0.99
    assert cut["dice/lungs"] == 1.0
    assert cut["hd_mm/lungs"] == 0.0 < uncut["hd_mm/lungs"]
    assert "mse_px2" not in uncut
    assert "dice/lung_right" not in uncut


def test_spacing_is_that_of_the_frame_or_the_case() -> None:
    case = drawn_chest((512, 512))
    assert case_sides(case, label_result((512, 512)), 0.35)[0].spacing_mm == (0.7, 0.7)
    points = ContourResult("m", "1", "x", (512, 512), None, dict(case.landmarks))
    assert case_sides(case, points, None)[1].spacing_mm == pytest.approx((0.0875, 0.0875))
    assert case_sides(case, points, 0.35)[1].spacing_mm == (0.35, 0.35)


def test_an_outline_that_a_person_drew_is_compared_as_a_mask() -> None:
    full = drawn_chest((256, 256))
    loose = Drawn(full.grid, {"heart": full.landmarks["heart"][::2]}, free=frozenset({"heart"}))
    points = ContourResult("m", "1", "x", (256, 256), None, dict(full.landmarks))
    for result in (points, label_result((256, 256))):
        row = case_row(compared(loose, result, Conditions()))
        assert row["dice/heart"] > 0.97
        assert "mse_px2" not in row

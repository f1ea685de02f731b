import numpy as np
import pytest

from anatozoo.io.chest import ChestCase
from anatozoo.metrics.cases import Measures
from anatozoo.metrics.chest import draw_masks
from anatozoo.results.contours import ContourResult
from anatozoo.results.labels import LabelResult
from anatozoo.tasks.chest_cases import case_metrics, case_sides
from tests.support.phantoms import make_chest_phantom


def label_result(size: tuple[int, int]) -> LabelResult:
    """What a model that labels pixels says of a phantom: lungs under one label, cut by the heart."""
    masks = draw_masks(make_chest_phantom(*size).landmarks, size, size)
    labels = (masks["lung_right"] | masks["lung_left"]).astype(np.uint8)
    labels[masks["heart"]] = 2
    return LabelResult("unet", "1", "x", size, None, labels, ("lungs", "heart"))


def chest_case(size: tuple[int, int]) -> ChestCase:
    landmarks = make_chest_phantom(*size).landmarks
    return ChestCase("x", None, size, landmarks, {}, None, "x", spacing_mm=(0.175, 0.175))


def test_label_maps_meet_landmarks_on_the_image() -> None:
    case, result = chest_case((256, 256)), label_result((256, 256))
    prediction, reference = case_sides(case, result, None)
    assert prediction.size == reference.size == (256, 256)
    assert prediction.spacing_mm == (0.175, 0.175)
    uncut = case_metrics(case, result, None, Measures(rounding="nearest"))
    cut = case_metrics(case, result, None, Measures(rounding="nearest"), cut=True)
    assert uncut["dice/heart"] == cut["dice/heart"] == 1.0
    # The heart lies over a part of the lungs, which a label map takes from them.
    assert 0.85 < uncut["dice/lungs"] < 0.99
    assert cut["dice/lungs"] == 1.0
    assert cut["hd_mm/lungs"] == 0.0 < uncut["hd_mm/lungs"]
    assert "mse_px2" not in uncut
    assert "dice/lung_right" not in uncut


def test_spacing_is_that_of_the_frame_or_the_case() -> None:
    case = chest_case((512, 512))
    assert case_sides(case, label_result((512, 512)), 0.35)[0].spacing_mm == (0.7, 0.7)
    points = ContourResult("m", "1", "x", (512, 512), None, dict(case.landmarks))
    assert case_sides(case, points, None)[1].spacing_mm == pytest.approx((0.0875, 0.0875))
    assert case_sides(case, points, 0.35)[1].spacing_mm == (0.35, 0.35)

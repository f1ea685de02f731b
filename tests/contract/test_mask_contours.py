"""Methods that find landmarks take masks of any size and of some organs, and answer on their grid."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from anatozoo.errors import AnatozooError
from anatozoo.io.grid import Grid
from anatozoo.io.organ_masks import OrganMasks
from anatozoo.results.mask_contours import MaskContourResult
from anatozoo.tasks.mask_contours import FILLED
from anatozoo.zoo.golden import run_golden, write_golden
from tests.contract.trials import build
from tests.contract.variants import Variant, of

SIZES = [(64, 64), (61, 97), (200, 33), (16, 40)]


def label_map(module: Any, size: tuple[int, int]) -> np.ndarray:
    """A rectangle for each organ, side by side."""
    width, height = size
    labels = np.zeros((height, width), np.uint8)
    edges = np.linspace(0, width, len(module.organs) + 1).astype(int)
    for value, (left, right) in enumerate(pairwise(edges), start=1):
        labels[height // 4 : -(height // 4), left : max(right - 1, left + 1)] = value
    return labels


@of("mask-contours")
def test_results_lie_on_the_source_grid(method: str, variant: Variant) -> None:
    module = build(method, variant)
    given = [label_map(module, size) for size in SIZES]
    results = list(module.predict_batch(given, batch_size=2, spacing_mm=0.5))
    for size, mask, result in zip(SIZES, given, results, strict=True):
        assert isinstance(result, MaskContourResult)
        assert (result.size, result.spacing_mm) == (size, (0.5, 0.5))
        assert {organ: len(points) for organ, points in result.landmarks.items()} == module.organs
        assert list(result.organs) == list(module.organs)
        assert list(result.dice) == list(module.organs)
        json.dumps(result.to_dict(), allow_nan=False)
        alone = module.predict(mask)
        for organ, points in result.landmarks.items():
            np.testing.assert_allclose(alone.landmarks[organ], points, atol=2e-3)


@of("mask-contours")
def test_the_middle_of_the_frame_is_the_middle_of_what_the_mask_shows(
    method: str, variant: Variant, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = build(method, variant)
    centre = torch.full((1, sum(module.organs.values()), 2), (module.side - 1) / 2 / module.side)
    monkeypatch.setattr(module, "forward_landmarks", lambda x: centre.expand(len(x), -1, -1))
    labels = label_map(module, (101, 60))
    rows, columns = np.nonzero(labels)
    middle = (columns.min() + columns.max()) / 2, (rows.min() + rows.max()) / 2
    result = module.predict(labels)
    for points in result.landmarks.values():
        np.testing.assert_allclose(points, np.tile(middle, (len(points), 1)), atol=1e-4)


@of("mask-contours")
def test_organs_that_a_mask_does_not_show_are_no_landmarks(method: str, variant: Variant) -> None:
    module = build(method, variant)
    first, *others = module.organs
    mask = np.zeros((40, 50), bool)
    mask[10:30, 10:30] = True
    result = module.predict(mask.astype(np.uint8), classes=[first])
    assert list(result.landmarks) == [first]
    assert list(result.guessed) == others
    assert {f"unseen_{organ}" for organ in others} == {f for f in result.flags if f.startswith("unseen")}
    assert set(np.unique(result.mask)) <= {0, 1}
    with pytest.raises(AnatozooError, match="is empty"):
        module.predict(np.zeros((40, 50), np.uint8))


@of("mask-contours")
def test_planes_say_how_much_of_a_pixel_an_organ_covers(
    method: str, variant: Variant, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = build(method, variant)
    seen = []
    right = module.forward_landmarks
    monkeypatch.setattr(module, "forward_landmarks", lambda x: (seen.append(x), right(x))[1])
    organ, *_ = module.organs
    # Two pixels of the mask are one of the frame, of which the longer side fills a part.
    assert module.side == 64
    width, height = round(2 * FILLED * 64), 61
    mask = np.zeros((300, 200), bool)
    mask[200 : 200 + height, 20 : 20 + width] = True
    module.predict(OrganMasks({organ: mask}, Grid(mask.shape[::-1])))
    [planes] = seen[0]
    left, top = (64 - width / 2) / 2, (64 - height / 2) / 2
    assert left == 8
    assert float(planes[0, 17:47, 8:56].min()) == pytest.approx(1, abs=0.01)
    assert float(planes[0, :, :8].max()) == float(planes[0, :, 56:].max()) == 0
    assert float(planes[0, int(top), 30]) == pytest.approx(1 - top % 1, abs=0.01)
    assert float(planes.sum()) == pytest.approx(height * width / 4, rel=0.01)


@of("mask-contours")
def test_a_golden_file_repeats_the_landmarks(method: str, variant: Variant, tmp_path: Path) -> None:
    module = build(method, variant)
    write_golden(module, module.golden_input(), tmp_path)
    assert run_golden(module, tmp_path).difference == 0

"""Soft clDice: a skeleton is thin, a gap costs by its length, and width costs nothing."""

from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from anatozoo.errors import ConfigError
from anatozoo.objectives import Centerline
from anatozoo.objectives.centerline import soft_cldice_loss, soft_skeleton
from anatozoo.tasks.views import Maps
from anatozoo.training.step import Step


def line(width: int, *, until: int = 56, gap: bool = False) -> Tensor:
    """(1, 1, 64, 64) a vertical line."""
    mask = np.zeros((64, 64), np.float32)
    mask[8:until, 32 - width // 2 : 32 - width // 2 + width] = 1
    if gap:
        mask[28:36] = 0
    return torch.from_numpy(mask)[None, None]


@pytest.mark.parametrize("width", [1, 3, 5, 9])
def test_the_skeleton_of_a_line_is_a_line(width: int) -> None:
    found = soft_skeleton(line(width), 10)[0, 0]
    middle = found[20:44]
    torch.testing.assert_close(middle.sum(1), torch.ones(24))
    assert set(middle.nonzero()[:, 1].tolist()) == {32}
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1


def test_the_skeleton_of_a_tube_is_a_line() -> None:
    tube = torch.zeros(1, 1, 9, 9, 20)
    tube[..., 3:6, 3:6, :] = 1
    found = soft_skeleton(tube, 4)[0, 0, ..., 5:15]
    torch.testing.assert_close(found.sum((0, 1)), torch.ones(10))
    assert float(found[4, 4].min()) == 1


def test_width_costs_little_and_a_gap_costs_its_length() -> None:
    truth = line(5)
    same, wide, gap = (float(soft_cldice_loss(p, truth, 12)) for p in (truth, line(9), line(5, gap=True)))
    assert same == pytest.approx(0, abs=1e-6)
    assert wide < 0.05
    assert gap == pytest.approx(8 / 48 / 2, abs=0.03)  # of one of the two shares that are averaged
    dice = 2 * float((truth * line(9)).sum() / (truth + line(9)).sum())
    assert 1 - dice > 0.25


def test_what_is_missed_and_what_is_invented_cost() -> None:
    nothing = torch.zeros(1, 1, 64, 64)
    assert float(soft_cldice_loss(nothing, nothing, 10)) == 0
    assert float(soft_cldice_loss(nothing, line(3), 10)) > 0.9
    assert float(soft_cldice_loss(line(3), nothing, 10)) > 0.9


def test_descent_closes_a_gap() -> None:
    truth = line(5)
    logits = (12 * line(5, gap=True) - 6 + 4 * line(5)).requires_grad_()  # the gap is unsure, not sure
    optimiser = torch.optim.Adam([logits], 0.2)
    before = float(logits.detach().sigmoid()[0, 0, 28:36, 32].mean())
    for _ in range(40):
        optimiser.zero_grad()
        soft_cldice_loss(logits.sigmoid(), truth, 10).mean().backward()
        assert bool(torch.isfinite(logits.grad).all())
        optimiser.step()
    after = float(logits.detach().sigmoid()[0, 0, 28:36, 32].mean())
    assert before < 0.2
    assert after > 0.8


def test_items_without_annotation_do_not_count_and_background_neither() -> None:
    class Given:
        offers = frozenset({"maps"})

        def __init__(self, maps: Any) -> None:
            self.maps = lambda output, batch: maps

    truth = torch.cat([1 - line(5), line(5)], 1).repeat(2, 1, 1, 1)
    probability = truth.clone()
    probability[1] = truth[1].flip(0)
    known = torch.tensor([[True], [False]])
    term = Centerline(0.25).terms(Step(Given(Maps(probability, truth, known)), {}, None))["centerline"]  # type: ignore[arg-type]
    assert term.shape == (1,)
    assert float(term) == pytest.approx(0, abs=1e-6)
    none = Maps(probability, truth, torch.zeros(2, 1, dtype=torch.bool))
    assert float(Centerline().terms(Step(Given(none), {}, None))["centerline"]) == 0  # type: ignore[arg-type]
    worse = Maps(1 - truth, truth)
    found = Centerline(0.25).terms(Step(Given(worse), {}, None))["centerline"]  # type: ignore[arg-type]
    torch.testing.assert_close(found, 0.25 * soft_cldice_loss(1 - truth[:, 1:], truth[:, 1:], 10))


def test_it_agrees_with_the_hard_measure_on_sharp_masks() -> None:
    skeletonize = pytest.importorskip("skimage.morphology").skeletonize
    truth, found = (np.zeros((96, 96), np.uint8) for _ in range(2))
    cv2.polylines(truth, [np.array([[10, 10], [40, 50], [45, 85]])], False, 1, 5)
    cv2.polylines(found, [np.array([[10, 10], [40, 50], [80, 80]])], False, 1, 5)
    bones = [skeletonize(mask > 0) for mask in (found, truth)]
    shares = [bones[0][truth > 0].sum() / bones[0].sum(), bones[1][found > 0].sum() / bones[1].sum()]
    hard = 1 - 2 * shares[0] * shares[1] / sum(shares)
    maps = [torch.from_numpy(mask).float()[None, None] for mask in (found, truth)]
    assert float(soft_cldice_loss(*maps, 8)) == pytest.approx(hard, abs=0.06)


@pytest.mark.parametrize("settings", [{"weight": -1.0}, {"weight": float("nan")}, {"width": 0}])
def test_settings_that_are_not_possible_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Centerline(**settings)

"""In whatever order a real stack is stored, its heart is segmented equally well."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest

import anatozoo
from anatozoo.data.layouts.acdc import HEART
from anatozoo.data.layouts.registry import find_cases
from anatozoo.io.orientation import Orientation
from anatozoo.tasks.cases import label_dice

pytestmark = [pytest.mark.real, pytest.mark.slow]
ORDERS = [
    Orientation(axes, tuple(flips))
    for axes, *flips in product([(0, 1, 2), (1, 0, 2)], (False, True), (False, True), (False, True))
]


@pytest.mark.parametrize("name", ["acnn-acdc", "acnn-dynunet-acdc"])
def test_the_16_orders_of_a_stack_are_within_a_dice_of_005(shared: Path, name: str) -> None:
    root = shared / "data" / "acdc"
    if not root.is_dir():
        pytest.skip(f"ACDC is not in {shared}")
    cases = find_cases(root, "acdc", HEART, dims=3).complete(HEART, "val")
    assert len(cases) == 30
    model = anatozoo.load(name, trainable=False)
    found = []
    for case in cases[::4]:
        image, truth = case.read(HEART, 3)
        labels = [order.undo(model.predict(order.apply(image.pixels)).label_map) for order in ORDERS]
        found.append([label_dice(each, truth, len(HEART)) for each in labels])
    mean = np.mean(found, 0)
    assert len(mean) == 16
    assert mean.max() - mean.min() <= 0.005

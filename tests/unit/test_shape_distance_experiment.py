"""The damage of the table of shape distances is what its names say, and the table counts it right."""

import numpy as np
import pytest
import torch

from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.acnnprior.module import AcnnPriorModule
from anatozoo.metrics.plausibility import components, enclosure, holes
from tests.support.heart_data import heart

EXPERIMENT = "shape_distance"
HEART = ["right_ventricle", "myocardium", "left_ventricle"]


@pytest.fixture
def stack():
    return heart(8, 64, 64)[1]


def open_slices(labels):
    return sum(enclosure(plane == 3, plane == 2) < 1 for plane in labels if (plane == 3).any())


def test_each_damage_does_what_it_says(evidence, stack):
    import shape_damage as damage

    middle = 4
    assert open_slices(stack) == 0
    opened = damage.ring_opened(stack, HEART)
    assert open_slices(opened) == 1
    assert {*np.unique(stack[opened != stack])} == {2}
    assert open_slices(damage.rings_opened(stack, HEART)) == 7
    pierced = damage.with_hole(stack, HEART)
    organ = int(np.unique(stack[pierced != stack])[0])
    assert holes(pierced[middle] == organ) == holes(stack[middle] == organ) + 1
    blob = damage.with_blob(stack, HEART)
    assert components(blob == 3) == 2
    assert np.count_nonzero(blob != stack) == 3 * (2 * damage.unit(stack)) ** 2
    emptied = damage.without_slice(stack, HEART)
    assert [z for z in range(8) if stack[z].any() and not emptied[z].any()] == [middle]
    assert damage.cut(stack, HEART) is None  # there is a ring
    assert components(damage.cut((stack == 2).astype(np.uint8)[4], ["lung"])) == 2
    for kind in (damage.shifted, damage.dilated, damage.jittered):
        assert open_slices(kind(stack, HEART)) == 0
    swapped = damage.swapped(stack, HEART)
    np.testing.assert_array_equal(swapped == 1, stack == 3)
    plane = stack[middle]
    assert damage.without_slice(plane, HEART) is None
    assert open_slices([damage.ring_opened(plane, HEART)]) == 1


def test_costs_are_those_of_plain_voxels_in_the_input(evidence, stack):
    torch.manual_seed(0)
    frame = FrameSpec([8, 64, 64], "slices", long_side=104)
    model = AcnnPriorModule(organs=HEART, frame=frame, widths=[4, 8], code=6).eval()
    maps, subjects = [stack, np.roll(stack, 3, 1)], ["one", "two"]
    found = evidence.measure(model, maps, subjects, ["input", "level1", "code", "residual"])
    apart = 2 * np.count_nonzero(maps[0] != maps[1])
    for row in found["damage"].values():
        # Two channels differ where a label does.
        assert row["input"]["distance"] == pytest.approx(2 * row["voxels"] / apart, rel=1e-5)
        assert row["code"]["per_1000"] == pytest.approx(1000 * row["code"]["distance"] / row["voxels"])
    assert found["worth"]["input"] == pytest.approx(1, rel=1e-5)
    assert evidence.layers_of(model) == ["input", "level1", "level2", "code", "residual"]
    text = evidence.markdown({"about": "", "sources": {"x": found}})
    assert "| **worth**" in text
    assert "| slice missing " in text

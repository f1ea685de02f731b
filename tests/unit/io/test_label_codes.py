import numpy as np
import pytest

from anatozoo.errors import DataError
from anatozoo.io.label_codes import (
    LabelCodes,
    Survey,
    check_known,
    check_sides,
    edge_values,
    looks_inverted,
    one_organ,
    parse_labels,
)

Y, X = np.mgrid[:64, :48]
DISC = ((X - 22) ** 2 + (Y - 30) ** 2 < 200).astype(np.uint8)


def smoothed(mask: np.ndarray, factor: int = 255) -> np.ndarray:
    """The mean over 3 x 3 pixels, as resizing makes it."""
    padded = np.pad(mask.astype(float), 1)
    total = sum(
        padded[dy : dy + mask.shape[0], dx : dx + mask.shape[1]] for dy in range(3) for dx in range(3)
    )
    return np.rint(total * factor / 9).astype(np.uint8)


def test_soft_edges_are_told_from_classes():
    soft = smoothed(DISC)
    assert edge_values(soft) == [int(v) for v in np.unique(soft) if 0 < v < 255]
    assert edge_values(DISC * 255) == []
    assert edge_values(DISC > 0) == []
    # A lesion within an organ, and an organ beside it, touch no value on one side of theirs.
    lesion = DISC * np.uint8(255)
    lesion[28:31, 20:23] = 128
    assert edge_values(lesion) == []
    beside = DISC * np.uint8(255)
    beside[5:9, 40:44] = 127
    assert edge_values(beside) == []
    # Small numbers are classes, whatever they look like.
    assert edge_values(smoothed(DISC, 9)) == []
    assert edge_values(np.zeros((0, 3), np.uint8)) == []


def test_soft_edges_beside_classes():
    coded = DISC * np.uint8(255)
    coded[50:60, 5:40] = 127
    edge = (DISC == 0) & (np.roll(DISC, 1, 1) == 1)
    coded[edge] = 200
    assert edge_values(coded) == [200]
    volume = np.stack([smoothed(DISC)] * 3)
    assert edge_values(volume) == edge_values(smoothed(DISC))


def survey(*values: set[int]) -> Survey:
    found = Survey("side")
    for each in values:
        found.add(np.array([[0, *each]]))
    return found


@pytest.mark.parametrize(
    ("ours", "theirs", "agree"),
    [
        ([{1, 2}], [{1, 2}], True),
        ([{1}, {2}], [{1, 2}], True),
        ([{1}], [{1, 2}], True),
        ([{255}], [{1}], True),
        ([{127, 255}], [{255}], True),
        ([set()], [{1, 2}], True),
        ([{1, 3}], [{1, 2}], True),
        ([{1}], [{2}], False),
        ([{255}], [{1, 2}], False),
        ([{127, 255}], [{1, 2}], False),
        ([{255}, {127}], [{1}, {2}], False),
        ([{1, 2}], [{2, 4}], False),
        ([{85, 170, 255}], [{1, 2, 3}], False),
    ],
)
def test_values_of_two_sides(ours, theirs, agree):
    if agree:
        check_sides(survey(*ours), survey(*theirs))
        check_sides(survey(*theirs), survey(*ours))
        return
    with pytest.raises(DataError, match="do not correspond"):
        check_sides(survey(*ours), survey(*theirs))


def test_codes():
    prediction, reference = parse_labels("lungs=3+4:1, heart=128-255:2,background=0-2:9")
    assert prediction == LabelCodes(
        {"lungs": ((3, 3), (4, 4)), "heart": ((128, 255),), "background": ((0, 2),)}
    )
    assert (reference.organs, reference.unknown([0, 1, 2, 3, 9])) == (("lungs", "heart"), [3])
    masks = prediction.masks(np.array([[0, 3, 4, 200]]))
    assert masks["lungs"].tolist() == [[False, True, True, False]]
    assert masks["heart"].tolist() == [[False, False, False, True]]
    with pytest.raises(DataError, match="the values 7 have no name"):
        prediction.masks(np.array([[7]]))


def test_one_organ_of_a_file():
    assert np.array_equal(one_organ(DISC * 7, "f", "heart"), DISC > 0)
    assert not one_organ(DISC * 0, "f", "heart").any()
    with pytest.raises(DataError, match="f holds the values 1, 2; a file in a folder of heart"):
        one_organ(DISC + DISC * (X > 20), "f", "heart")
    with pytest.raises(DataError, match="along its edges"):
        one_organ(smoothed(DISC), "f", "heart")


def test_values_that_stand_for_nothing():
    classes = {1: "lungs", 2: "heart"}
    check_known(DISC * 2, classes, "f", "do it")
    with pytest.raises(DataError, match="f holds the values 3, but the classes are 1 lungs, 2 heart; do it"):
        check_known(DISC * 3, classes, "f", "do it")
    with pytest.raises(
        DataError, match="255 alone, which is a mask of one organ, but there are 2: lungs, heart"
    ):
        check_known(DISC * 255, classes, "f", "do it")
    with pytest.raises(DataError, match="along its edges"):
        check_known(smoothed(DISC), {255: "heart"}, "f", "do it")


def test_masks_that_are_inverted():
    assert looks_inverted(1 - DISC, DISC)
    assert not looks_inverted(DISC, DISC)
    assert not looks_inverted(np.ones_like(DISC), DISC)
    assert not looks_inverted(1 - DISC, DISC * 0)
    assert not looks_inverted(1 - DISC, 1 - DISC)
    assert not looks_inverted(DISC, DISC[:-1])

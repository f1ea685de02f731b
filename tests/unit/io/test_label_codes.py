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
from anatozoo.io.mixed_codes import check_background, check_mixed

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


def survey(*values: set[int], side: str = "side", zero: bool = True) -> Survey:
    found = Survey(side)
    for index, each in enumerate(values):
        found.add(np.array([[0, *each] if zero else [*each]]), f"file{index}")
    return found


TWO = [{1, 2}] * 4


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        # One file, or several, of a coding that the other side does not know.
        ([*TWO, {127, 255}], [{1, 2}] * 5, "some hold 1, 2 (label maps: 4, as file0), others 127, 255"),
        ([*TWO, {255}], [{1, 2}] * 5, "255 (label maps: 1, as file4), which neither those nor the other"),
        ([*TWO, {127, 255}, {127}], [{1, 2}] * 6, "--labels class_1=1+127:1,class_2=2+255:2."),
        ([{1}, {255}], [{1}, {1}], "others 255"),
        ([*TWO, {3}], [{1, 2}] * 5, "--labels class_1=1,class_2=2,class_3=3."),
        # Both sides mix the same two codings.
        ([{1}, {255}], [{255}, {1}], "1 (label maps: 1, as file0), others 255 (label maps: 1, as file1)"),
        ([{1}, {255}, {255}], [{1}, {1}, {255}], "by other values. Code them alike, or say"),
        ([{1, 2}, {127, 255}], [{127, 255}, {1, 2}], "--labels class_1=1+127:1,class_2=2+255:2."),
        ([{1, 2}, {128, 255}], [{128, 255}, {1, 2}], "not coded alike"),
        ([{1, 2}, {255}], [{255}, {1, 2}], "not coded alike"),
        ([{1, 2, 3}, {85, 170, 255}], [{85, 170, 255}, {1, 2, 3}], "not coded alike"),
        ([{1, 2, 3}, {85, 255}], [{85, 170, 255}, {1, 2, 3}], "not coded alike"),
        ([{1, 2}, {50, 100}], [{50, 100}, {1, 2}], "not coded alike"),
        ([{1}, {200}], [{200}, {1}], "not coded alike"),
        ([{255}, {65535}], [{65535}, {255}], "not coded alike"),
    ],
)  # fmt: skip
def test_files_of_one_side_in_two_codings(ours, theirs, words):
    with pytest.raises(DataError, match="the label maps of the mine are not coded alike") as caught:
        check_mixed(survey(*ours, side="mine"), survey(*theirs, side="other"))
    assert words in str(caught.value)
    with pytest.raises(DataError, match="not coded alike"):
        check_mixed(survey(*theirs, side="other"), survey(*ours, side="mine"))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ([{1}, {2}, {1, 2}], [{1, 2}] * 3),
        ([{1}, {2}, {1, 2}], [{1}, {2}, {1, 2}]),
        ([{1}, {2}], [{1}, {2}]),
        ([{1}, {2}], [{1, 2}, {1, 2}]),
        ([{1, 3}, {2}], [{1, 3}, {2}]),
        ([{1, 3}, {2}], [{1, 2, 3}, {1, 2}]),
        ([{1, 3}, {2}], [{1, 2}, {1, 2}]),
        ([*TWO, {3}], [*TWO, {3}]),
        ([*TWO, {3}], [{1, 2, 3}] * 5),
        ([*TWO, {3}], [*TWO, {1, 3}]),
        ([{1, 2}, {3, 6}], [{1, 2}, {3, 4, 5, 6}]),
        ([{1, 2}, set()], [{1, 2}, {1}]),
        ([{1}, {2}], [set(), set()]),
        ([{255}, {255}], [{1}, {1}]),
        ([{127}, {255}, {127, 255}], [{127, 255}] * 3),
        ([{127}, {255}], [{127}, {255}]),
        ([{85}, {170}, {255}], [{85, 170, 255}] * 3),
        ([{1}, {255}], [{1, 255}, {1, 255}]),
        ([{17}, {53}], [{17}, {53}]),
        ([{2, 4, 5}, {41, 43, 44}], [{2, 4, 5}, {41, 43, 44}]),
        ([{1}, {5}, {50}], [{1}, {5}, {50}]),
    ],
)
def test_files_that_show_other_organs_are_coded_alike(ours, theirs):
    for one, two in ((ours, theirs), (theirs, ours)):
        check_mixed(survey(*one), survey(*two))


def test_a_side_without_background():
    none, some = survey({1, 2}, {1, 2}, side="mine", zero=False), survey({1}, {1}, side="other")
    with pytest.raises(
        DataError, match=r"of the mine holds 0, .* --labels background=1:0,class_1=2:1. Where"
    ):
        check_background(none, some)
    with pytest.raises(
        DataError, match=r"of the mine holds 0, .* --labels background=0:1,class_1=1:2. Where"
    ):
        check_background(some, none)
    with pytest.raises(DataError, match="--labels class_1=1"):
        check_background(survey({1}, zero=False), some)
    check_background(none, none)
    check_background(some, some)
    check_background(survey(), some)
    # One file that an organ fills is no coding.
    none.add(np.array([[0, 1]]))
    check_background(none, some)


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

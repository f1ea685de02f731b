"""Masks become root systems: lengths, laterals, crossings, and what is refused or flagged."""

import numpy as np
import pytest

from anatozoo.errors import ConfigError, DataError
from anatozoo.roots.simulate import drawn, example
from anatozoo.roots.skeleton import trace
from anatozoo.roots.system import Root, RootSystem, length_of

pytest.importorskip("skimage")
SIZE = (480, 320)


def mask_of(*lines: list[tuple[float, float]], width: float = 3.0) -> np.ndarray:
    roots = tuple(Root(np.array(line, float)) for line in lines)
    return drawn(RootSystem(roots), SIZE, width=width) > 0.5


@pytest.mark.parametrize("width", [2.0, 3.0, 5.0])
@pytest.mark.parametrize("seed", range(4))
def test_lengths_and_laterals_of_drawn_roots(seed: int, width: float) -> None:
    plant = example(seed, laterals=3 + seed)
    found = trace(drawn(plant, SIZE, width=width) > 0.5, plant.main.points[0], name="a")
    assert (found.name, found.flags, len(found.laterals)) == ("a", (), 3 + seed)
    assert found.main.length_px == pytest.approx(plant.main.length_px, rel=0.015)
    assert found.total_px == pytest.approx(plant.total_px, rel=0.03)
    assert {root.parent for root in found.laterals} == {0}


def test_a_chain_of_pixels_is_not_longer_than_its_line() -> None:
    for angle in (0, 15, 22.5, 30, 45):
        tip = (60 + 300 * np.sin(np.radians(angle)), 30 + 300 * np.cos(np.radians(angle)))
        found = trace(mask_of([(60, 30), tip]), (60, 30))
        assert found.main.length_px == pytest.approx(300, rel=0.01), angle


def test_a_lateral_that_crosses_the_main_root_stays_one() -> None:
    main = [(160, 30), (160, 430)]
    crossing = [(160, 80), (110, 130), (110, 200), (230, 300)]
    found = trace(mask_of(main, crossing), (160, 30))
    assert len(found.laterals) == 1
    lateral = found.laterals[0]
    assert lateral.length_px == pytest.approx(length_of(crossing), rel=0.03)
    assert np.linalg.norm(lateral.points[0] - crossing[0]) < 8
    assert np.linalg.norm(lateral.points[-1] - crossing[-1]) < 5
    assert found.flags == ()


def test_two_laterals_at_one_place_do_not_become_a_crossing() -> None:
    found = trace(
        mask_of([(160, 30), (160, 430)], [(160, 200), (60, 290)], [(160, 200), (260, 290)]), (160, 30)
    )
    assert found.main.points[-1][1] == pytest.approx(430, abs=3)
    assert sorted(round(root.points[-1][0], -1) for root in found.laterals) == [60, 260]


def test_a_lateral_of_a_lateral_has_it_as_its_parent() -> None:
    found = trace(mask_of([(60, 30), (60, 430)], [(60, 100), (260, 300)], [(160, 200), (160, 280)]), (60, 30))
    assert [root.parent for root in found.roots] == [None, 0, 1]


def test_roots_that_touch_are_flagged() -> None:
    ring = [(160, 100), (240, 180), (160, 260)]
    assert "loop" in trace(mask_of([(160, 30), (160, 430)], ring), (160, 30)).flags


@pytest.mark.parametrize("width", [2.0, 5.0, 9.0])
@pytest.mark.parametrize("end", [(160, 600), (-20, 260), (340, 260)], ids=["below", "left", "right"])
def test_a_root_that_leaves_the_picture_is_flagged(end: tuple[float, float], width: float) -> None:
    mask = mask_of([(160, 30), (160, 200), end], width=width)
    assert trace(mask, (160, 30)).flags == ("leaves_picture",)
    inside = mask.copy()
    inside[-6:], inside[:, :6], inside[:, -6:] = False, False, False
    assert trace(inside, (160, 30)).flags == ()


def test_a_picture_that_is_no_mask_is_flagged() -> None:
    assert "fills_picture" in trace(np.ones(SIZE, bool), (160, 30)).flags


def test_the_seed_may_be_beside_the_root() -> None:
    found = trace(mask_of([(160, 30), (160, 300)]), (150, 28))
    assert found.flags == ("seed_moved",)
    assert found.main.length_px == pytest.approx(270, rel=0.02)


def test_what_is_above_the_seed_or_elsewhere_is_no_root() -> None:
    found = trace(mask_of([(160, 10), (160, 300)], [(30, 200), (60, 400)]), (160, 100))
    assert found.main.length_px == pytest.approx(200, rel=0.02)
    assert found.laterals == ()


def test_burrs_are_pruned() -> None:
    noisy = mask_of([(160, 30), (160, 430)])
    noisy[np.arange(60, 420, 20), 162] = True
    noisy[np.arange(60, 420, 20), 163] = True
    assert trace(noisy, (160, 30)).laterals == ()


@pytest.mark.parametrize("tip", [(262, 388), (160, 300)])
def test_the_main_root_ends_at_the_tip_of_the_frame_before(tip: tuple[float, float]) -> None:
    both = mask_of([(160, 30), (160, 302)], [(160, 100), (260, 390)])
    found = trace(both, (160, 30), tip=tip)
    assert np.linalg.norm(found.main.points[-1] - tip) < 5
    assert found.flags == ()


def test_a_lost_tip_is_flagged() -> None:
    assert trace(mask_of([(160, 30), (160, 300)]), (160, 30), tip=(10, 10)).flags == ("tip_lost",)


def test_bad_input_is_named() -> None:
    mask = mask_of([(160, 30), (160, 300)])
    with pytest.raises(ConfigError, match="is outside the picture of 320 x 480"):
        trace(mask, (400, 30))
    with pytest.raises(DataError, match="no root is within 30 px of the seed"):
        trace(mask, (30, 30))
    with pytest.raises(DataError, match="no root is within 30 px"):
        trace(np.zeros(SIZE, bool), (30, 30))
    with pytest.raises(DataError, match="two dimensions"):
        trace(np.zeros((3, *SIZE)), (30, 30))
    dot = np.zeros(SIZE, bool)
    dot[100:108, 100:108] = True
    with pytest.raises(DataError, match="no root longer than"):
        trace(dot, (104, 104))


def test_systems_check_themselves() -> None:
    line = np.array([[0.0, 0], [3, 4]])
    assert Root(line).length_px == 5
    with pytest.raises(DataError, match="two finite points"):
        Root(line[:1])
    with pytest.raises(DataError, match="two finite points"):
        Root(line * np.nan)
    with pytest.raises(DataError, match="does not stand before it"):
        RootSystem((Root(line, 1), Root(line)))
    with pytest.raises(DataError, match="has no root"):
        RootSystem(())

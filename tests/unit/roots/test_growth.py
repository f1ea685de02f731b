"""Frames over time: names that stay, hourly values, the rhythm of the day, and frames that are damaged."""

import numpy as np
import pandas as pd
import pytest

from anatozoo.errors import ConfigError, DataError
from anatozoo.roots.growth import frame_table, growth_table, spectrum
from anatozoo.roots.simulate import drawn, example, grown
from anatozoo.roots.system import RootSystem
from anatozoo.roots.tracking import accumulated, follow

pytest.importorskip("skimage")
PLANT = example(3, size=(240, 200), laterals=4)
SPEED, RHYTHM = 1.6, 0.5
DELAYS = [0.0, 24, 36, 48, 60]


def frame(hours: float, noise: float = 0.0) -> np.ndarray:
    return drawn(grown(PLANT, hours, speed=SPEED, rhythm=RHYTHM, delays=DELAYS), (240, 200), noise=noise)


@pytest.fixture(scope="module")
def systems() -> list[RootSystem | DataError]:
    masks = (frame(hour) > 0.5 for hour in range(110))
    return list(follow(masks, PLANT.main.points[0], name="a"))


def test_lengths_numbers_and_the_day_are_found(systems: list[RootSystem | DataError]) -> None:
    table = growth_table(frame_table(systems), minutes=60, pixel_mm=0.5)
    truth = grown(PLANT, 100, speed=SPEED, rhythm=RHYTHM, delays=DELAYS)
    assert truth is not None
    assert table["main"][100] == pytest.approx(0.5 * truth.main.length_px, rel=0.02)
    assert table["number"].iloc[-1] == len(truth.laterals)
    assert table["speed"][24:72].mean() == pytest.approx(0.5 * SPEED, rel=0.1)
    frequencies, amplitudes = spectrum(table["speed"][:96])
    assert 1 / frequencies[amplitudes.argmax()] == 24
    assert (table["main_share"] <= 100 + 1e-9).all()
    assert (table["laterals"].diff().dropna() >= 0).all()


def test_laterals_keep_their_names(systems: list[RootSystem | DataError]) -> None:
    bases: dict[str, list[np.ndarray]] = {}
    for system in systems:
        for root in system.laterals if isinstance(system, RootSystem) else ():
            bases.setdefault(root.name, []).append(root.points[0])
    assert list(bases) == [f"lateral {number}" for number in range(1, 5)]
    for each in bases.values():
        assert np.ptp(each, axis=0).max() < 10


def test_what_has_been_seen_of_laterals_does_not_shrink() -> None:
    lost = np.where(np.arange(80) < 40, [80.0], [60.0])
    frames = pd.DataFrame({"main_px": 100.0, "laterals_px": lost, "laterals": np.where(lost > 70, 6, 5)})
    table = growth_table(frames, minutes=60)
    assert set(table["laterals"]) == {80}
    assert set(table["number"]) == {6}
    short = growth_table(frames.assign(laterals_px=lost / 2, laterals=frames["laterals"] / 2), minutes=60)
    assert (short["laterals"].iloc[0], short["laterals"].iloc[-1]) == (40, 30)


def test_amplitudes_are_those_of_the_waves() -> None:
    hours = np.arange(96)
    swing = np.sin(2 * np.pi * hours / 24)
    frequencies, amplitudes = spectrum(2 * swing + 0.3 * (-1.0) ** hours)
    assert amplitudes[frequencies == 1 / 24] == pytest.approx(2, rel=0.05)
    assert amplitudes[-1] == pytest.approx(0.3, rel=0.05)


def test_frames_without_roots_are_rows_and_filled(systems: list[RootSystem | DataError]) -> None:
    gap: list[RootSystem | DataError] = [*systems]
    gap[40:44] = [DataError("no root")] * 4
    table = frame_table(gap)
    assert list(table["status"][39:45]) == ["ok", *["failed"] * 4, "ok"]
    assert table["reason"][41] == "no root"
    whole, filled = (growth_table(frame_table(each), minutes=60) for each in (systems, gap))
    np.testing.assert_allclose(filled["main"], whole["main"], rtol=0.02, atol=0.2)


def test_accumulation_closes_gaps_and_names_damage() -> None:
    full = frame(60)
    empty = np.zeros_like(full)
    wrong = DataError("damaged")
    found = list(accumulated([full, empty, empty, wrong, full[:10], full * 3, empty], memory=0.8))
    np.testing.assert_array_equal(found[0], full > 0.5)
    assert found[1].any()  # .8 is above a half
    assert found[2].any()  # .64 is, too
    assert found[3] is wrong
    assert "shape" in str(found[4])
    assert "outside [0, 1]" in str(found[5])
    assert not found[6][full < 0.9].any()
    with pytest.raises(ConfigError, match="memory=1"):
        next(accumulated([full], memory=1))


def test_a_damaged_frame_does_not_end_the_series() -> None:
    found = list(follow([frame(60) > 0.5, DataError("damaged"), frame(61) > 0.5], PLANT.main.points[0]))
    assert [isinstance(each, DataError) for each in found] == [False, True, False]


def test_bad_numbers_are_named(systems: list[RootSystem | DataError]) -> None:
    table = frame_table(systems)
    with pytest.raises(ConfigError, match="minutes=61"):
        growth_table(table, minutes=61)
    with pytest.raises(ConfigError, match="pixel_mm=0"):
        growth_table(table, pixel_mm=0)
    with pytest.raises(DataError, match="no two hours"):
        growth_table(table[:2], minutes=15)
    with pytest.raises(DataError, match="no two hours"):
        growth_table(frame_table([DataError("a")] * 20))
    with pytest.raises(DataError, match="at least 48 hours"):
        spectrum(np.ones(47))
    with pytest.raises(DataError, match="finite"):
        spectrum(np.full(60, np.nan))
    with pytest.raises(ConfigError, match="rhythm=2"):
        grown(PLANT, 3, speed=1, rhythm=2)
    with pytest.raises(ConfigError, match="2 delays do not fit 5 roots"):
        grown(PLANT, 3, speed=1, delays=[0, 1])
    assert grown(PLANT, 0, speed=1) is None

"""Intervals of Dice: their coverage on made-up scores, and what is refused."""

import json
import math
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from anatozoo.errors import AnatozooWarning, ConfigError, DataError
from anatozoo.io.grid import GridImage
from anatozoo.quality import Atlas, Calibration, DiceIntervals, build_atlas, rca, register_to_atlas
from anatozoo.quality.intervals import conformal_quantile, least_patients, upper_mean
from anatozoo.results.field import RegistrationResult
from anatozoo.results.quality import AtlasMatch, DiceInterval, Judging, QualityResult
from anatozoo.tasks.engines import Composed
from tests.support.chest_data import write_chest_data
from tests.unit.quality.test_rca import ORGANS, SIDE, Shift

HOW = Judging("a" * 64, "shift", "1", "", "", 5)
NOTHING = np.zeros((2, 2), np.uint8)


class Aimless(Shift):
    """An engine of another name."""

    name = "aimless"


def result_of(scores: Mapping[str, np.ndarray], judging: Judging | None = HOW) -> QualityResult:
    """An estimate with these Dice on the atlas images."""
    count = len(next(iter(scores.values())))
    matches = [
        AtlasMatch(str(i), NOTHING, NOTHING, NOTHING, {f"dice/{o}": float(s[i]) for o, s in scores.items()})
        for i in range(count)
    ]
    return QualityResult(
        "x.png", "shift", "a", tuple(scores), tuple(matches), NOTHING, NOTHING, judging=judging
    )


def drawn(
    random: np.random.Generator, patients: int, masks: int
) -> tuple[list[QualityResult], np.ndarray, list[str]]:
    """Scores of hearts that are too high where the Dice is low, and whose errors are those of a patient."""
    results, dice, names = [], [], []
    for patient in range(patients):
        shift = random.normal(0, 0.05)
        for true in random.uniform(0.3, 0.97, masks):
            scores = 0.3 + 0.65 * true + shift + random.normal(0, 0.03, 5)
            results.append(result_of({"heart": scores.clip(0, 1)}))
            dice.append(true)
            names.append(f"p{patient}")
    return results, np.array(dice), names


def test_intervals_hold_the_dice_of_new_patients_as_often_as_promised() -> None:
    """90 % on average over calibrations, though the masks of a patient share their error."""
    random = np.random.default_rng(3)
    inside, widths = [], []
    for _ in range(80):
        found = DiceIntervals.fit(*_as_arguments(drawn(random, 24, 6)))
        results, dice, _ = drawn(random, 12, 1)
        for result, true in zip(results, dice, strict=True):
            interval = found.of(result)["heart"]
            assert 0 <= interval.dice_low <= interval.dice <= interval.dice_high <= 1
            inside.append(interval.dice_low <= true <= interval.dice_high)
            widths.append(interval.dice_high - interval.dice_low)
    # 960 draws have a standard error of about .01. The quantile of the 16 patients that decide the margin is
    # taken at 17/16 of 90 %.
    assert 0.88 < np.mean(inside) < 0.98
    assert np.mean(widths) < 0.5


def _as_arguments(
    cases: tuple[list[QualityResult], np.ndarray, list[str]],
) -> tuple[list[QualityResult], dict[str, np.ndarray], list[str]]:
    results, dice, names = cases
    return results, {"heart": dice}, names


def test_the_estimate_follows_the_true_dice_where_the_scores_are_biased() -> None:
    random = np.random.default_rng(0)
    found = DiceIntervals.fit(*_as_arguments(drawn(random, 40, 8)))
    results, dice, _ = drawn(random, 40, 8)
    calibrated = np.array([found.of(result)["heart"].dice for result in results])
    raw = np.array([result.mean("dice", "heart") for result in results])
    assert np.abs(calibrated - dice).mean() < 0.75 * np.abs(raw - dice).mean()
    assert abs((calibrated - dice).mean()) < 0.02


@pytest.mark.parametrize(
    ("count", "alpha"), [(9, 0.1), (10, 0.1), (25, 0.1), (44, 0.1), (19, 0.05), (7, 0.3)]
)
def test_the_quantile_is_that_of_split_conformal_prediction(count: int, alpha: float) -> None:
    scores = np.random.default_rng(count).normal(size=count)
    rank = math.ceil((count + 1) * (1 - alpha) - 1e-9)
    assert conformal_quantile(scores, range(count), alpha) == np.sort(scores)[rank - 1]
    # The same scores twice for each patient say nothing new.
    twice = conformal_quantile(np.repeat(scores, 2), list(np.repeat(np.arange(count), 2)), alpha)
    assert twice == np.sort(scores)[rank - 1]


def test_a_patient_with_many_masks_counts_once() -> None:
    scores = np.array([*np.zeros(19), *np.ones(500)])
    patients = [*range(19), *["same"] * 500]
    assert conformal_quantile(scores, patients, 0.1) == 0
    assert conformal_quantile(scores, range(len(scores)), 0.1) == 1
    assert conformal_quantile([1.0] * 8, range(8), 0.1) == math.inf


def test_the_best_three_of_five_are_averaged() -> None:
    scores = np.array([[0.1, 0.9, 0.5, 0.8, 0.7]])
    assert upper_mean(scores)[0] == pytest.approx(0.8)
    assert upper_mean(scores[:, :1])[0] == pytest.approx(0.1)


def test_an_organ_that_is_not_there_is_estimated_as_0() -> None:
    """Below the scores of the calibration the curve falls to 0 and does not stay where it was."""
    found = DiceIntervals.fit(*_as_arguments(drawn(np.random.default_rng(0), 30, 6)))
    interval = found.of(result_of({"heart": np.zeros(5)}))["heart"]
    assert interval.dice == interval.dice_low == 0


def test_organs_without_calibration_have_no_interval() -> None:
    found = DiceIntervals.fit(*_as_arguments(drawn(np.random.default_rng(0), 30, 6)))
    both = result_of({"lungs": np.full(5, 0.9), "heart": np.full(5, 0.8)})
    assert list(found.of(both)) == ["heart"]
    assert found.of(result_of({"lungs": np.full(5, 0.9)})) == {}


def test_the_order_of_the_cases_does_not_matter() -> None:
    results, dice, names = drawn(np.random.default_rng(0), 30, 6)
    order = np.random.default_rng(1).permutation(len(names))
    other = DiceIntervals.fit([results[i] for i in order], {"heart": dice[order]}, [names[i] for i in order])
    assert other.organs["heart"].margin == pytest.approx(
        DiceIntervals.fit(results, {"heart": dice}, names).organs["heart"].margin
    )


@pytest.mark.parametrize(("alpha", "least"), [(0.1, 13), (0.05, 28), (0.5, 3)])
def test_few_patients_are_refused(alpha: float, least: int) -> None:
    assert least_patients(alpha) == least
    results, dice, names = drawn(np.random.default_rng(0), least, 20)
    found = DiceIntervals.fit(results, {"heart": dice}, names, alpha=alpha)
    assert math.isfinite(found.organs["heart"].margin)
    fewer = [i for i, name in enumerate(names) if name != "p0"]
    said = (
        rf"heart: .* of {least - 1} patients are too few for intervals of {100 * (1 - alpha):g} %; {least} "
    )
    with pytest.raises(DataError, match=said):
        DiceIntervals.fit(
            [results[i] for i in fewer], {"heart": dice[fewer]}, [names[i] for i in fewer], alpha=alpha
        )


@pytest.mark.parametrize(("masks", "enough"), [(1, 30), (2, 15), (3, 13), (9, 13)])
def test_how_many_patients_are_enough_is_said(masks: int, enough: int) -> None:
    results, dice, names = drawn(np.random.default_rng(0), enough - 1, masks)
    each = {1: "one segmentation", 2: "2 segmentations"}.get(masks, "3 segmentations")
    said = rf"{len(names)} segmentations of {enough - 1} patients .*; {enough} patients with {each} each are"
    with pytest.raises(DataError, match=said):
        DiceIntervals.fit(results, {"heart": dice}, names)
    results, dice, names = drawn(np.random.default_rng(0), enough, min(masks, 3))
    assert DiceIntervals.fit(results, {"heart": dice}, names).organs["heart"].patients == enough


def test_calibrations_that_cannot_be_are_refused() -> None:
    results, dice, names = drawn(np.random.default_rng(0), 20, 6)
    for alpha in (0, 1, math.nan):
        with pytest.raises(ConfigError, match="must lie between 0 and 1"):
            DiceIntervals.fit(results, {"heart": dice}, names, alpha=alpha)
    with pytest.raises(DataError, match="need a true Dice of each organ and a patient"):
        DiceIntervals.fit(results, {"heart": dice[:-1]}, names)
    with pytest.raises(DataError, match="need a true Dice of each organ and a patient"):
        DiceIntervals.fit(results, {}, names)
    for wrong in (dice[:, None], 0.5):
        with pytest.raises(DataError, match="need a true Dice of each organ and a patient"):
            DiceIntervals.fit(results, {"heart": wrong}, names)
    with pytest.raises(DataError, match="heart: true Dice must be numbers"):
        DiceIntervals.fit(results, {"heart": ["a"] * len(names)}, names)
    with pytest.raises(DataError, match="patients must be names"):
        DiceIntervals.fit(results, {"heart": dice}, [[name] for name in names])  # type: ignore[misc]
    with pytest.raises(DataError, match="there are no estimates to calibrate on"):
        DiceIntervals.fit([], {"heart": []}, [])
    other = replace(results[0], judging=replace(HOW, engine="demons"))
    with pytest.raises(DataError, match="in 2 ways"):
        DiceIntervals.fit([other, *results[1:]], {"heart": dice}, names)
    with pytest.raises(DataError, match="a calibration needs estimates by one atlas"):
        DiceIntervals.fit([replace(each, judging=None) for each in results], {"heart": dice}, names)
    with pytest.raises(DataError, match="heart: true Dice must lie within 0 … 1"):
        DiceIntervals.fit(results, {"heart": 100 * dice}, names)
    with pytest.raises(DataError, match="heart: the estimates do not rise with the true Dice"):
        DiceIntervals.fit(results, {"heart": 1 - dice}, names)
    with pytest.raises(DataError, match=r"heart: dice_rca is 0\.5 for all cases"):
        DiceIntervals.fit([result_of({"heart": np.full(5, 0.5)})] * len(names), {"heart": dice}, names)
    with pytest.raises(DataError, match="liver: 0 segmentations of 0 patients are too few"):
        DiceIntervals.fit(results, {"liver": dice}, names)


def test_unknown_dice_does_not_count() -> None:
    results, dice, names = drawn(np.random.default_rng(0), 20, 6)
    with_gaps = np.where(np.arange(len(dice)) % 6 == 0, np.nan, dice)
    band = DiceIntervals.fit(results, {"heart": with_gaps}, names).organs["heart"]
    assert (band.masks, band.patients) == (100, 20)


def test_intervals_come_back_from_their_file(tmp_path: Path) -> None:
    results, dice, names = drawn(np.random.default_rng(0), 20, 6)
    found = DiceIntervals.fit(results, {"heart": dice}, names, alpha=0.2, about="two models")
    read = DiceIntervals.load(found.save(tmp_path / "intervals.json"))
    assert read == found
    assert (read.alpha, read.about, read.judging, read.digest) == (0.2, "two models", HOW, found.digest)
    good = found.to_dict()
    heart = good["organs"]["heart"]
    for wrong, said in (
        ({"schema_version": 9}, "another release"),
        ({"alpha": 2}, "is not valid"),
        ({"judging": {}}, "not intervals of anatozoo"),
        ({"organs": {"heart": heart | {"margin": math.inf}}}, "is not valid"),
        ({"organs": {"heart": heart | {"curve": heart["curve"] | {"signals": ["x"]}}}}, "is not valid"),
        ({"organs": []}, "not intervals of anatozoo: a value has the wrong type"),
        ({"organs": {"heart": heart | {"margin": -1.1}}}, "is not valid"),
        ({"organs": {"heart": heart | {"patients": 0}}}, "is not valid"),
        ({"organs": {"heart": heart | {"masks": 1}}}, "is not valid"),
        ({"organs": {"heart": heart | {"curve": heart["curve"] | {"table": [[0, 0], [0, 1]]}}}}, "its curve"),
        ({"organs": {"heart": heart | {"curve": heart["curve"] | {"table": [[0, 1], [0, 2]]}}}}, "its curve"),
    ):
        with pytest.raises(DataError, match=said):
            DiceIntervals.from_dict(good | wrong)
    (tmp_path / "intervals.json").write_text("{}")
    with pytest.raises(
        DataError, match=r"intervals\.json' cannot be read: these are not intervals .*: schema_v.* is missing"
    ):
        DiceIntervals.load(tmp_path / "intervals.json")
    # A band that is wider than it must be is narrowed.
    narrowed = good | {"organs": {"heart": heart | {"margin": -0.1}}}
    assert DiceIntervals.from_dict(narrowed).organs["heart"].margin == -0.1


def test_an_isotonic_curve_keeps_only_the_points_that_shape_it() -> None:
    random = np.random.default_rng(0)
    signal = random.uniform(size=400)
    dice = (signal + random.normal(0, 0.1, 400)).clip(0, 1)
    found = Calibration.fit({"s": signal}, dice)
    assert len(found.table[0]) < 100
    from scipy.optimize import isotonic_regression

    order = np.argsort(signal)
    expected = np.empty(400)
    expected[order] = isotonic_regression(dice[order]).x
    np.testing.assert_allclose(found.predict({"s": signal}), expected, atol=1e-12)


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Atlas:
    root = write_chest_data(tmp_path_factory.mktemp("chest"), {"train": 6}, side=96)
    return build_atlas(root, ORGANS, name="phantoms", layout="jsrt", image_size=SIDE)


@pytest.fixture(scope="module")
def calibrated(atlas: Atlas) -> Atlas:
    """Calibrated for the heart, with made-up scores."""
    judging = register_to_atlas(atlas.images[0].image, atlas, engine=Shift(), count=3).judging
    results, dice, names = drawn(np.random.default_rng(0), 30, 6)
    own = [replace(each, matches=each.matches[:3], judging=judging) for each in results]
    return atlas.with_intervals(DiceIntervals.fit(own, {"heart": dice}, names))


def test_a_calibrated_atlas_gives_intervals(calibrated: Atlas, tmp_path: Path) -> None:
    each = calibrated.images[2]
    calibrated.save(tmp_path / "atlas")
    read = Atlas.load(tmp_path / "atlas")
    assert read.digest == calibrated.digest
    results = [rca(each.image, each.labels, a, engine=Shift(), count=3) for a in (calibrated, read)]
    result = results[1]
    assert results[0].row() == result.row()
    assert (list(result.intervals), result.coverage, result.no_intervals) == (["heart"], 0.9, "")
    interval = result.intervals["heart"]
    assert isinstance(interval, DiceInterval)
    row = result.row()
    assert row["dice_rca_calibrated/heart"] == interval.dice
    assert row["dice_low/heart"] == interval.dice_low < row["dice_high/heart"] == interval.dice_high
    assert "dice_low/lungs" not in row
    content = json.loads(result.save(tmp_path, ["json"])[0].read_text())
    assert content["estimates"]["dice_low/heart"] == pytest.approx(interval.dice_low, abs=1e-6)
    assert (content["interval_coverage"], content["no_intervals"]) == (0.9, None)
    words = [text.get_text() for text in result.plot().legends[0].get_texts()]
    assert f"Heart {interval.dice:.2f} (90 %: {interval.dice_low:.2f} … {interval.dice_high:.2f})" in words
    assert "Lungs" in words


def test_other_ways_to_judge_have_no_intervals_and_say_so(calibrated: Atlas) -> None:
    each = calibrated.images[2]
    ways = (
        ({"engine": Aimless(), "count": 3}, "calibrated with shift 1 and 3 atlas images, .* aimless 1"),
        ({"engine": Shift(), "count": 2}, "3 atlas images, .* shift 1 and 2 atlas images"),
        ({"engine": Composed([Shift(), Aimless()]), "count": 3}, r"made with shift\+aimless"),
    )
    for how, said in ways:
        with pytest.warns(AnatozooWarning, match=f"no intervals of Dice: .*{said}"):
            result = rca(each.image, each.labels, calibrated, **how)  # type: ignore[arg-type]
        assert not result.intervals
        assert result.coverage is None
        assert "calibrated with shift 1" in result.to_dict()["no_intervals"]
        assert "dice_low/heart" not in result.row()


def test_weights_and_versions_of_an_engine_count(calibrated: Atlas) -> None:
    intervals = calibrated.intervals
    assert intervals is not None
    assert not intervals.refusal(intervals.judging)
    for change in ({"engine_weights": "b"}, {"atlas": "b"}):
        assert "another atlas or other weights" in intervals.refusal(replace(intervals.judging, **change))
    assert "shift 2" in intervals.refusal(replace(intervals.judging, engine_version="2"))
    assert "chosen by x" in intervals.refusal(replace(intervals.judging, selector="x"))


def test_an_atlas_without_calibration_gives_none_and_is_silent(atlas: Atlas, tmp_path: Path) -> None:
    """So do files of earlier releases, which have no such entry."""
    _, about = atlas.save(tmp_path / "old")
    content = json.loads(about.read_text())
    assert content.pop("intervals") is None
    about.write_text(json.dumps(content))
    each = atlas.images[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = rca(each.image, each.labels, Atlas.load(about), engine=Shift(), count=3)
    assert (result.intervals, result.coverage, result.no_intervals) == ({}, None, "")


def test_intervals_of_another_atlas_are_refused(calibrated: Atlas, tmp_path: Path) -> None:
    smaller = replace(calibrated, images=calibrated.images[:4], intervals=None)
    with pytest.raises(DataError, match="calibrated with another atlas than phantoms"):
        smaller.with_intervals(calibrated.intervals)
    assert calibrated.intervals is not None
    strange = replace(calibrated.intervals, organs={"liver": calibrated.intervals.organs["heart"]})
    with pytest.raises(DataError, match="the atlas phantoms has no liver"):
        calibrated.with_intervals(strange)
    _, about = calibrated.save(tmp_path / "a")
    content = json.loads(about.read_text())
    content["intervals"]["organs"]["heart"]["margin"] = "wide"
    for wrong in (content["intervals"], [], {}):
        about.write_text(json.dumps(content | {"intervals": wrong}))
        with pytest.raises(DataError, match=r"a\.json: these are not intervals of anatozoo: \w"):
            Atlas.load(about)


def test_true_dice_is_measured_as_masks_are_judged(atlas: Atlas) -> None:
    each = atlas.images[1]
    registered = register_to_atlas(each.image, atlas, engine=Shift(), count=1)
    heart, lungs = each.labels == 2, each.labels == 1
    left = lungs & (np.arange(SIDE) < SIDE // 2)
    # The heart of the truth covers the lungs behind it.
    whole = {"lung_right": left, "lung_left": (lungs & ~left) | heart, "heart": heart}
    assert registered.true_dice(each.labels, whole) == {"lungs": 1.0, "heart": 1.0}
    none = np.where(heart, 0, each.labels)
    assert registered.true_dice(none, each.labels) == {"lungs": 1.0, "heart": 0.0}
    unknown = registered.true_dice(each.labels, none)
    assert unknown["lungs"] == 1.0
    assert math.isnan(unknown["heart"])
    assert registered.true_dice({"heart": heart}, each.labels) == {"heart": 1.0}


class Weighted(Shift):
    """An engine with weights."""

    def __init__(self, weights: str) -> None:
        super().__init__()
        self.weights_digest = weights

    def register(self, moving: GridImage, fixed: GridImage) -> RegistrationResult:
        return super().register(moving, fixed)


def test_weights_behind_one_another_are_told_apart(atlas: Atlas) -> None:
    found = {
        register_to_atlas(atlas.images[0].image, atlas, engine=[Weighted(weights), Shift()], count=1).judging
        for weights in "ab"
    }
    assert len(found) == 2

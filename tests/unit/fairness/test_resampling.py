import numpy as np
import pytest
from scipy.stats import permutation_test

from anatozoo.fairness import resampling
from anatozoo.fairness.cells import MeanCells, RowCells
from anatozoo.fairness.resampling import bootstrap_means, difference, interval, permutation_p
from anatozoo.fairness.rows import auc
from anatozoo.metrics.statistics import bootstrap_interval

ONE = np.ones(1)


def cells_of(values, group, subject=None, stratum=None):
    subject = np.arange(len(values)) if subject is None else np.asarray(subject)
    return MeanCells.of(np.asarray(values, float), subject, np.asarray(group), stratum)


def two_groups(n=40, shift=0.0, seed=0):
    draw = np.random.default_rng(seed)
    group = np.arange(n) % 2
    return draw.normal(size=n) + shift * group, group


def test_means_and_patients():
    cells = cells_of([1, 3, 5, 7], [0, 0, 1, 1], subject=[0, 0, 1, 2])
    assert cells.means.tolist() == [[2.0], [6.0]]
    assert cells.patients.tolist() == [[1], [2]]


def test_intervals_of_one_group_are_those_of_the_plain_bootstrap():
    values, _ = two_groups(60)
    ours = interval(bootstrap_means(cells_of(values, np.zeros(60, int)))[:, :, 0], 0.95)
    known = bootstrap_interval(values[:, None])
    assert [end[0] for end in ours] == pytest.approx([end[0] for end in known], abs=0.03)


def test_images_of_a_patient_are_drawn_together():
    draw = np.random.default_rng(1)
    patients = np.repeat(np.arange(10), 8)
    values = draw.normal(size=10)[patients] + 0.01 * draw.normal(size=80)
    group = np.zeros(80, int)
    width = [
        np.ptp(interval(bootstrap_means(cells_of(values, group, s))[:, :, 0], 0.95)) for s in (patients, None)
    ]
    assert width[0] > 2 * width[1]


def test_every_sample_has_as_many_patients_of_a_group():
    cells = cells_of([0, 0, 0, 1], [0, 0, 0, 1])
    draws = bootstrap_means(cells, 200)
    assert not np.isnan(draws).any()
    assert (draws[:, 1, 0] == 1).all()


def test_patients_in_several_groups_are_left_out_of_some_samples():
    # Of the first group's patients one is also in the second, one also in the third.
    values, group = [0.0, 1.0, 5.0, 6.0, 7.0, 8.0], [0, 0, 1, 2, 1, 2]
    draws = bootstrap_means(cells_of(values, group, [0, 1, 0, 1, 2, 3]))[:, 0, 0]
    assert set(np.unique(draws[~np.isnan(draws)])) >= {0.0, 0.5, 1.0}
    low, high = interval(draws[:, None], 0.95)
    assert (low[0], high[0]) == (0.0, 1.0)


def test_intervals_with_patients_in_both_groups_are_those_of_differences():
    draw = np.random.default_rng(0)
    base, change = 10 * draw.normal(size=40), 0.1 + draw.normal(size=40)
    values, group = np.concatenate([base, base + change]), np.repeat([1, 0], 40)
    means = bootstrap_means(cells_of(values, group, np.tile(np.arange(40), 2)))[:, :, 0]
    ours = interval((means[:, 0] - means[:, 1])[:, None], 0.95)
    known = bootstrap_interval(change[:, None])
    assert [end[0] for end in ours] == pytest.approx([end[0] for end in known], abs=0.05)


def test_no_interval_where_most_samples_say_nothing():
    draws = np.array([[1.0, 1.0], [2.0, np.nan], [3.0, np.nan], [4.0, 2.0], [5.0, np.nan]])
    low, high = interval(draws, 1.0)
    assert (low[0], high[0]) == (1.0, 5.0)
    assert np.isnan([low[1], high[1]]).all()


def test_the_same_seed_gives_the_same_draws():
    cells = cells_of(*two_groups())
    assert (bootstrap_means(cells, 50, 3) == bootstrap_means(cells, 50, 3)).all()
    assert (bootstrap_means(cells, 50, 3) != bootstrap_means(cells, 50, 4)).any()


@pytest.mark.parametrize("shift", [0.0, 0.5, 1.5])
def test_permutation_p_is_scipys(shift):
    values, group = two_groups(40, shift)
    known = permutation_test(
        (values[group == 0], values[group == 1]),
        lambda a, b, axis: a.mean(axis) - b.mean(axis),
        n_resamples=5000,
        rng=np.random.default_rng(0),
    ).pvalue
    assert permutation_p(cells_of(values, group), ONE) == pytest.approx(known, abs=0.02)


def test_a_small_exact_case():
    # Of the 20 ways to deal six values to two groups of three, two are as extreme.
    p = permutation_p(cells_of([1, 2, 3, 11, 12, 13], [0, 0, 0, 1, 1, 1]), ONE, 20000)
    assert p == pytest.approx(0.1, abs=0.01)


def test_patients_in_both_groups_change_sides_together():
    # Ten patients with an image in each group, and the same small difference in all of them.
    base = np.random.default_rng(0).normal(size=10) * 10
    values = np.concatenate([base, base + 0.1])
    group, subject = np.repeat([0, 1], 10), np.tile(np.arange(10), 2)
    assert permutation_p(cells_of(values, group, subject), ONE) == pytest.approx(2 / 2**10, abs=0.002)
    assert permutation_p(cells_of(values, group), ONE) > 0.5


def test_strata_take_away_what_they_explain():
    draw = np.random.default_rng(0)
    stratum = np.repeat([0, 1], 100)
    group = np.concatenate([draw.random(100) < 0.8, draw.random(100) < 0.2]).astype(int)
    values = stratum * 2.0 + draw.normal(size=200)
    assert permutation_p(cells_of(values, group), ONE) < 0.01
    cells = cells_of(values, group, stratum=stratum)
    assert abs(difference(cells.means, cells.sizes.sum((0, 1)))) < 0.4
    assert permutation_p(cells, cells.sizes.sum((0, 1))) > 0.05


def test_weights_of_strata_that_are_missing_go_to_the_others():
    means = np.array([[[1.0, 5.0], [0.0, np.nan]]])
    assert difference(means, np.array([1.0, 3.0])).tolist() == [1.0]
    assert np.isnan(difference(np.full((2, 2), np.nan), np.ones(2)))


@pytest.fixture
def few_are_drawn(monkeypatch):
    monkeypatch.setattr(resampling, "_MOST_DRAWN", 64)
    monkeypatch.setattr(resampling, "_FEWEST_BUNDLES", 8)


def many_patients(seed, shift=0.0, n=600):
    """Patients in two strata: most in one group, some in both, and a few who fill no bundle."""
    draw = np.random.default_rng(seed)
    subject = np.concatenate([np.arange(n), np.arange(n // 4)])
    group = np.concatenate([draw.random(n) < 0.3, np.zeros(n // 4)]).astype(int)
    stratum = (subject % 3 == 0).astype(int)
    values = draw.gamma(1.0, size=n)[subject] + draw.normal(size=len(subject)) + stratum + shift * group
    cells = cells_of(values, group, subject, stratum)
    return cells, cells.sizes.sum((0, 1))


def test_p_of_bundles_is_that_of_patients(few_are_drawn, monkeypatch):
    cases = [many_patients(seed, shift) for seed, shift in enumerate((0.0, 0.1, 0.2, 0.3))]
    bundled = [permutation_p(*case, 4000) for case in cases]
    monkeypatch.setattr(resampling, "_MOST_DRAWN", 10**6)
    single = [permutation_p(*case, 4000) for case in cases]
    assert single != bundled
    assert np.abs(np.subtract(bundled, single)).max() < 0.1
    assert bundled[-1] < 0.05


def test_the_test_by_bundles_alarms_as_rarely_as_it_says(few_are_drawn):
    p = np.array([permutation_p(*many_patients(seed, n=300), 99, seed) for seed in range(400)])
    assert [np.mean(p <= level) for level in (0.05, 0.2, 0.5)] == pytest.approx([0.05, 0.2, 0.5], abs=0.06)


def test_a_rare_group_among_many_is_still_found(few_are_drawn):
    draw = np.random.default_rng(0)
    group = (np.arange(3000) < 20).astype(int)
    values = draw.normal(size=3000) + 1.0 * group
    assert permutation_p(cells_of(values, group), ONE, 999) < 0.01


def test_intervals_by_bundles_are_as_wide(few_are_drawn, monkeypatch):
    cells, _ = many_patients(0, n=4000)
    monkeypatch.setattr(resampling, "_MOST_DRAWN", 1024)
    bundled = np.ptp(interval(bootstrap_means(cells), 0.95), axis=0)
    monkeypatch.setattr(resampling, "_MOST_DRAWN", 10**6)
    single = np.ptp(interval(bootstrap_means(cells), 0.95), axis=0)
    assert bundled == pytest.approx(single, rel=0.15)


def test_auc_by_bundles_is_that_of_the_same_rows():
    draw = np.random.default_rng(0)
    label, score = draw.integers(0, 2, 40).astype(float), draw.random(40)
    patient, group = np.arange(40), np.arange(40) % 2
    cells = RowCells.of(auc, np.stack([label, score]), patient, group)
    merged = cells.merged(patient // 4)
    assert len(merged.sizes) == 10
    assert merged.means == pytest.approx(cells.means)
    assert merged.sizes.sum() == 40

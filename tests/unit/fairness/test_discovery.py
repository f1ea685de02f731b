import math

import numpy as np
import pytest

from anatozoo.errors import DataError
from anatozoo.fairness import crossed_gaps, gap_agreement


def test_a_line_is_found():
    true = np.linspace(-0.1, 0.1, 21)
    fit = gap_agreement(true, 0.6 * true - 0.01)
    assert (fit.n, fit.r, fit.slope, fit.intercept) == pytest.approx((21, 1.0, 0.6, -0.01))
    assert fit.mae == pytest.approx(np.abs(0.4 * true + 0.01).mean())


def test_signs_with_thresholds():
    true = [0.05, -0.05, 0.005, 0.005, -0.03]
    estimated = [0.04, -0.02, -0.004, -0.015, 0.03]
    fit = gap_agreement(true, estimated, (0.0, 0.01, 0.1))
    assert [(s.threshold, s.n) for s in fit.signs] == [(0.0, 5), (0.01, 4), (0.1, 0)]
    assert [s.accuracy for s in fit.signs[:2]] == [2 / 5, 2 / 4]
    assert math.isnan(fit.signs[2].accuracy)


def test_crossed_gaps():
    assert crossed_gaps([0.9, 0.8], [0.7, 0.6, 0.5]).round(6).tolist() == [[0.2, 0.3, 0.4], [0.1, 0.2, 0.3]]


def test_too_few_gaps_have_no_correlation():
    fit = gap_agreement([0.1, 0.2], [0.1, 0.2])
    assert math.isnan(fit.r)
    assert fit.signs[0].accuracy == 1.0
    constant = gap_agreement([0.1, 0.2, 0.3], [0.1, 0.1, 0.1])
    assert constant.slope == pytest.approx(0)
    assert math.isnan(constant.r)


@pytest.mark.parametrize(("true", "estimated"), [([0.1], [0.1, 0.2]), ([], []), ([np.nan], [0.1])])
def test_bad_gaps_are_named(true, estimated):
    with pytest.raises(DataError, match="finite and of one shape"):
        gap_agreement(true, estimated)

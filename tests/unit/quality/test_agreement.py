"""Estimated against true quality."""

import numpy as np
import pytest

from anatozoo.errors import DataError
from anatozoo.quality import estimate_agreement


def test_known_values() -> None:
    found = estimate_agreement([0.1, 0.4, 0.7, 1.0], [0.2, 0.3, 0.8, 0.9])
    assert found.n == 4
    assert found.r == pytest.approx(np.corrcoef([0.1, 0.4, 0.7, 1.0], [0.2, 0.3, 0.8, 0.9])[0, 1])
    assert found.mae == pytest.approx(0.1)
    assert found.bias == pytest.approx(0.0)
    assert found.r_low < found.r <= found.r_high + 1e-9


def test_values_of_one_image_are_not_taken_as_independent() -> None:
    draw = np.random.default_rng(3)
    level = draw.normal(size=12)
    truth = np.repeat(level, 20) + 0.05 * draw.normal(size=240)
    estimate = np.repeat(level + 0.6 * draw.normal(size=12), 20)
    alone = estimate_agreement(estimate, truth)
    clustered = estimate_agreement(estimate, truth, list(np.repeat(np.arange(12), 20)))
    assert clustered.r == alone.r
    assert clustered.r_high - clustered.r_low > 2 * (alone.r_high - alone.r_low)


def test_constant_estimates_correlate_with_nothing() -> None:
    found = estimate_agreement([0.5] * 5, [0.1, 0.2, 0.3, 0.4, 0.5])
    assert np.isnan(found.r)
    assert np.isnan(found.r_low)
    assert found.mae == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("estimated", "true"), [([1, 2, 3], [1, 2]), ([1, 2], [1, 2]), ([1, 2, np.nan], [1, 2, 3])]
)
def test_what_cannot_be_compared_is_refused(estimated: list[float], true: list[float]) -> None:
    with pytest.raises(DataError):
        estimate_agreement(estimated, true)

"""The divergence of grey values against SciPy's distance, and where it has no value."""

import math

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from anatozoo.metrics.images import js_divergence


@pytest.mark.parametrize("bins", [8, 64])
def test_it_is_the_square_of_scipys_distance(bins: int) -> None:
    draw = np.random.default_rng(0)
    one, other = draw.beta(2, 5, (3, 40, 30)), draw.beta(3, 3, 500)
    counts = [np.histogram(x, bins, (0, 1))[0] for x in (one, other)]
    assert js_divergence(one, other, bins) == pytest.approx(jensenshannon(*counts, base=2) ** 2, rel=1e-9)
    assert js_divergence(one, other, bins) == pytest.approx(js_divergence(other, one, bins))


def test_alike_is_0_apart_is_1_and_nothing_has_no_value() -> None:
    assert js_divergence([0.1, 0.2], [0.1, 0.2]) == 0
    assert js_divergence([0.1, 0.2], [0.8, 0.9]) == 1
    assert math.isnan(js_divergence([], [0.5]))

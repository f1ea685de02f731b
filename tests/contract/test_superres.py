"""Methods that make fine slices of thick ones answer where those lie."""

import json

import numpy as np

from anatozoo.results.restored import RestoredVolume
from tests.contract.trials import build
from tests.contract.variants import Variant, of

SIZES = [(2, 16, 16), (5, 33, 47), (3, 18, 70)]


@of("restored")
def test_results_lie_where_the_thick_slices_lie(method: str, variant: Variant) -> None:
    module = build(method, variant)
    volumes = [np.random.default_rng(0).random(shape, np.float32) for shape in SIZES]
    for volume, result in zip(volumes, module.predict_batch(volumes, batch_size=2), strict=True):
        assert isinstance(result, RestoredVolume)
        assert result.volume.shape == (volume.shape[0] * module.factor, *volume.shape[1:])
        assert result.spacing_mm is None
        json.dumps(result.to_dict())

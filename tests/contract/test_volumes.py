"""Methods that segment volumes answer on the grid of the source."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from anatozoo.results.volume import VolumeResult
from anatozoo.zoo.golden import run_golden, write_golden
from tests.contract.trials import build
from tests.contract.variants import Variant, of

SIZES = [(5, 40, 33), (8, 32, 32), (11, 61, 47)]


def volume(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).random(shape, np.float32)


def spacing(module: Any) -> dict[str, Any]:
    """What `predict` needs beside an array."""
    return {"spacing_mm": (2.0, 2.0, 2.5)} if module.frame.fit == "spacing" else {}


@of("volume")
def test_results_lie_on_the_source_grid(method: str, variant: Variant) -> None:
    module = build(method, variant)
    for shape in SIZES:
        result = module.predict(volume(shape), whole=False, **spacing(module))
        assert isinstance(result, VolumeResult)
        assert result.mask.shape == shape
        assert list(result.organs) == module.organs
        assert (result.volumes_ml is None) == (result.spacing_mm is None)
        json.dumps(result.to_dict())


@of("volume")
def test_a_golden_file_repeats_the_label_map(method: str, variant: Variant, tmp_path: Path) -> None:
    module = build(method, variant)
    write_golden(module, module.golden_input(), tmp_path, **spacing(module))
    assert run_golden(module, tmp_path).difference == 0

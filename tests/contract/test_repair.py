"""Methods that repair masks take any mask, and answer on its grid."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from anatozoo.results.repair import RepairResult
from anatozoo.zoo.golden import run_golden, write_golden
from tests.contract.trials import build, probabilities
from tests.contract.variants import Variant, of

SIZES = {2: [(64, 64), (61, 97), (200, 33), (16, 40)], 3: [(17, 21, 15), (20, 23, 16), (30, 8, 12)]}


def label_map(module: Any, size: tuple[int, ...]) -> np.ndarray:
    """Blocks of every label."""
    draw = np.random.default_rng(0)
    shape = size[::-1]
    small = draw.integers(0, len(module.organs) + 1, [-(-side // 4) for side in shape])
    return np.kron(small, np.ones([4] * len(shape), int))[tuple(slice(side) for side in shape)].astype(
        np.uint8
    )


def spacing(module: Any) -> float | None:
    return 1.0 if module.frame.fit == "spacing" else None


@of("repair")
def test_empty_and_full_masks_go_through_the_network(method: str, variant: Variant) -> None:
    module = build(method, variant)
    for channel in (0, -1):
        flat = torch.zeros_like(probabilities(module, 2))
        flat[:, channel] = 1
        with torch.no_grad():
            assert bool(module(flat).isfinite().all())


@of("repair")
def test_results_lie_on_the_source_grid(method: str, variant: Variant) -> None:
    module = build(method, variant)
    given = [label_map(module, size) for size in SIZES[len(module.shape)]]
    results = list(module.predict_batch(given, batch_size=2, spacing_mm=spacing(module)))
    for mask, result in zip(given, results, strict=True):
        assert isinstance(result, RepairResult)
        assert result.after.shape == mask.shape
        assert np.array_equal(result.before, mask)
        assert list(result.organs) == module.organs
        assert (result.spacing_mm is None) == (spacing(module) is None)
        json.dumps(result.to_dict(), allow_nan=False)
        alone = module.predict(mask, spacing_mm=spacing(module))
        assert float(np.mean(alone.after != result.after)) <= 2e-3


@of("repair")
def test_a_golden_file_repeats_the_repair(method: str, variant: Variant, tmp_path: Path) -> None:
    module = build(method, variant)
    given = label_map(module, SIZES[len(module.shape)][1])
    step = spacing(module)
    write_golden(module, given, tmp_path, spacing_mm=None if step is None else (step,) * len(module.shape))
    assert run_golden(module, tmp_path).difference == 0

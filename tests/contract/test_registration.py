"""Methods that register images answer on the fixed grid; autoencoders give their label maps back."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from anatozoo.results.field import RegistrationResult
from anatozoo.zoo.golden import run_golden, write_golden
from tests.contract.trials import TRIALS, build, pair
from tests.contract.variants import VARIANTS, Variant, of
from tests.support.phantoms import make_chest_phantom


@of("field")
def test_fields_have_their_shape(method: str, variant: Variant) -> None:
    module = build(method, variant)
    with torch.no_grad():
        answer = module(*pair(module, 3))
    assert answer.field.shape == (3, len(module.shape), *module.shape)
    assert answer.warped.shape == (3, 1, *module.shape)
    assert (answer.inverse is not None) == getattr(module, "velocity", False)
    assert bool(answer.field.isfinite().all())
    assert float(answer.field.abs().max()) > 0.01


@of("field")
@pytest.mark.parametrize("shape", [(61, 97), (16, 33), (17, 16, 19)])
def test_odd_sizes_go_through_the_network(method: str, variant: Variant, shape: tuple[int, ...]) -> None:
    module = build(method, variant)
    if len(shape) != len(module.shape):
        pytest.skip("another number of dimensions")
    with torch.no_grad():
        answer = module.network(*pair(module, 1, shape))
    assert answer.field.shape == (1, len(shape), *shape)


def _pair(module: Any, moving: tuple[int, ...], fixed: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    if len(module.shape) == 2:
        return tuple(make_chest_phantom(*size, noise=5.0).image for size in (moving, fixed))  # type: ignore[return-value]
    draw = np.random.default_rng(0)
    return tuple(  # type: ignore[return-value]
        np.kron(draw.random([-(-s // 4) for s in size[::-1]]), np.ones((4, 4, 4)))[
            tuple(slice(s) for s in size[::-1])
        ]
        for size in (moving, fixed)
    )


@of("field")
@pytest.mark.parametrize(
    ("moving", "fixed"), [((61, 97), (64, 96)), ((200, 133), (200, 133)), ((17, 21, 15), (20, 23, 16))]
)
def test_results_lie_on_the_fixed_grid(
    method: str, variant: Variant, moving: tuple[int, ...], fixed: tuple[int, ...]
) -> None:
    module = build(method, variant)
    if len(moving) != len(module.shape):
        pytest.skip("another number of dimensions")
    a, b = _pair(module, moving, fixed)
    result = module.predict(a, b)
    assert isinstance(result, RegistrationResult)
    assert (result.moving_grid.size, result.fixed_grid.size) == (moving, fixed)
    assert result.displacement_px.shape == (*fixed[::-1], len(fixed))
    assert result.warped.shape == result.jacobian.shape == fixed[::-1]
    assert result.displacement_mm is None
    assert result.warp(np.ones(moving[::-1], np.uint8)).shape == fixed[::-1]
    json.dumps(result.to_dict())
    with torch.no_grad():
        torch.manual_seed(5)
        again = module.predict(a, b)
    np.testing.assert_array_equal(again.displacement_px, result.displacement_px)


@of("codes")
def test_label_maps_come_back_in_their_shape(method: str, variant: Variant) -> None:
    module = build(method, variant)
    with torch.no_grad():
        code, logits = module(*TRIALS["codes"].inputs(module, 3))
    assert code.shape == (3, module.code)
    assert logits.shape == (3, len(module.organs) + 1, *module.shape)


@pytest.mark.parametrize(("method", "name"), [("acregnet", "paper"), ("affinereg", "rigid")])
def test_a_golden_file_repeats_the_field(method: str, name: str, tmp_path: Path) -> None:
    module = build(method, VARIANTS[method][name])
    a, b = _pair(module, (61, 97), (64, 96))
    write_golden(module, {"moving": a, "fixed": b}, tmp_path)
    assert run_golden(module, tmp_path).difference == 0
    write_golden(module, {"moving": a, "fixed": b}, tmp_path, spacing_mm=(2.0, 3.0))
    assert run_golden(module, tmp_path).difference == 0
    assert module.predict(a, b, moving_spacing_mm=(2, 3), fixed_spacing_mm=(2, 3)).displacement_mm is not None

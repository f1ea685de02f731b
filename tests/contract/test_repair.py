"""Every registered method that repairs masks keeps the promises of the zoo."""

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from anatozoo.results.repair import RepairResult
from anatozoo.zoo.checkpoint import build_module, write_checkpoint_folder
from anatozoo.zoo.golden import run_golden, write_golden
from anatozoo.zoo.registry import METHODS
from tests.contract.variants import Variant, cases, training_terms

_NARROW = {"organs": ["a", "b", "c"], "widths": [4, 8, 8, 8, 8], "code": 8, "skips": [4, 8]}
_VOLUME = {"organs": ["a", "b"], "widths": [4, 8, 8], "code": 8, "frame": {"size": [16, 24, 16]}}
REPAIR: dict[str, dict[str, Variant]] = {
    "postdae": {
        "paper": Variant(
            {
                "architecture": "paper",
                "widths": [8, 8, 8],
                "code": 32,
                "ce_weight": 0.0,
                "frame": {"size": 64},
            },
            quick=True,
        ),
        "residual": Variant(
            {**_NARROW, "architecture": "residual", "organ_weights": [1, 2, 3], "frame": {"size": 64}}
        ),
        "skip": Variant({**_NARROW, "frame": {"size": 64}}, quick=True),
        "every skip": Variant({**_NARROW, "skips": [1, 2, 4, 8, 16, 32], "frame": {"size": [32, 96]}}),
        "stretched": Variant({**_NARROW, "frame": {"size": [64, 96], "fit": "stretch"}}),
        "metric": Variant({**_NARROW, "frame": {"size": 64, "fit": "spacing", "spacing_mm": [1.0, 1.0]}}),
        "volume": Variant({**_VOLUME, "skips": [1, 2, 4, 8]}),
        "volume by the paper": Variant({**_VOLUME, "architecture": "paper"}),
    }
}
SIZES = {2: [(64, 64), (61, 97), (200, 33), (16, 40)], 3: [(17, 21, 15), (20, 23, 16), (30, 8, 12)]}


every_variant, costly = cases(REPAIR), cases(REPAIR, expensive=True)


def build(method: str, variant: Variant) -> Any:
    """A module in evaluation mode."""
    torch.manual_seed(0)
    return METHODS[method].module_class()(**variant.settings).eval()


def masks(module: Any, count: int = 2, seed: int = 1) -> Tensor:
    """Probabilities (B, 1 + organs, ...), background first."""
    draw = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(count, 1 + len(module.organs), *module.shape, generator=draw)).softmax(1)


def batch_for(module: Any) -> dict[str, Tensor]:
    """A training batch of two."""
    return {
        "noisy": masks(module),
        "clean": masks(module, seed=2),
        "kind": torch.zeros(2, dtype=torch.long),
        "index": torch.arange(2),
    }


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


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    yield
    torch._dynamo.reset()


def test_every_method_has_variants_to_test() -> None:
    assert set(REPAIR) == {name for name, entry in METHODS.items() if entry.kind.name == "repair"}
    for variants in REPAIR.values():
        assert sum(variant.quick for variant in variants.values()) >= 2


@every_variant
def test_logits_have_their_shape(method: str, variant: Variant) -> None:
    module = build(method, variant)
    with torch.no_grad():
        found = module(masks(module, 3))
    assert found.shape == (3, 1 + len(module.organs), *module.shape)
    assert found.dtype == torch.float32
    assert bool(found.isfinite().all())


@every_variant
def test_every_trainable_parameter_gets_a_gradient(method: str, variant: Variant) -> None:
    module = build(method, variant).train()
    batch = batch_for(module)
    torch.stack(list(training_terms(module, variant, batch).values())).sum().backward()
    without = [n for n, p in module.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without
    assert all(bool(p.grad.isfinite().all()) for p in module.parameters())


@every_variant
def test_a_batch_gives_what_single_masks_give(method: str, variant: Variant) -> None:
    module = build(method, variant)
    with torch.no_grad():
        together = module(masks(module, 3))
        alone = torch.cat([module(mask[None]) for mask in masks(module, 3)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-4)


@every_variant
def test_evaluation_is_deterministic(method: str, variant: Variant) -> None:
    module = build(method, variant)
    with torch.no_grad():
        torch.manual_seed(1)
        first = module(masks(module))
        torch.manual_seed(2)
        assert torch.equal(module(masks(module)), first)


@every_variant
def test_empty_and_full_masks_go_through_the_network(method: str, variant: Variant) -> None:
    module = build(method, variant)
    for channel in (0, -1):
        flat = torch.zeros_like(masks(module))
        flat[:, channel] = 1
        with torch.no_grad():
            assert bool(module(flat).isfinite().all())


@every_variant
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


@every_variant
def test_a_checkpoint_folder_gives_the_module_back(method: str, variant: Variant, tmp_path: Path) -> None:
    module = build(method, variant)
    write_checkpoint_folder(module, tmp_path, name=f"{method}-test", version="1.2.3", half=False)
    loaded: Any = build_module(tmp_path)
    assert (loaded.checkpoint_name, loaded.checkpoint_version) == (f"{method}-test", "1.2.3")
    assert loaded.settings() == module.settings()
    with torch.no_grad():
        assert torch.equal(loaded(masks(module)), module(masks(module)))


@every_variant
def test_a_golden_file_repeats_the_repair(method: str, variant: Variant, tmp_path: Path) -> None:
    module = build(method, variant)
    given = label_map(module, SIZES[len(module.shape)][1])
    step = spacing(module)
    write_golden(module, given, tmp_path, spacing_mm=None if step is None else (step,) * len(module.shape))
    assert run_golden(module, tmp_path).difference == 0


@every_variant
def test_hyper_parameters_are_json(method: str, variant: Variant) -> None:
    hparams = dict(build(method, variant).hparams)
    assert json.loads(json.dumps(hparams)) == hparams


@every_variant
def test_half_precision_runs_and_is_near(method: str, variant: Variant) -> None:
    module = build(method, variant)
    with torch.no_grad():
        full = module(masks(module))
        with torch.autocast("cpu", torch.bfloat16):
            half = module(masks(module))
    assert half.dtype == torch.float32
    assert float((half - full).std() / full.std()) < 0.2


@every_variant
def test_training_in_half_precision_has_finite_gradients(method: str, variant: Variant) -> None:
    module, batch = build(method, variant).train(), None
    batch = batch_for(module)
    with torch.autocast("cpu", torch.bfloat16):
        torch.stack(list(training_terms(module, variant, batch).values())).sum().backward()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in module.parameters())


@costly
def test_exports_for_any_batch_size(method: str, variant: Variant) -> None:
    module = build(method, variant)
    sizes = {0: torch.export.Dim("batch", min=1, max=64)}
    exported = torch.export.export(
        module.network, (masks(module, 3),), dynamic_shapes=(sizes,), strict=True
    ).module()
    for count in (1, 5):
        with torch.no_grad():
            expected, found = module.network(masks(module, count)), exported(masks(module, count))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@costly
def test_compiles_without_a_break_in_evaluation_and_training(method: str, variant: Variant) -> None:
    module = build(method, variant)
    compiled = torch.compile(module.network, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(masks(module)), module.network(masks(module)), rtol=0, atol=1e-4)
    module.train()
    compiled(masks(module)).square().sum().backward()
    assert any(p.grad is not None and bool(p.grad.any()) for p in module.parameters())


@pytest.mark.slow
@every_variant
def test_compiles_to_machine_code(method: str, variant: Variant) -> None:
    module = build(method, variant)
    compiled = torch.compile(module.network, fullgraph=True)
    with torch.no_grad(), warnings.catch_warnings():
        # Deprecations inside the compiler are its own.
        warnings.simplefilter("ignore")
        torch.testing.assert_close(compiled(masks(module)), module.network(masks(module)), rtol=0, atol=1e-3)

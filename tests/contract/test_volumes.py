"""Every registered method that segments volumes keeps the promises of the zoo."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from anatozoo.metrics.cases import case_row
from anatozoo.results.draw.cases import case_picture
from anatozoo.results.volume import VolumeResult
from anatozoo.zoo.checkpoint import build_module, write_checkpoint_folder
from anatozoo.zoo.golden import run_golden, write_golden
from anatozoo.zoo.registry import METHODS
from tests.contract.variants import VOLUMES, Variant, build_without_zeros, cases, training_terms

SIZES = [(5, 40, 33), (8, 32, 32), (11, 61, 47)]


every_variant, costly = cases(VOLUMES), cases(VOLUMES, expensive=True)


def build(method: str, variant: Variant) -> Any:
    """A module of which no layer is zero, in evaluation mode."""
    return build_without_zeros(method, variant).eval()


def terms_of(module: Any, variant: Variant) -> dict[str, Tensor]:
    return training_terms(module, variant, batch_for(module), "acnnprior", widths=[4, 8], code=6)


def images(module: Any, count: int = 2) -> Tensor:
    return torch.rand(count, 1, *module.shape, generator=torch.Generator().manual_seed(1))


def batch_for(module: Any) -> dict[str, Tensor]:
    """A training batch of two images with label maps."""
    draw = torch.Generator().manual_seed(2)
    labels = torch.randint(0, len(module.organs) + 1, (2, *module.shape), generator=draw)
    return {"image": images(module), "labels": labels, "index": torch.arange(2)}


def volume(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).random(shape, np.float32)


def spacing(module: Any) -> dict[str, Any]:
    """What `predict` needs beside an array."""
    return {"spacing_mm": (2.0, 2.0, 2.5)} if module.frame.fit == "spacing" else {}


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    yield
    torch._dynamo.reset()


def test_every_method_has_variants_to_test() -> None:
    kinds = {name: METHODS[name] for name in VOLUMES}
    assert all(entry.kind.name == "volume" for entry in kinds.values())
    for variants in VOLUMES.values():
        assert sum(variant.quick for variant in variants.values()) >= 2


@every_variant
def test_predictions_have_their_shape(method: str, variant: Variant) -> None:
    module = build(method, variant)
    with torch.no_grad():
        found = module(images(module, 3))
    assert found.shape == (3, len(module.organs) + 1, *module.shape)
    assert bool(found.isfinite().all())


@every_variant
def test_every_trainable_parameter_gets_a_gradient(method: str, variant: Variant) -> None:
    module = build(method, variant).train()
    terms = terms_of(module, variant)
    torch.stack(list(terms.values())).sum().backward()
    assert ("shape" in terms) == bool(variant.shape_weight)
    without = [name for name, p in module.named_parameters() if p.grad is None]
    assert not without
    assert all(bool(p.grad.isfinite().all()) for p in module.parameters())
    assert sum(bool(p.grad.any()) for p in module.parameters()) > 1


@every_variant
def test_a_validation_batch_becomes_values_and_cases(method: str, variant: Variant) -> None:
    module = build(method, variant)
    batch = batch_for(module)
    with torch.no_grad():
        output = module.validation_step(batch, 0)["output"]
        values, found = module.measure(output, batch), module.cases(output, batch)
    assert values.shape == (2, len(module.columns()))
    assert len(found) == 2
    for case in found:
        assert case.prediction.size == case.reference.size == module.shape[::-1]
        assert {f"dice/{label}" for label in module.organs} <= set(case_row(case))
        assert case_picture(case).image.ndim == 2


@every_variant
def test_a_batch_gives_what_single_images_give(method: str, variant: Variant) -> None:
    module = build(method, variant)
    with torch.no_grad():
        together = module(images(module, 3))
        alone = torch.cat([module(image[None]) for image in images(module, 3)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-4)


@every_variant
def test_evaluation_is_deterministic(method: str, variant: Variant) -> None:
    module = build(method, variant)
    with torch.no_grad():
        torch.manual_seed(1)
        first = module(images(module))
        torch.manual_seed(2)
        assert torch.equal(module(images(module)), first)


@every_variant
def test_results_lie_on_the_source_grid(method: str, variant: Variant) -> None:
    module = build(method, variant)
    for shape in SIZES:
        result = module.predict(volume(shape), whole=False, **spacing(module))
        assert isinstance(result, VolumeResult)
        assert result.mask.shape == shape
        assert list(result.organs) == module.organs
        assert (result.volumes_ml is None) == (result.spacing_mm is None)
        json.dumps(result.to_dict())


@every_variant
def test_a_checkpoint_folder_gives_the_module_back(method: str, variant: Variant, tmp_path: Path) -> None:
    module = build(method, variant)
    write_checkpoint_folder(module, tmp_path, name=f"{method}-test", version="1.2.3", half=False)
    loaded: Any = build_module(tmp_path)
    assert (loaded.checkpoint_name, loaded.checkpoint_version) == (f"{method}-test", "1.2.3")
    assert loaded.settings() == module.settings()
    with torch.no_grad():
        assert torch.equal(loaded(images(module)), module(images(module)))


@every_variant
def test_a_golden_file_repeats_the_label_map(method: str, variant: Variant, tmp_path: Path) -> None:
    module = build(method, variant)
    write_golden(module, module.golden_input(), tmp_path, **spacing(module))
    assert run_golden(module, tmp_path).difference == 0


@every_variant
def test_hyper_parameters_are_json(method: str, variant: Variant) -> None:
    hparams = dict(build(method, variant).hparams)
    assert json.loads(json.dumps(hparams)) == hparams


@every_variant
def test_half_precision_runs_and_is_near(method: str, variant: Variant) -> None:
    module = build(method, variant)
    with torch.no_grad():
        full = module(images(module))
        with torch.autocast("cpu", torch.bfloat16):
            half = module(images(module)).float()
    assert float((half - full).std() / full.std()) < 0.2


@every_variant
def test_training_in_half_precision_has_finite_gradients(method: str, variant: Variant) -> None:
    module = build(method, variant).train()
    with torch.autocast("cpu", torch.bfloat16):
        terms = terms_of(module, variant)
        torch.stack(list(terms.values())).sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in module.parameters() if p.grad is not None)


# MONAI's DynUNet notes its heads while it computes, of which evaluation sees nothing.
@pytest.mark.filterwarnings("ignore:While compiling, we found certain side effects")
@costly
def test_exports_for_any_batch_size(method: str, variant: Variant) -> None:
    module = build(method, variant)
    sizes = {0: torch.export.Dim("batch", min=1, max=64)}
    program = torch.export.export(module.network, (images(module, 3),), dynamic_shapes=(sizes,), strict=True)
    exported = program.module()
    for count in (1, 5):
        image = images(module, count)
        with torch.no_grad():
            torch.testing.assert_close(exported(image), module.network(image), rtol=0, atol=1e-4)

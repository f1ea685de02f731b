"""Every registered method that makes fine slices of thick ones keeps the promises of the zoo."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from anatozoo.results.draw.cases import case_picture
from anatozoo.results.restored import RestoredVolume
from anatozoo.zoo.checkpoint import build_module, write_checkpoint_folder
from anatozoo.zoo.registry import METHODS
from tests.contract.variants import Variant, build_without_zeros, cases, training_terms

_FRAME = {"frame": {"size": [12, 16, 16], "fit": "spacing", "spacing_mm": [1.0, 1.0, 2.0]}}
SUPERRES: dict[str, dict[str, Variant]] = {
    "acnnsr": {
        "published": Variant(
            {
                **_FRAME,
                "factor": 3,
                "architecture": "transposed",
                "width": 8,
                "depth": 1,
            },
            quick=True,
            shape_weight=0.1,
        ),
        "modern": Variant({**_FRAME, "factor": 4, "width": 8, "depth": 2}, quick=True),
    }
}
SIZES = [(2, 16, 16), (5, 33, 47), (3, 18, 70)]


every_variant, costly = cases(SUPERRES), cases(SUPERRES, expensive=True)


def build(method: str, variant: Variant) -> Any:
    """A module of which no layer is zero, in evaluation mode."""
    return build_without_zeros(method, variant).eval()


def terms_of(module: Any, variant: Variant) -> dict[str, Tensor]:
    return training_terms(module, variant, batch_for(module), "acnntl", widths=[4, 8], code=6)


def images(module: Any, count: int = 2) -> Tensor:
    """Thick slices."""
    depth, height, width = module.shape
    draw = torch.Generator().manual_seed(1)
    return torch.rand(count, 1, depth // module.factor, height, width, generator=draw)


def batch_for(module: Any) -> dict[str, Tensor]:
    """A training batch of two; the second volume does not fill the frame."""
    draw = torch.Generator().manual_seed(2)
    inside = torch.ones(2, *module.shape, dtype=torch.bool)
    inside[1, :, :3] = False
    target = torch.rand(2, 1, *module.shape, generator=draw)
    return {"image": images(module), "target": target, "inside": inside, "index": torch.arange(2)}


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    yield
    torch._dynamo.reset()


def test_every_method_has_variants_to_test() -> None:
    assert set(SUPERRES) == {name for name, entry in METHODS.items() if entry.kind.name == "restored"}


@every_variant
def test_answers_have_their_shape(method: str, variant: Variant) -> None:
    module = build(method, variant)
    with torch.no_grad():
        found = module(images(module, 3))
    assert found.shape == (3, 1, *module.shape)
    assert bool(found.isfinite().all())


@every_variant
def test_every_trainable_parameter_gets_a_gradient(method: str, variant: Variant) -> None:
    module = build(method, variant).train()
    terms = terms_of(module, variant)
    torch.stack(list(terms.values())).sum().backward()
    assert ("shape" in terms) == bool(variant.shape_weight)
    assert not [n for n, p in module.named_parameters() if p.grad is None or not p.grad.any()]
    assert all(bool(p.grad.isfinite().all()) for p in module.parameters())


@every_variant
def test_a_validation_batch_becomes_values_and_cases(method: str, variant: Variant) -> None:
    module = build(method, variant)
    batch = batch_for(module)
    with torch.no_grad():
        output = module.validation_step(batch, 0)["output"]
        values, found = module.measure(output, batch), module.cases(output, batch)
    assert values.shape == (2, len(module.columns()))
    assert bool(values.isfinite().all())
    for case, row in zip(found, values.tolist(), strict=True):
        assert case.numbers == dict(zip(module.columns(), row, strict=True))
        assert case_picture(case).image.ndim == 2


@every_variant
def test_a_batch_gives_what_single_images_give(method: str, variant: Variant) -> None:
    module = build(method, variant)
    with torch.no_grad():
        together = module(images(module, 3))
        alone = torch.cat([module(image[None]) for image in images(module, 3)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


@every_variant
def test_evaluation_is_deterministic(method: str, variant: Variant) -> None:
    module = build(method, variant)
    with torch.no_grad():
        torch.manual_seed(1)
        first = module(images(module))
        torch.manual_seed(2)
        assert torch.equal(module(images(module)), first)


@every_variant
def test_results_lie_where_the_thick_slices_lie(method: str, variant: Variant) -> None:
    module = build(method, variant)
    volumes = [np.random.default_rng(0).random(shape, np.float32) for shape in SIZES]
    for volume, result in zip(volumes, module.predict_batch(volumes, batch_size=2), strict=True):
        assert isinstance(result, RestoredVolume)
        assert result.volume.shape == (volume.shape[0] * module.factor, *volume.shape[1:])
        assert result.spacing_mm is None
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
def test_hyper_parameters_are_json(method: str, variant: Variant) -> None:
    hparams = dict(build(method, variant).hparams)
    assert json.loads(json.dumps(hparams)) == hparams


@every_variant
def test_half_precision_runs_and_is_near(method: str, variant: Variant) -> None:
    module = build(method, variant)
    with torch.no_grad():
        full = module(images(module))
        with torch.autocast("cpu", torch.bfloat16):
            half = module(images(module))
    assert half.dtype == torch.float32
    assert float((half - full).std() / full.std()) < 0.05


@every_variant
def test_training_in_half_precision_has_finite_gradients(method: str, variant: Variant) -> None:
    module = build(method, variant).train()
    with torch.autocast("cpu", torch.bfloat16):
        terms = terms_of(module, variant)
        torch.stack(list(terms.values())).sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in module.parameters() if p.grad is not None)


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

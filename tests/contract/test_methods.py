"""Every registered method keeps the promises of the zoo."""

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from anatozoo.nn.graphs import organ_slices
from anatozoo.results import SegmentationResult
from anatozoo.zoo.checkpoint import build_module, write_checkpoint_folder
from anatozoo.zoo.registry import METHODS
from tests.contract.variants import VARIANTS, Variant
from tests.phantoms import make_chest_phantom

SIZES = [(64, 64), (61, 97), (200, 33), (16, 40)]


def cases(*, expensive: bool = False) -> list[Any]:
    """All variants of all methods; where a check is expensive, most of them are left to ``-m slow``."""
    return [
        pytest.param(
            method,
            variant,
            id=f"{method}-{name}",
            marks=[pytest.mark.slow] * (expensive and not variant.quick),
        )
        for method in METHODS
        for name, variant in VARIANTS.get(method, {}).items()
    ]


every_variant = pytest.mark.parametrize(("method", "variant"), cases())
costly = pytest.mark.parametrize(("method", "variant"), cases(expensive=True))


def build(method: str, variant: Variant) -> Any:
    """A module of which no layer is zero, in evaluation mode."""
    torch.manual_seed(0)
    module = METHODS[method].module_class()(**variant.settings)
    with torch.no_grad():
        for parameter in module.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.02)
    return module.eval()


def images(module: Any, count: int = 2) -> Tensor:
    size = module.image_size
    return torch.rand(count, 1, size, size, generator=torch.Generator().manual_seed(1))


def batch_for(module: Any) -> dict[str, Tensor]:
    """A training batch with landmarks and masks for everything that the module learns."""
    nodes, size = sum(module.organs.values()), module.image_size
    channels = len(module.dense_organs)
    draw = torch.Generator().manual_seed(2)
    weight = torch.ones(2, nodes)
    weight[1, : nodes // 2] = 0
    return {
        "image": images(module),
        "landmarks": torch.rand(2, nodes, 2, generator=draw),
        "landmark_weight": weight,
        "masks": (torch.rand(2, channels, size // 4, size // 4, generator=draw) > 0.5).float(),
        "mask_weight": torch.tensor([[0.0], [1.0]]).expand(2, channels).contiguous(),
        "index": torch.arange(2),
    }


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    yield
    torch._dynamo.reset()


def test_every_method_has_variants_to_test() -> None:
    assert set(METHODS) == set(VARIANTS)
    for variants in VARIANTS.values():
        assert sum(variant.quick for variant in variants.values()) >= 2


@every_variant
def test_landmarks_have_their_shape(method: str, variant: Variant) -> None:
    module = build(method, variant)
    with torch.no_grad():
        landmarks = module.forward_landmarks(images(module, 3))
    assert landmarks.shape == (3, sum(module.organs.values()), 2)
    assert bool(landmarks.isfinite().all())


@every_variant
def test_every_trainable_parameter_gets_a_gradient(method: str, variant: Variant) -> None:
    module = build(method, variant).train()
    terms = module.losses(module(images(module)), batch_for(module))
    torch.stack(list(terms.values())).sum().backward()
    without = [
        name
        for name, parameter in module.named_parameters()
        if parameter.requires_grad and (parameter.grad is None or not parameter.grad.any())
    ]
    assert not without
    assert all(bool(p.grad.isfinite().all()) for p in module.parameters() if p.grad is not None)


@every_variant
def test_a_batch_gives_what_single_images_give(method: str, variant: Variant) -> None:
    if not variant.exact:
        pytest.skip("documented: rounding of a position changes the result")
    module = build(method, variant)
    with torch.no_grad():
        together = module.forward_landmarks(images(module, 3))
        alone = torch.cat([module.forward_landmarks(image[None]) for image in images(module, 3)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


@every_variant
def test_evaluation_is_deterministic(method: str, variant: Variant) -> None:
    module = build(method, variant)
    with torch.no_grad():
        torch.manual_seed(1)
        first = module.forward_landmarks(images(module))
        torch.manual_seed(2)
        assert torch.equal(module.forward_landmarks(images(module)), first)


@every_variant
def test_results_lie_on_the_source_grid(method: str, variant: Variant) -> None:
    module = build(method, variant)
    sources = [make_chest_phantom(*size, noise=20.0).image for size in SIZES]
    results = list(module.predict_batch(sources, batch_size=2))
    for (width, height), source, result in zip(SIZES, sources, results, strict=True):
        assert isinstance(result, SegmentationResult)
        assert result.size == (width, height)
        assert result.mask.shape == (height, width)
        assert result.spacing_mm is None
        assert result.landmarks_mm is None
        assert {organ: len(points) for organ, points in result.landmarks.items()} == module.organs
        json.dumps(result.to_dict())
        if variant.exact:
            alone = module.predict(source)
            for organ, points in alone.landmarks.items():
                np.testing.assert_allclose(result.landmarks[organ], points, atol=2e-3)


@every_variant
def test_the_middle_of_the_frame_is_the_middle_of_the_image(
    method: str, variant: Variant, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = build(method, variant)
    size, nodes = module.image_size, sum(module.organs.values())
    middle = torch.full((1, nodes, 2), (size - 1) / 2 / size)
    monkeypatch.setattr(module, "forward_landmarks", lambda image: middle.expand(len(image), -1, -1))
    result = module.predict(make_chest_phantom(101, 60).image)
    for organ in organ_slices(module.organs):
        np.testing.assert_allclose(
            result.landmarks[organ], np.tile([50, 29.5], (module.organs[organ], 1)), atol=1e-4
        )


@every_variant
def test_a_checkpoint_folder_gives_the_module_back(method: str, variant: Variant, tmp_path: Path) -> None:
    module = build(method, variant)
    write_checkpoint_folder(module, tmp_path, name=f"{method}-test", version="1.2.3", half=False)
    loaded: Any = build_module(tmp_path)
    assert (loaded.checkpoint_name, loaded.checkpoint_version) == (f"{method}-test", "1.2.3")
    assert dict(loaded.hparams) == dict(module.hparams)
    with torch.no_grad():
        expected = module.forward_landmarks(images(module))
        assert torch.equal(loaded.forward_landmarks(images(module)), expected)


@every_variant
def test_hyper_parameters_are_json(method: str, variant: Variant) -> None:
    hparams = dict(build(method, variant).hparams)
    assert json.loads(json.dumps(hparams)) == hparams


@every_variant
def test_half_precision_runs_and_is_near(method: str, variant: Variant) -> None:
    module = build(method, variant)
    with torch.no_grad():
        full = module.forward_landmarks(images(module))
        with torch.autocast("cpu", torch.bfloat16):
            half = module.forward_landmarks(images(module))
    assert half.dtype == torch.float32
    # Random weights amplify rounding far more than trained ones: only nonsense can be told apart here.
    assert float((half - full).std() / full.std()) < 0.5


@every_variant
def test_training_in_half_precision_has_finite_gradients(method: str, variant: Variant) -> None:
    module = build(method, variant).train()
    with torch.autocast("cpu", torch.bfloat16):
        terms = module.losses(module(images(module)), batch_for(module))
        torch.stack(list(terms.values())).sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in module.parameters() if p.grad is not None)


@costly
def test_exports_for_any_batch_size(method: str, variant: Variant) -> None:
    module = build(method, variant)
    sizes = {0: torch.export.Dim("batch", min=1, max=64)}
    program = torch.export.export(module.network, (images(module, 3),), dynamic_shapes=(sizes,), strict=True)
    exported = program.module()
    for count in (1, 3, 5):
        image = images(module, count)
        with torch.no_grad():
            expected, found = module.network(image).landmarks, exported(image).landmarks
        assert found.shape == expected.shape
        if variant.exact:
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@costly
def test_compiles_without_a_break_in_evaluation_and_training(method: str, variant: Variant) -> None:
    module = build(method, variant)
    image = images(module)
    compiled = torch.compile(module.network, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        torch.testing.assert_close(
            compiled(image).landmarks, module.network(image).landmarks, rtol=0, atol=1e-5
        )
    module.train()
    compiled(image).landmarks.sum().backward()
    assert any(p.grad is not None and bool(p.grad.any()) for p in module.parameters())


@pytest.mark.slow
@every_variant
def test_compiles_to_machine_code(method: str, variant: Variant) -> None:
    module = build(method, variant)
    image = images(module)
    compiled = torch.compile(module.network, fullgraph=True)
    with torch.no_grad(), warnings.catch_warnings():
        # Deprecations inside the compiler are its own.
        warnings.simplefilter("ignore")
        found = compiled(image).landmarks
        expected = module.network(image).landmarks
    if variant.exact:
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)

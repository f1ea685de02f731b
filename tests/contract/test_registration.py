"""Every registered method that registers images or models shapes keeps the promises of the zoo."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from anatozoo.metrics.cases import case_row
from anatozoo.nn.labels import one_hot
from anatozoo.results.draw.cases import case_picture
from anatozoo.results.field import RegistrationResult
from anatozoo.zoo.checkpoint import build_module, write_checkpoint_folder
from anatozoo.zoo.golden import run_golden, write_golden
from anatozoo.zoo.registry import METHODS
from tests.contract.variants import Variant, training_terms
from tests.support.phantoms import make_chest_phantom

_NO_LABELS = {"organs": [], "label_weight": 0.0}
# Where the deepest maps have a side of 2, torch's 3-D convolutions on a CPU leave parts of their weights'
# gradient in bfloat16 as they find the memory.
_VOLUME = {"frame": {"size": [24, 32, 24]}}
_SMALL = {"widths": [4, 8, 8], "latent": 8, "hidden": 16, "cells": 2, "frame": {"size": 32}}
REGISTRATION: dict[str, dict[str, Variant]] = {
    "acregnet": {
        "paper": Variant({"frame": {"size": 32}}, quick=True, shape_weight=0.1),
        "port": Variant(
            {"normalization": "output", "double_elu": True, "smoothness": "tv_mean", "frame": {"size": 32}},
            shape_weight=0.1,
        ),
        "regnet": Variant(
            {**_NO_LABELS, "normalization": "none", "similarity": "lncc", "frame": {"size": 32}}
        ),
        "ceregnet": Variant({"smoothness": "bending", "frame": {"size": [32, 48]}}),
        "aeregnet": Variant(
            {"label_weight": 0.0, "similarity": "mse", "frame": {"size": 32}}, shape_weight=0.1
        ),
        "velocity": Variant(
            {
                "velocity": True,
                "levels": 2,
                "label_loss": "dice",
                "normalization": "none",
                "frame": {"size": 32},
            },
            quick=True,
            shape_weight=0.1,
        ),
        "volume": Variant(
            {**_VOLUME, "velocity": True, "similarity": "mi", "smoothness": "diffusion"}, shape_weight=0.1
        ),
    },
    "affinereg": {
        "published": Variant(
            {**_SMALL, "widths": [4, 8, 8, 16], "cells": 4, "frame": {"size": 64}}, quick=True
        ),
        "rigid": Variant({**_SMALL, "transform": "rigid", "label_weight": 0.0, "frame": {"size": [32, 48]}}),
        "images": Variant({**_SMALL, "organs": [], "label_weight": 0.0, "similarity": "lncc"}),
        "plain latents": Variant({**_SMALL, "kl_weight": 0.0, "label_loss": "cross_entropy"}, quick=True),
    },
}
SHAPE: dict[str, dict[str, Variant]] = {
    "aenet": {
        "paper": Variant({"frame": {"size": 64}}, quick=True),
        "volume": Variant({**_VOLUME, "organs": ["a", "b", "c"], "code": 8}),
    },
    "acnnprior": {
        "volume": Variant(
            {"widths": [4, 8], "code": 6, "frame": {"size": [8, 32, 32], "fit": "slices", "long_side": 40}},
            quick=True,
        ),
        "plane": Variant({"organs": ["a"], "code": 8, "frame": {"size": 64, "fit": "pad"}}),
    },
}


def parametrize(table: dict[str, dict[str, Variant]], *, expensive: bool = False) -> Any:
    """All variants; where a check is expensive, most of them are left to ``-m slow``."""
    return pytest.mark.parametrize(
        ("method", "variant"),
        [
            pytest.param(
                method,
                variant,
                id=f"{method}-{name}",
                marks=[pytest.mark.slow] * (expensive and not variant.quick),
            )
            for method, variants in table.items()
            for name, variant in variants.items()
        ],
    )


every_registration = parametrize(REGISTRATION)
every_shape = parametrize(SHAPE)
every_module = parametrize(REGISTRATION | SHAPE)
costly_module = parametrize(REGISTRATION | SHAPE, expensive=True)


def build(method: str, variant: Variant) -> Any:
    """A module whose field is neither zero nor wild, in evaluation mode."""
    torch.manual_seed(0)
    module = METHODS[method].module_class()(**variant.settings)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if not parameter.any() or name.endswith("head.conv.weight"):
                parameter.normal_(0, 0.2)
    return module.eval()


def inputs(module: Any, count: int = 2, shape: tuple[int, ...] | None = None) -> tuple[Tensor, ...]:
    """What the network takes: two images, or one-hot labels."""
    draw = torch.Generator().manual_seed(1)
    size = (count, 1, *(shape or module.shape))
    if METHODS[method_of(module)].kind.name == "codes":
        labels = torch.randint(0, len(module.organs) + 1, size, generator=draw)[:, 0]
        return (one_hot(labels, len(module.organs) + 1),)
    return torch.rand(size, generator=draw), torch.rand(size, generator=draw)


def method_of(module: Any) -> str:
    return next(name for name, entry in METHODS.items() if type(module) is entry.module_class())


def batch_for(module: Any, given: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """A training batch of two around the network's inputs."""
    if len(given) == 1:
        return {"labels": given[0].argmax(1), "index": torch.arange(2)}
    draw = torch.Generator().manual_seed(2)
    labels = torch.randint(0, len(module.organs) + 1, (2, 2, *module.shape), generator=draw)
    return {
        "moving": given[0],
        "fixed": given[1],
        "moving_labels": labels[0],
        "fixed_labels": labels[1],
        "index": torch.arange(2),
    }


def main_output(answer: Any) -> Tensor:
    """The field, or the code."""
    found: Tensor = answer.field if hasattr(answer, "field") else answer[0]
    return found


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    yield
    torch._dynamo.reset()


def test_every_method_has_variants_to_test() -> None:
    tasks = {"field": REGISTRATION, "codes": SHAPE}
    for task, table in tasks.items():
        assert set(table) == {name for name, entry in METHODS.items() if entry.kind.name == task}


@every_registration
def test_fields_have_their_shape(method: str, variant: Variant) -> None:
    module = build(method, variant)
    with torch.no_grad():
        answer = module(*inputs(module, 3))
    assert answer.field.shape == (3, len(module.shape), *module.shape)
    assert answer.warped.shape == (3, 1, *module.shape)
    assert (answer.inverse is not None) == getattr(module, "velocity", False)
    assert bool(answer.field.isfinite().all())
    assert float(answer.field.abs().max()) > 0.01


@every_registration
@pytest.mark.parametrize("shape", [(61, 97), (16, 33), (17, 16, 19)])
def test_odd_sizes_go_through_the_network(method: str, variant: Variant, shape: tuple[int, ...]) -> None:
    module = build(method, variant)
    if len(shape) != len(module.shape):
        pytest.skip("another number of dimensions")
    with torch.no_grad():
        answer = module.network(*inputs(module, 1, shape))
    assert answer.field.shape == (1, len(shape), *shape)


@every_module
def test_every_trainable_parameter_gets_a_gradient(method: str, variant: Variant) -> None:
    module = build(method, variant).train()
    given = inputs(module)
    terms = training_terms(module, variant, batch_for(module, given))
    torch.stack(list(terms.values())).sum().backward()
    # Batch normalisation takes the mean away again: a bias in front of it has no effect.
    silent = {
        f"{name}.conv.bias"
        for name, part in module.named_modules()
        if isinstance(getattr(part, "norm", None), torch.nn.BatchNorm2d | torch.nn.BatchNorm3d)
    }
    without = [
        name
        for name, parameter in module.named_parameters()
        if name not in silent and (parameter.grad is None or not parameter.grad.any())
    ]
    assert not without
    assert all(bool(p.grad.isfinite().all()) for p in module.parameters() if p.grad is not None)


@every_module
def test_a_validation_batch_becomes_values_and_cases(method: str, variant: Variant) -> None:
    module = build(method, variant)
    batch = batch_for(module, inputs(module))
    with torch.no_grad():
        output = module.validation_step(batch, 0)["output"]
        values, cases = module.measure(output, batch), module.cases(output, batch)
    assert values.shape == (2, len(module.columns()))
    assert len(cases) == 2
    for case in cases:
        assert case.prediction.size == case.reference.size == module.shape[::-1]
        assert case.reference.organs == case.prediction.organs == module.organs
        row = case_row(case) if module.organs else case.numbers
        assert {f"dice/{label}" for label in module.organs} <= set(row)
        assert method in SHAPE or {"similarity", "folding_percent"} <= set(row)
        assert case_picture(case).image.ndim == 2


@every_module
def test_a_batch_gives_what_single_images_give(method: str, variant: Variant) -> None:
    module = build(method, variant)
    given = inputs(module, 3)
    with torch.no_grad():
        together = main_output(module(*given))
        alone = torch.cat([main_output(module(*(x[i : i + 1] for x in given))) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-4)


@every_module
def test_evaluation_is_deterministic(method: str, variant: Variant) -> None:
    module = build(method, variant)
    with torch.no_grad():
        torch.manual_seed(1)
        first = main_output(module(*inputs(module)))
        torch.manual_seed(2)
        assert torch.equal(main_output(module(*inputs(module))), first)


@every_module
def test_a_checkpoint_folder_gives_the_module_back(method: str, variant: Variant, tmp_path: Path) -> None:
    module = build(method, variant)
    write_checkpoint_folder(module, tmp_path, name=f"{method}-test", version="1.2.3", half=False)
    loaded: Any = build_module(tmp_path)
    assert (loaded.checkpoint_name, loaded.checkpoint_version) == (f"{method}-test", "1.2.3")
    assert loaded.settings() == module.settings()
    with torch.no_grad():
        expected = main_output(module(*inputs(module)))
        assert torch.equal(main_output(loaded(*inputs(module))), expected)


@every_module
def test_hyper_parameters_are_json(method: str, variant: Variant) -> None:
    hparams = dict(build(method, variant).hparams)
    assert json.loads(json.dumps(hparams)) == hparams


@every_module
def test_half_precision_runs_and_is_near(method: str, variant: Variant) -> None:
    module = build(method, variant)
    with torch.no_grad():
        full = main_output(module(*inputs(module))).float()
        with torch.autocast("cpu", torch.bfloat16):
            half = main_output(module(*inputs(module))).float()
    assert float((half - full).std() / full.std()) < 0.2


@every_module
def test_training_in_half_precision_has_finite_gradients(method: str, variant: Variant) -> None:
    module = build(method, variant).train()
    given = inputs(module)
    with torch.autocast("cpu", torch.bfloat16):
        terms = training_terms(module, variant, batch_for(module, given))
        torch.stack(list(terms.values())).sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in module.parameters() if p.grad is not None)


@costly_module
def test_exports_for_any_batch_size(method: str, variant: Variant) -> None:
    module = build(method, variant)
    batch = torch.export.Dim("batch", min=1, max=64)
    given = inputs(module, 3)
    sizes = tuple({0: batch} for _ in given)
    exported = torch.export.export(module.network, given, dynamic_shapes=sizes, strict=True).module()
    for count in (1, 5):
        given = inputs(module, count)
        with torch.no_grad():
            expected, found = main_output(module.network(*given)), main_output(exported(*given))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


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


@every_registration
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


@parametrize(
    {
        "acregnet": {"paper": REGISTRATION["acregnet"]["paper"]},
        "affinereg": {"rigid": REGISTRATION["affinereg"]["rigid"]},
    }
)
def test_a_golden_file_repeats_the_field(method: str, variant: Variant, tmp_path: Path) -> None:
    module = build(method, variant)
    a, b = _pair(module, (61, 97), (64, 96))
    write_golden(module, {"moving": a, "fixed": b}, tmp_path)
    assert run_golden(module, tmp_path).difference == 0
    write_golden(module, {"moving": a, "fixed": b}, tmp_path, spacing_mm=(2.0, 3.0))
    assert run_golden(module, tmp_path).difference == 0
    assert module.predict(a, b, moving_spacing_mm=(2, 3), fixed_spacing_mm=(2, 3)).displacement_mm is not None


@every_shape
def test_codes_and_logits_have_their_shape(method: str, variant: Variant) -> None:
    module = build(method, variant)
    with torch.no_grad():
        code, logits = module(*inputs(module, 3))
    assert code.shape == (3, module.code)
    assert logits.shape == (3, len(module.organs) + 1, *module.shape)

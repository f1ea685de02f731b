"""Every registered method that segments keeps the promises of the zoo, be it by landmarks or by masks.

Methods with another task have contract tests of their own, see `FILES`, and so have those that segment
volumes, see `test_volumes.py`.
"""

import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from anatozoo.metrics.cases import case_row
from anatozoo.nn.graphs import organ_slices
from anatozoo.results.draw.cases import case_picture
from anatozoo.results.segmentation import SegmentationResult
from anatozoo.tasks.contours import ContourTask
from anatozoo.tasks.labels import LabelTask
from anatozoo.zoo.checkpoint import build_module, write_checkpoint_folder
from anatozoo.zoo.registry import METHODS
from tests.contract.variants import VARIANTS, VOLUMES, Variant, build_without_zeros, cases, training_terms
from tests.support.phantoms import make_chest_phantom

SIZES = [(64, 64), (61, 97), (200, 33), (16, 40)]
FILES = {
    "contours": "test_methods.py",
    "labels": "test_methods.py",
    "volume": "test_volumes.py",
    "field": "test_registration.py",
    "codes": "test_registration.py",
    "repair": "test_repair.py",
    "restored": "test_superres.py",
}
"""Task -> file with the contract tests of the methods that have it."""
SEGMENTERS = [
    name
    for name, entry in METHODS.items()
    if FILES.get(entry.kind.name) == Path(__file__).name and name not in VOLUMES
]


@dataclass(frozen=True)
class Kind:
    """What differs between the two ways to segment.

    Args:
        answer: the network's prediction for images, (B, ...) float.
        of_raw: the tensor to compare in what the bare network returns.
        shape: shape of one image's answer.
        truth: what a training batch of two holds beside the images.
        check: whether a result holds what the module promises.
        difference: largest difference of two results, in pixels, or share of pixels that differ.
    """

    answer: Callable[[Any, Tensor], Tensor]
    of_raw: Callable[[Any], Tensor]
    shape: Callable[[Any], tuple[int, ...]]
    truth: Callable[[Any], dict[str, Tensor]]
    check: Callable[[Any, SegmentationResult], None]
    difference: Callable[[SegmentationResult, SegmentationResult], float]


def landmark_truth(module: Any) -> dict[str, Tensor]:
    """Landmarks, and masks, for everything that the module learns."""
    nodes, size = sum(module.organs.values()), module.side
    channels = len(module.dense_organs)
    draw = torch.Generator().manual_seed(2)
    weight = torch.ones(2, nodes)
    weight[1, : nodes // 2] = 0
    return {
        "landmarks": torch.rand(2, nodes, 2, generator=draw),
        "landmark_weight": weight,
        "masks": (torch.rand(2, channels, size // 4, size // 4, generator=draw) > 0.5).float(),
        "known": torch.tensor([[False], [True]]).expand(2, channels).contiguous(),
    }


def label_truth(module: Any) -> dict[str, Tensor]:
    """Label maps; in the second image, the last organ is not annotated."""
    size, count = module.side, len(module.organs)
    draw = torch.Generator().manual_seed(2)
    labels = torch.randint(0, count + 1, (2, size, size), generator=draw)
    known = torch.ones(2, count)
    if count > 1:
        known[1, -1] = 0
        labels[1][labels[1] == count] = 0
    return {"labels": labels, "known": known}


def check_landmarks(module: Any, result: SegmentationResult) -> None:
    assert {organ: len(points) for organ, points in result.landmarks.items()} == module.organs


def check_labels(module: Any, result: SegmentationResult) -> None:
    assert result.landmarks == {}
    assert list(result.organs) == module.organs
    assert set(np.unique(result.mask)) <= set(range(len(module.organs) + 1))


def landmark_difference(a: SegmentationResult, b: SegmentationResult) -> float:
    return max(float(np.abs(a.landmarks[organ] - b.landmarks[organ]).max()) for organ in a.landmarks)


def label_difference(a: SegmentationResult, b: SegmentationResult) -> float:
    return float((a.mask != b.mask).mean())


KINDS = {
    ContourTask: Kind(
        answer=lambda module, image: module.forward_landmarks(image),
        of_raw=lambda raw: raw.landmarks,
        shape=lambda module: (sum(module.organs.values()), 2),
        truth=landmark_truth,
        check=check_landmarks,
        difference=landmark_difference,
    ),
    LabelTask: Kind(
        answer=lambda module, image: module(image),
        of_raw=lambda raw: raw,
        shape=lambda module: (1 + len(module.organs), module.side, module.side),
        truth=label_truth,
        check=check_labels,
        difference=label_difference,
    ),
}


def kind_of(module: Any) -> Kind:
    """How the module segments; exactly one way."""
    [kind] = [kind for base, kind in KINDS.items() if isinstance(module, base)]
    return kind


def answer(module: Any, image: Tensor) -> Tensor:
    return kind_of(module).answer(module, image)


_OF_SEGMENTERS = {method: VARIANTS.get(method, {}) for method in SEGMENTERS}
every_variant, costly = cases(_OF_SEGMENTERS), cases(_OF_SEGMENTERS, expensive=True)


def build(method: str, variant: Variant) -> Any:
    """A module of which no layer is zero, in evaluation mode."""
    return build_without_zeros(method, variant).eval()


def images(module: Any, count: int = 2) -> Tensor:
    size = module.side
    return torch.rand(count, 1, size, size, generator=torch.Generator().manual_seed(1))


def batch_for(module: Any) -> dict[str, Tensor]:
    """A training batch of two images with a truth for everything that the module learns."""
    return {"image": images(module), "index": torch.arange(2)} | kind_of(module).truth(module)


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    yield
    torch._dynamo.reset()


def test_every_method_has_contract_tests_and_variants() -> None:
    for entry in METHODS.values():
        assert (Path(__file__).parent / FILES[entry.kind.name]).is_file()
    assert set(SEGMENTERS) == set(VARIANTS)
    for variants in VARIANTS.values():
        assert sum(variant.quick for variant in variants.values()) >= 2


@every_variant
def test_predictions_have_their_shape(method: str, variant: Variant) -> None:
    module = build(method, variant)
    with torch.no_grad():
        found = answer(module, images(module, 3))
    assert found.shape == (3, *kind_of(module).shape(module))
    assert bool(found.isfinite().all())


@every_variant
def test_every_trainable_parameter_gets_a_gradient(method: str, variant: Variant) -> None:
    module = build(method, variant).train()
    terms = training_terms(module, variant, batch_for(module))
    torch.stack(list(terms.values())).sum().backward()
    without = [
        name
        for name, parameter in module.named_parameters()
        if parameter.requires_grad and (parameter.grad is None or not parameter.grad.any())
    ]
    assert not without
    assert all(bool(p.grad.isfinite().all()) for p in module.parameters() if p.grad is not None)


@every_variant
def test_a_validation_batch_becomes_values_and_cases(method: str, variant: Variant) -> None:
    module = build(method, variant)
    batch = batch_for(module) | {"spacing_mm": torch.tensor([[0.5, 0.5], [torch.nan, torch.nan]])}
    with torch.no_grad():
        output = module.validation_step(batch, 0)["output"]
        values, cases = module.measure(output, batch), module.cases(output, batch)
    assert values.shape == (2, len(module.columns()))
    assert len(cases) == 2
    for case, spaced in zip(cases, (True, False), strict=True):
        row = case_row(case)
        assert any(name.startswith("dice/") for name in row)
        assert any(name.startswith("hd_mm/") for name in row) is spaced
        assert set(case.reference.organs) <= set(case.prediction.organs) <= set(module.organs)
        assert case.image is not None
        assert case_picture(case).prediction


@every_variant
def test_a_batch_gives_what_single_images_give(method: str, variant: Variant) -> None:
    if not variant.exact:
        pytest.skip("documented: rounding of a position changes the result")
    module = build(method, variant)
    with torch.no_grad():
        together = answer(module, images(module, 3))
        alone = torch.cat([answer(module, image[None]) for image in images(module, 3)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


@every_variant
def test_evaluation_is_deterministic(method: str, variant: Variant) -> None:
    module = build(method, variant)
    with torch.no_grad():
        torch.manual_seed(1)
        first = answer(module, images(module))
        torch.manual_seed(2)
        assert torch.equal(answer(module, images(module)), first)


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
        kind_of(module).check(module, result)
        json.dumps(result.to_dict())
        if variant.exact:
            assert kind_of(module).difference(result, module.predict(source)) <= 2e-3


@every_variant
def test_the_middle_of_the_frame_is_the_middle_of_the_image(
    method: str, variant: Variant, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = build(method, variant)
    size = module.side
    if isinstance(module, ContourTask):
        nodes = sum(module.organs.values())
        centre = torch.full((1, nodes, 2), (size - 1) / 2 / size)
        monkeypatch.setattr(module, "forward_landmarks", lambda image: centre.expand(len(image), -1, -1))
        result = module.predict(make_chest_phantom(101, 60).image)
        for organ in organ_slices(module.organs):
            np.testing.assert_allclose(
                result.landmarks[organ], np.tile([50, 29.5], (module.organs[organ], 1)), atol=1e-4
            )
        return
    logits = torch.zeros(1, 1 + len(module.organs), size, size)
    middle = slice(size // 4, -(size // 4))
    logits[:, 0], logits[:, :2, middle, middle] = 9.0, torch.tensor([0.0, 9.0])[:, None, None]
    monkeypatch.setattr(module, "forward", lambda image: logits.expand(len(image), -1, -1, -1))
    rows, columns = np.nonzero(module.predict(make_chest_phantom(101, 60).image).mask == 1)
    assert (columns.mean(), rows.mean()) == (50, 29.5)
    # Half of the frame, whose width is the source's.
    assert np.ptp(columns) + 1 == pytest.approx(50.5, abs=1)


@every_variant
def test_a_checkpoint_folder_gives_the_module_back(method: str, variant: Variant, tmp_path: Path) -> None:
    module = build(method, variant)
    write_checkpoint_folder(module, tmp_path, name=f"{method}-test", version="1.2.3", half=False)
    loaded: Any = build_module(tmp_path)
    assert (loaded.checkpoint_name, loaded.checkpoint_version) == (f"{method}-test", "1.2.3")
    assert loaded.settings() == module.settings()
    with torch.no_grad():
        expected = answer(module, images(module))
        assert torch.equal(answer(loaded, images(module)), expected)


@every_variant
def test_hyper_parameters_are_json(method: str, variant: Variant) -> None:
    hparams = dict(build(method, variant).hparams)
    assert json.loads(json.dumps(hparams)) == hparams


@every_variant
def test_half_precision_runs_and_is_near(method: str, variant: Variant) -> None:
    module = build(method, variant)
    with torch.no_grad():
        full = answer(module, images(module))
        with torch.autocast("cpu", torch.bfloat16):
            half = answer(module, images(module))
    assert half.dtype == torch.float32
    # Random weights amplify rounding far more than trained ones: only nonsense can be told apart here.
    assert float((half - full).std() / full.std()) < 0.5


@every_variant
def test_training_in_half_precision_has_finite_gradients(method: str, variant: Variant) -> None:
    module = build(method, variant).train()
    with torch.autocast("cpu", torch.bfloat16):
        terms = training_terms(module, variant, batch_for(module))
        torch.stack(list(terms.values())).sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in module.parameters() if p.grad is not None)


@costly
def test_exports_for_any_batch_size(method: str, variant: Variant) -> None:
    module = build(method, variant)
    sizes = {0: torch.export.Dim("batch", min=1, max=64)}
    of_raw = kind_of(module).of_raw
    program = torch.export.export(module.network, (images(module, 3),), dynamic_shapes=(sizes,), strict=True)
    exported = program.module()
    for count in (1, 3, 5):
        image = images(module, count)
        with torch.no_grad():
            expected, found = (of_raw(network(image)) for network in (module.network, exported))
        assert found.shape == expected.shape
        if variant.exact:
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@costly
def test_compiles_without_a_break_in_evaluation_and_training(method: str, variant: Variant) -> None:
    module = build(method, variant)
    image = images(module)
    of_raw = kind_of(module).of_raw
    compiled = torch.compile(module.network, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        torch.testing.assert_close(of_raw(compiled(image)), of_raw(module.network(image)), rtol=0, atol=1e-5)
    module.train()
    of_raw(compiled(image)).square().sum().backward()
    assert any(p.grad is not None and bool(p.grad.any()) for p in module.parameters())


@pytest.mark.slow
@every_variant
def test_compiles_to_machine_code(method: str, variant: Variant) -> None:
    module = build(method, variant)
    image = images(module)
    of_raw = kind_of(module).of_raw
    compiled = torch.compile(module.network, fullgraph=True)
    with torch.no_grad(), warnings.catch_warnings():
        # Deprecations inside the compiler are its own.
        warnings.simplefilter("ignore")
        found = of_raw(compiled(image))
        expected = of_raw(module.network(image))
    if variant.exact:
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)

"""Every registered method keeps the promises of the zoo, whatever kind of answer it gives.

What goes for one kind alone is in the files beside.
"""

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn

from anatozoo.results.draw.cases import case_picture
from anatozoo.zoo.checkpoint import build_module, write_checkpoint_folder
from anatozoo.zoo.kinds import KINDS
from anatozoo.zoo.registry import METHODS
from tests.contract.trials import TRIALS, build, trial_of
from tests.contract.variants import VARIANTS, Variant, of, training_terms

every_variant, every_network, costly = of(), of(learns=True), of(expensive=True, learns=True)
compiled = of("contours", "labels", "repair", expensive=True, parts=True, learns=True)


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    yield
    torch._dynamo.reset()


def answer(method: str, module: Any, count: int = 2) -> Tensor:
    trial = trial_of(method)
    with torch.no_grad():
        return trial.answer(module, *trial.inputs(module, count))


def terms_of(method: str, variant: Variant, module: Any) -> dict[str, Tensor]:
    """The terms of the loss of a training batch of two."""
    trial = trial_of(method)
    prior, settings = trial.prior
    return training_terms(module, variant, trial.batch(module), prior, **settings)


def test_every_method_has_variants_to_test() -> None:
    assert set(VARIANTS) == set(METHODS)
    assert set(TRIALS) == set(KINDS)
    for method, variants in VARIANTS.items():
        assert sum(variant.quick for variant in variants.values()) >= trial_of(method).quick


@every_variant
def test_answers_have_their_shape(method: str, variant: Variant) -> None:
    module = build(method, variant)
    found = answer(method, module, 3)
    assert found.shape == (3, *trial_of(method).shape(module))
    assert bool(found.isfinite().all())


@every_network
def test_every_trainable_parameter_gets_a_gradient(method: str, variant: Variant) -> None:
    module = build(method, variant).train()
    terms = terms_of(method, variant, module)
    torch.stack(list(terms.values())).sum().backward()
    assert ("shape" in terms) == bool(variant.shape_weight)
    silent = trial_of(method).silent(module)
    wanted = {n: p for n, p in module.named_parameters() if p.requires_grad and n not in silent}
    assert not [name for name, p in wanted.items() if p.grad is None]
    # Where rectifiers of a volume's small network are all closed, gradients are zero.
    flat = [name for name, p in wanted.items() if p.grad is not None and not p.grad.any()]
    assert not flat if METHODS[method].kind.name != "volume" else len(wanted) - len(flat) > 1
    assert all(bool(p.grad.isfinite().all()) for p in module.parameters() if p.grad is not None)


@every_variant
def test_a_validation_batch_becomes_values_and_cases(method: str, variant: Variant) -> None:
    trial, module = trial_of(method), build(method, variant)
    batch = trial.batch(module)
    with torch.no_grad():
        found = module.validation_step(batch, 0)
    assert len(found["cases"]) == len(found["rows"]) == 2
    names = {name for row in found["rows"] for name in row}
    assert set(module.columns()) - names <= trial.rare(module)
    logged = module.val_metrics.compute()
    assert logged.shape == (len(module.columns()),)
    assert bool(logged[0].isfinite())
    for number, case in enumerate(found["cases"]):
        trial.check_case(module, case, number)
        picture = case_picture(case)
        assert picture.image.ndim == 2
        assert picture.prediction or METHODS[method].kind.name not in ("contours", "labels")


@every_variant
def test_a_batch_gives_what_single_cases_give(method: str, variant: Variant) -> None:
    if not variant.exact:
        pytest.skip("documented: rounding of a position changes the result")
    trial, module = trial_of(method), build(method, variant)
    given = trial.inputs(module, 3)
    with torch.no_grad():
        alone = torch.cat([trial.answer(module, *(x[i : i + 1] for x in given)) for i in range(3)])
    torch.testing.assert_close(answer(method, module, 3), alone, rtol=0, atol=trial.alone)


@every_variant
def test_evaluation_is_deterministic(method: str, variant: Variant) -> None:
    module = build(method, variant)
    torch.manual_seed(1)
    first = answer(method, module)
    torch.manual_seed(2)
    assert torch.equal(answer(method, module), first)


@every_network
def test_an_average_of_unchanged_weights_has_their_buffers(method: str, variant: Variant) -> None:
    """Lightning's averages of weights take buffers along, and cut whole numbers that they average."""
    module = build(method, variant)
    mean = AveragedModel(module, avg_fn=get_ema_avg_fn(0.997), use_buffers=True)
    for _ in range(5):
        mean.update_parameters(module)
    for (name, mine), averaged in zip(module.named_buffers(), mean.module.buffers(), strict=True):
        if not name.endswith("num_batches_tracked"):  # which nothing reads
            torch.testing.assert_close(averaged, mine, rtol=1e-4, atol=1e-5, msg=name)


@every_variant
def test_a_checkpoint_folder_gives_the_module_back(method: str, variant: Variant, tmp_path: Path) -> None:
    module = build(method, variant)
    write_checkpoint_folder(module, tmp_path, name=f"{method}-test", version="1.2.3", half=False)
    loaded: Any = build_module(tmp_path)
    assert (loaded.checkpoint_name, loaded.checkpoint_version) == (f"{method}-test", "1.2.3")
    assert loaded.settings() == module.settings()
    assert torch.equal(answer(method, loaded), answer(method, module))


@every_variant
def test_hyper_parameters_are_json(method: str, variant: Variant) -> None:
    hparams = dict(build(method, variant).hparams)
    assert json.loads(json.dumps(hparams)) == hparams


@every_variant
def test_half_precision_runs_and_is_near(method: str, variant: Variant) -> None:
    module = build(method, variant)
    full = answer(method, module).float()
    with torch.autocast("cpu", torch.bfloat16):
        half = answer(method, module)
    if METHODS[method].kind.name in ("contours", "labels", "repair", "restored"):
        assert half.dtype == torch.float32
    assert float((half.float() - full).std() / full.std()) < trial_of(method).half


@every_network
def test_training_in_half_precision_has_finite_gradients(method: str, variant: Variant) -> None:
    module = build(method, variant).train()
    with torch.autocast("cpu", torch.bfloat16):
        torch.stack(list(terms_of(method, variant, module).values())).sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in module.parameters() if p.grad is not None)


# MONAI's DynUNet notes its heads while it computes, of which evaluation sees nothing.
@pytest.mark.filterwarnings("ignore:While compiling, we found certain side effects")
@costly
def test_exports_for_any_batch_size_without_a_break(method: str, variant: Variant) -> None:
    trial, module = trial_of(method), build(method, variant)
    batch, given = torch.export.Dim("batch", min=1, max=64), trial.inputs(module, 3)
    sizes = tuple({0: batch} for _ in given)
    # Strict: traced by the compiler's front end, as torch.compile(fullgraph=True) does in evaluation.
    exported = torch.export.export(module.network, given, dynamic_shapes=sizes, strict=True).module()
    for count in (1, 3, 5):
        given = trial.inputs(module, count)
        # With gradients, so that both compute layer by layer: see `anatozoo.nn.fused`.
        expected, found = (trial.of_raw(network(*given)).detach() for network in (module.network, exported))
        assert found.shape == expected.shape
        if variant.exact:
            torch.testing.assert_close(found, expected, rtol=0, atol=trial.exported)


@compiled
def test_compiles_without_a_break_in_training(method: str, variant: Variant) -> None:
    trial, module = trial_of(method), build(method, variant).train()
    given = trial.inputs(module, 2)
    network = torch.compile(module.network, fullgraph=True, backend="aot_eager")
    trial.of_raw(network(*given)).square().sum().backward()
    found = {name: p.grad for name, p in module.network.named_parameters() if p.grad is not None}
    assert any(bool(gradient.any()) for gradient in found.values())
    assert all(bool(gradient.isfinite().all()) for gradient in found.values())


@pytest.mark.slow
@of("contours", "labels", "repair", learns=True)
def test_compiles_without_a_break_in_evaluation(method: str, variant: Variant) -> None:
    trial, module = trial_of(method), build(method, variant)
    given = trial.inputs(module, 2)
    network = torch.compile(module.network, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        found, expected = trial.of_raw(network(*given)), trial.of_raw(module.network(*given))
    torch.testing.assert_close(found, expected, rtol=0, atol=trial.exported)


@pytest.mark.slow
@of("contours", "labels", "repair", learns=True)
def test_compiles_to_machine_code(method: str, variant: Variant) -> None:
    trial, module = trial_of(method), build(method, variant)
    given = trial.inputs(module, 2)
    network = torch.compile(module.network, fullgraph=True)
    with torch.no_grad(), warnings.catch_warnings():
        # Deprecations inside the compiler are its own.
        warnings.simplefilter("ignore")
        found, expected = trial.of_raw(network(*given)), trial.of_raw(module.network(*given))
    if variant.exact:
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from anatozoo.errors import ConfigError
from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.acnn.module import AcnnModule
from anatozoo.methods.unet.module import UNetModule
from anatozoo.nn.labels import one_hot
from anatozoo.nn.losses import focal
from anatozoo.objectives import Calibration, Entropy
from anatozoo.objectives.calibration import marginal_ace
from anatozoo.tasks.views import Maps
from anatozoo.training.step import Step


def slow_ace(probability: np.ndarray, truth: np.ndarray, bins: int) -> float:
    """Of one image (C, n), pixel by pixel, class by class and bin by bin."""
    errors = []
    for p, y in zip(probability, truth, strict=True):
        gaps = []
        for low in range(bins):
            held = [i for i, v in enumerate(p) if min(int(np.float32(v) * np.float32(bins)), bins - 1) == low]
            if held:
                gaps.append(abs(np.mean(p[held]) - np.mean(y[held])))
        errors.append(np.mean(gaps))
    return float(np.mean(errors))


def drawn(*shape: int, classes: int = 3) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    logits = 2 * torch.randn(shape[0], classes, *shape[1:])
    return logits, one_hot(torch.randint(0, classes, shape), classes)


@pytest.mark.parametrize("shape", [(2, 9, 13), (2, 3, 4, 5), (1, 1, 1)])
@pytest.mark.parametrize("bins", [1, 7, 20])
def test_it_is_the_error_of_each_class_and_bin(shape: tuple[int, ...], bins: int) -> None:
    logits, truth = drawn(*shape)
    p = logits.softmax(1)
    found = marginal_ace(p, truth, bins)
    flat, one = p.flatten(2).numpy(), truth.flatten(2).numpy()
    expected = [slow_ace(a, b, bins) for a, b in zip(flat, one, strict=True)]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


def test_one_is_in_the_last_bin_and_certainty_that_is_right_costs_nothing() -> None:
    truth = one_hot(torch.tensor([[0, 1, 1, 0]]), 2)
    assert float(marginal_ace(truth, truth, 10)) == 0
    assert float(marginal_ace(truth.flip(1), truth, 10)) == 1


def test_the_gradient_moves_the_mean_of_a_bin_towards_the_truth() -> None:
    p = torch.full((1, 2, 10), 0.5, dtype=torch.float64)
    p[0, 1], p[0, 0] = 0.85, 0.15
    p.requires_grad_()
    truth = one_hot((torch.arange(10) < 6).long()[None], 2).double()
    [gradient] = torch.autograd.grad(marginal_ace(p, truth, 10).sum(), p)
    # One bin of each class: 0.85 is above the 0.6 that are true, 0.15 below 0.4; ten pixels, two classes.
    np.testing.assert_allclose(gradient[0, 1].numpy(), 1 / 20)
    np.testing.assert_allclose(gradient[0, 0].numpy(), -1 / 20)


def test_items_without_a_whole_truth_do_not_count() -> None:
    logits, truth = drawn(2, 5, 6)
    p = logits.softmax(1).requires_grad_()

    def term(known: Tensor | None) -> Tensor:
        class Given:
            offers = frozenset({"maps"})

            def maps(self, output: Any, batch: Any) -> Maps:
                return Maps(p, truth, known)

        return Calibration(weight=2.0).terms(Step(Given(), {}, None))["calibration"]  # type: ignore[arg-type]

    assert torch.equal(term(None), 2 * marginal_ace(p, truth, 20))
    some = term(torch.tensor([[True, False], [True, True]]))
    assert torch.equal(some, term(None)[1:])
    none = term(torch.zeros(2, 2, dtype=torch.bool)).mean()
    none.backward()
    assert float(none.detach()) == 0


def test_what_it_cannot_do_is_said() -> None:
    for settings in ({"weight": -1.0}, {"weight": math.nan}, {"bins": 0}):
        with pytest.raises(ConfigError, match="Calibration"):
            Calibration(**settings)  # type: ignore[arg-type]


# --- the losses beside which the objectives stand ---

BASES: dict[str, dict[str, float]] = {
    "ce": {"dice_weight": 0.0},
    "dice": {"ce_weight": 0.0, "dice_weight": 1.0},
    "focal": {"dice_weight": 0.0, "focal_gamma": 2.0},
}


def flat(**settings: Any) -> tuple[Any, dict[str, Tensor]]:
    torch.manual_seed(0)
    batch = {"image": torch.rand(1, 1, 64, 64), "labels": torch.randint(0, 3, (1, 64, 64))}
    module = UNetModule(organs=["a", "b"], frame=FrameSpec(64), decoder_widths=[4] * 5, **settings)
    return module, batch | {"known": torch.ones(1, 2)}


def deep(**settings: Any) -> tuple[Any, dict[str, Tensor]]:
    torch.manual_seed(0)
    batch = {"image": torch.rand(1, 1, 8, 16, 16), "labels": torch.randint(0, 3, (1, 8, 16, 16))}
    frame = FrameSpec([8, 16, 16])
    return AcnnModule(
        organs=["a", "b"], frame=frame, architecture="dynunet", widths=[4, 4, 4], **settings
    ), batch


@pytest.mark.parametrize("make", [flat, deep])
@pytest.mark.parametrize("base", BASES)
def test_they_work_beside_each_base_loss_in_planes_and_volumes(make: Any, base: str) -> None:
    module, batch = make(**BASES[base])
    step = Step(module, batch, module.answer(batch))
    terms = module.own_terms(step)
    assert set(terms) == {"dice" if base == "dice" else "cross_entropy"}
    for objective in (Entropy(form="me"), Entropy(), Entropy(form="kl"), Calibration()):
        [value] = objective.terms(step).values()
        assert torch.isfinite(value).all()
        total = sum(terms.values()) + value.mean()
        gradients = torch.autograd.grad(
            total, list(module.parameters()), retain_graph=True, allow_unused=True
        )
        assert all(torch.isfinite(g).all() for g in gradients if g is not None)


@pytest.mark.parametrize("make", [flat, deep])
def test_focal_is_cross_entropy_weighted_by_what_is_missing(make: Any) -> None:
    module, batch = make(**BASES["focal"])
    logits = torch.randn(1, 3, *batch["labels"].shape[1:])
    p = logits.softmax(1).gather(1, batch["labels"][:, None])
    expected = ((1 - p) ** 2 * -p.log()).mean()
    assert float(module.losses(logits, batch)["cross_entropy"]) == pytest.approx(float(expected), rel=1e-4)
    organs, given = flat(output="organs", **BASES["focal"])
    found = organs.losses(20 * (one_hot(given["labels"], 3)[:, 1:] - 0.5), given)["cross_entropy"]
    assert 0 < float(found) < 1e-8
    assert float(focal(torch.tensor(0.0), 2.0)) == 0


@pytest.mark.parametrize("make", [flat, deep])
def test_a_loss_of_nothing_is_refused(make: Any) -> None:
    for settings, word in (
        ({"ce_weight": 0.0, "dice_weight": 0.0}, "one above 0"),
        ({"ce_weight": -1.0}, "must not be negative"),
        ({"focal_gamma": 0.5}, "focal_gamma=0.5"),
    ):
        with pytest.raises(ConfigError, match=word):
            make(**settings)

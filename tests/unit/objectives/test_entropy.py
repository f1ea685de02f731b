import math
from typing import Any

import pytest
import torch
from torch import Tensor

from anatozoo.errors import ConfigError
from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.acnn.module import AcnnModule
from anatozoo.methods.acnnsr.module import AcnnSRModule
from anatozoo.methods.unet.module import UNetModule
from anatozoo.objectives.entropy import Entropy
from anatozoo.training.step import Step


class Given:
    """A module that answers with label maps."""

    offers = frozenset({"maps"})

    def __init__(self, maps: Any) -> None:
        self.maps = lambda output, batch: maps


def term(probability: Tensor, labels: Tensor, known: Tensor | None = None, **settings: Any) -> Tensor:
    from anatozoo.nn.labels import one_hot
    from anatozoo.tasks.views import Maps

    maps = Maps(probability, one_hot(labels, probability.shape[1]), known)
    step = Step(Given(maps), {}, None)  # type: ignore[arg-type]
    return Entropy(**settings).terms(step)["entropy"]


def case() -> tuple[Tensor, Tensor]:
    """Two images of two pixels and three labels: one pixel of the first and both of the second are wrong."""
    p = torch.tensor([[[0.7, 0.2, 0.1], [0.6, 0.3, 0.1]], [[0.1, 0.5, 0.4], [0.2, 0.3, 0.5]]])
    return p.movedim(-1, 1), torch.tensor([[0, 2], [0, 0]])


def entropy(*p: float) -> float:
    return -sum(v * math.log(v) for v in p)


def test_it_is_the_mean_entropy_of_what_is_wrong() -> None:
    probability, labels = case()
    expected = -0.3 * (entropy(0.6, 0.3, 0.1) + entropy(0.1, 0.5, 0.4) + entropy(0.2, 0.3, 0.5)) / 3
    assert float(term(probability, labels)) == pytest.approx(expected, rel=1e-5)
    every = -0.5 * (entropy(0.7, 0.2, 0.1) / 4 - expected * 3 / 4 / 0.3)
    assert float(term(probability, labels, weight=0.5, form="me")) == pytest.approx(every, rel=1e-5)


def test_the_other_form_is_the_divergence_from_the_uniform_distribution() -> None:
    probability, labels = case()
    wrong = [(0.6, 0.3, 0.1), (0.1, 0.5, 0.4), (0.2, 0.3, 0.5)]
    expected = sum(sum(math.log(1 / 3 / v) / 3 for v in p) for p in wrong) / 3
    assert float(term(probability, labels, weight=1.0, form="kl")) == pytest.approx(expected, rel=1e-5)
    uniform = torch.full((1, 3, 4), 1 / 3)
    found = term(uniform, torch.ones(1, 4, dtype=torch.long), weight=1.0, form="kl")
    assert float(found) == pytest.approx(0, abs=1e-6)


def test_items_without_a_whole_truth_do_not_count_and_nothing_wrong_is_nothing() -> None:
    probability, labels = case()
    known = torch.tensor([[True, True], [True, False]])
    assert float(term(probability, labels, known)) == pytest.approx(-0.3 * entropy(0.6, 0.3, 0.1), rel=1e-5)
    right = probability.argmax(1)
    assert float(term(probability, right)) == 0


def test_what_is_impossible_has_a_finite_gradient() -> None:
    logits = torch.tensor([[[200.0], [0.0], [-200.0]]], requires_grad=True)
    for form in ("me", "meep", "kl"):
        loss = term(logits.softmax(1), torch.tensor([[2]]), form=form)
        [gradient] = torch.autograd.grad(loss, logits)
        assert torch.isfinite(gradient).all()


def test_one_step_makes_errors_less_sure() -> None:
    probability, labels = case()
    logits = probability.log().requires_grad_()
    [gradient] = torch.autograd.grad(term(logits.softmax(1), labels), logits)
    moved = (logits - gradient).detach().softmax(1)
    wrong = probability.argmax(1) != labels
    assert (moved.amax(1)[wrong] < probability.amax(1)[wrong]).all()
    assert torch.equal(moved.amax(1)[~wrong], probability.amax(1)[~wrong])


def test_planes_and_volumes_take_it() -> None:
    torch.manual_seed(0)
    flat = UNetModule(organs=["a", "b"], frame=FrameSpec(64))
    batch = {
        "image": torch.rand(2, 1, 64, 64),
        "labels": torch.randint(0, 3, (2, 64, 64)),
        "known": torch.ones(2, 2),
    }
    deep = AcnnModule(organs=["a", "b"], frame=FrameSpec([8, 16, 16]), widths=[4, 8])
    cube = {"image": torch.rand(1, 1, 8, 16, 16), "labels": torch.randint(0, 3, (1, 8, 16, 16))}
    for module, given in ((flat, batch), (deep, cube)):
        step = Step(module, given, module.answer(given))
        found = Entropy().terms(step)["entropy"]
        assert -0.3 * math.log(3) <= float(found.detach()) < 0
        found.backward()
        assert any(p.grad is not None for p in module.parameters())


def test_what_it_cannot_do_is_said_before_the_fit() -> None:
    module = AcnnSRModule(width=4, depth=1, frame=FrameSpec([16, 16, 16], "spacing", [1.0, 1.0, 1.0]))
    with pytest.raises(ConfigError, match="Entropy needs maps, which AcnnSRModule does not give"):
        Entropy().setup(None, module, "fit")  # type: ignore[arg-type]
    for settings in ({"weight": -1.0}, {"weight": math.inf}, {"form": "x"}):
        with pytest.raises(ConfigError, match="Entropy"):
            Entropy(**settings)  # type: ignore[arg-type]

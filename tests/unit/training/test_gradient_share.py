"""Shares of the terms in the gradient: what is logged, and that nothing else changes."""

from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from anatozoo.errors import ConfigError
from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.unet.module import UNetModule
from anatozoo.training.gradient_share import GradientShare
from anatozoo.training.objective import Objective
from anatozoo.training.step import Step
from tests.support.trainers import QUIET

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec."),
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step`"),
]


class Known(Objective):
    """Two terms whose gradients are known: one number for each weight."""

    def terms(self, step: Step) -> dict[str, Tensor]:
        total = torch.stack([p.sum() for p in step.module.parameters()]).sum()
        return {"three": 3 * total, "none": torch.zeros(2)}


class Seen(L.Callback):
    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        logged = trainer.callback_metrics.items()
        self.rows.append({k: float(v) for k, v in logged if k.startswith("train/share/")})


def items(count: int) -> DataLoader[Any]:
    draw = torch.Generator().manual_seed(0)
    made = [
        {
            "image": torch.rand(1, 64, 64, generator=draw),
            "labels": torch.randint(0, 3, (64, 64), generator=draw),
            "known": torch.ones(2),
            "index": torch.tensor(i),
        }
        for i in range(count)
    ]
    return DataLoader(made, batch_size=2)  # type: ignore[arg-type]  # a list is a data set


def fitted(count: int, *callbacks: L.Callback, **settings: Any) -> L.Trainer:
    torch.manual_seed(1)
    module = UNetModule(organs=["a", "b"], frame=FrameSpec(64), encoder="dynunet", decoder_widths=[4, 4, 8])
    trainer = L.Trainer(max_epochs=1, limit_val_batches=0, callbacks=list(callbacks), **(QUIET | settings))
    trainer.fit(module, items(count))
    return trainer


def terms_of(module: UNetModule, count: int) -> dict[str, Tensor]:
    """The gradient of each term over all items, by hand."""
    weights, found = list(module.parameters()), {}
    for name in ("cross_entropy", "dice"):
        total = torch.zeros(())
        for batch in items(count):
            total = total + module.losses(module.answer(batch), batch)[name] * 2 / count
        grads = torch.autograd.grad(total, weights, allow_unused=True)
        found[name] = torch.cat([g.flatten() for g in grads if g is not None])
    found["three"] = torch.full((sum(w.numel() for w in weights),), 3.0)
    return found


@pytest.mark.parametrize("accumulated", [1, 2])
def test_shares_are_those_of_the_gradients_that_the_optimiser_gets(accumulated: int) -> None:
    seen, count = Seen(), 2 * accumulated
    fitted(count, Known(), GradientShare(), seen, accumulate_grad_batches=accumulated)
    torch.manual_seed(1)
    fresh = UNetModule(organs=["a", "b"], frame=FrameSpec(64), encoder="dynunet", decoder_widths=[4, 4, 8])
    norms = {name: float(value.norm()) for name, value in terms_of(fresh.train(), count).items()}
    for name, norm in norms.items():
        assert seen.rows[-1][f"train/share/{name}"] == pytest.approx(norm / sum(norms.values()), rel=1e-4)
    assert seen.rows[-1]["train/share/none"] == 0


def test_weights_are_those_of_a_fit_without_it_and_steps_between_cost_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[int] = []
    taken = torch.autograd.grad
    monkeypatch.setattr(torch.autograd, "grad", lambda *a, **k: calls.append(1) or taken(*a, **k))
    with_it = fitted(8, GradientShare(every=3))
    assert len(calls) == 4  # two terms in the steps 0 and 3
    without = fitted(8)
    assert len(calls) == 4
    one, other = (dict(each.lightning_module.named_parameters()) for each in (with_it, without))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_what_it_cannot_do_is_said() -> None:
    with pytest.raises(ConfigError, match="every=0 must be at least 1"):
        GradientShare(every=0)
    with pytest.raises(ConfigError, match="needs the terms of the loss, which LightningModule does not name"):
        GradientShare().setup(None, L.LightningModule(), "fit")  # type: ignore[arg-type]

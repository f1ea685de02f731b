from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader

from anatozoo.errors import ConfigError
from anatozoo.methods.shapevae.data import ShapeVAEDataModule
from anatozoo.methods.shapevae.module import ShapeVAEModule
from anatozoo.training.freezing import FrozenStart, FrozenStatistics
from anatozoo.training.optim import Optim
from tests.support.chest_data import write_chest_data
from tests.support.trainers import QUIET

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*isinstance.treespec, LeafSpec.", "ignore:Checkpoint directory .* exists"
)
PREFIXES = ["network.expand", "network.head"]
State = dict[str, Tensor]


class States(L.Callback):
    """Keeps the parameters after each epoch."""

    def __init__(self) -> None:
        self.kept: list[State] = []

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.on_train_epoch_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.kept.append({name: value.detach().clone() for name, value in pl_module.named_parameters()})


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chest_data(tmp_path_factory.mktemp("chest"))


def fit(
    root: Path, folder: Path, epochs: int, prefixes: list[str] | None = None, resume: Path | None = None
) -> list[State]:
    L.seed_everything(1, verbose=False)
    states = States()
    made = ShapeVAEModule(latents=4, features=8, order=2, optim=Optim("adamw", 1e-2, 0.1))
    data = ShapeVAEDataModule(str(root), layout="jsrt", batch_size=2)
    saving = ModelCheckpoint(folder, save_last=True)
    settings: dict[str, Any] = QUIET | {"enable_checkpointing": True}
    frozen = FrozenStart(2, PREFIXES if prefixes is None else prefixes)
    trainer = L.Trainer(
        **settings, max_epochs=epochs, callbacks=[frozen, states, saving], gradient_clip_val=1.0
    )
    trainer.fit(made, data, ckpt_path=None if resume is None else str(resume))
    return states.kept


def changed(before: State, after: State) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_frozen_parameters_keep_every_bit_and_then_learn(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        start, first, second, third = fit(root, tmp_path, 3)
    assert "fixed that nobody has trained" in caplog.text
    held = {name for name in start if name.startswith(tuple(PREFIXES))}
    assert len(held) == 3
    assert changed(start, first) == changed(first, second) == set(start) - held
    assert changed(second, third) == set(start)


def test_a_resumed_fit_goes_on_frozen(root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = fit(root, tmp_path / "whole", 3)
    fit(root, tmp_path / "part", 1)
    caplog.clear()
    resumed = fit(root, tmp_path / "part", 3, resume=tmp_path / "part" / "last.ckpt")
    assert changed(whole[-1], resumed[-1]) == set()
    assert "nobody has trained" not in caplog.text
    assert changed(resumed[0], resumed[1]).isdisjoint(
        name for name in whole[0] if name.startswith(tuple(PREFIXES))
    )


def test_a_prefix_that_fits_nothing_is_an_error(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"starts with network\.decoder; names start with network\.encoder"):
        fit(root, tmp_path, 1, ["network.head", "network.decoder"])


@pytest.mark.parametrize(("epochs", "prefixes"), [(0, ["a"]), (1, []), (1, [""])])
def test_nothing_to_freeze_is_an_error(epochs: int, prefixes: list[str]) -> None:
    with pytest.raises(ConfigError, match="FrozenStart needs"):
        FrozenStart(epochs, prefixes)


class Normalised(L.LightningModule):
    def __init__(self, layer: nn.Module, mean: float = 3.0) -> None:
        super().__init__()
        self.layer = layer
        if isinstance(layer, nn.BatchNorm1d):
            layer.running_mean.fill_(mean)  # type: ignore[union-attr]

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        loss: Tensor = self.layer(batch).square().mean()
        self.log("loss", loss)
        return loss

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.layer(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def fit_normalised(module: Normalised, *callbacks: L.Callback) -> float:
    trainer = L.Trainer(**QUIET, max_epochs=3, callbacks=list(callbacks))
    batches = DataLoader(torch.arange(8.0).view(4, 2), batch_size=2)  # type: ignore[arg-type]
    trainer.fit(module, batches, batches)
    return float(trainer.callback_metrics["loss"])


@pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers")
def test_frozen_statistics_stay_and_are_those_that_training_uses(caplog: pytest.LogCaptureFixture) -> None:
    free, held = Normalised(nn.BatchNorm1d(2)), Normalised(nn.BatchNorm1d(2))
    fit_normalised(free)
    with caplog.at_level("INFO"):
        fit_normalised(held, FrozenStatistics())
    assert "nobody has measured" not in caplog.text
    assert not torch.equal(free.layer.running_mean, torch.full((2,), 3.0))  # type: ignore[arg-type]
    assert torch.equal(held.layer.running_mean, torch.full((2,), 3.0))  # type: ignore[arg-type]
    assert not torch.equal(held.layer.weight, torch.ones(2))  # type: ignore[arg-type]
    with caplog.at_level("INFO"):
        fit_normalised(Normalised(nn.BatchNorm1d(2), 0.0), FrozenStatistics())
    assert "statistics that nobody has measured" in caplog.text
    with pytest.raises(ConfigError, match="Normalised has no batch normalisation"):
        fit_normalised(Normalised(nn.Linear(2, 2)), FrozenStatistics())

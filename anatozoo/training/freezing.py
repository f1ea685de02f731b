"""Parts of a network that do not learn: some in the first epochs of a fit, statistics of batches never."""

from typing import Any

import lightning as L
from lightning.pytorch.utilities import rank_zero_info
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from anatozoo.errors import ConfigError
from anatozoo.text import some


class FrozenStart(L.Callback):
    """Holds some parameters fixed for the first epochs, and then lets all learn.

    Without gradients the optimiser passes the parameters over, so that neither momentum nor weight decay
    changes them, and their running means begin when they begin to learn. The gradients are dropped before
    they are clipped. A fit that is resumed goes on where it was, because the epoch alone decides. Several
    processes need no settings of their own.

    Args:
        epochs: how many epochs.
        prefixes: starts of names of parameters, such as ``network.head``.

    Raises:
        ConfigError: there are no epochs or no prefixes; at the start of a fit, no parameter has a prefix.
    """

    def __init__(self, epochs: int, prefixes: list[str]) -> None:
        if epochs < 1 or not prefixes or not all(prefixes):
            raise ConfigError(
                f"FrozenStart needs epochs of at least 1 and prefixes of names, not epochs={epochs} and "
                f"prefixes={prefixes}; leave it out where nothing is to be frozen."
            )
        self.epochs, self.prefixes = epochs, tuple(prefixes)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Check the prefixes before a fit.

        Raises:
            ConfigError: no parameter's name starts with one of them.
        """
        names = [name for name, _ in pl_module.named_parameters()]
        wrong = [prefix for prefix in self.prefixes if not any(name.startswith(prefix) for name in names)]
        if stage == "fit" and wrong:
            parts = list(dict.fromkeys(".".join(name.split(".")[:2]) for name in names))
            raise ConfigError(
                f"FrozenStart: no parameter's name starts with {', '.join(wrong)}; names start with "
                f"{some(parts)}."
            )

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say so where a new fit would hold fixed what nobody has trained."""
        if not trainer.ckpt_path and getattr(pl_module, "init_weights", "unknown") is None:
            rank_zero_info(
                "anatozoo: FrozenStart holds weights fixed that nobody has trained, because the fit starts "
                "from no others: give --model.init_weights."
            )

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer
    ) -> None:
        """Drop the gradients of what is frozen."""
        if trainer.current_epoch < self.epochs:
            for name, parameter in pl_module.named_parameters():
                if name.startswith(self.prefixes):
                    parameter.grad = None


class FrozenStatistics(L.Callback):
    """Holds the statistics of batch normalisation as they are when a fit starts.

    The layers then subtract and divide by their running means, in training as in prediction, and what a batch
    is made of no longer matters to them. Their weights learn all the same.

    Raises:
        ConfigError: at the start of a fit, the network has no batch normalisation.
    """

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Find the layers, and say so where nobody has measured their statistics."""
        self.layers = [part for part in pl_module.modules() if isinstance(part, _BatchNorm)]
        if not self.layers:
            raise ConfigError(
                f"FrozenStatistics: {type(pl_module).__name__} has no batch normalisation with these "
                "settings; leave the callback out."
            )
        means = [part.running_mean for part in self.layers if part.running_mean is not None]
        if not trainer.ckpt_path and not any(bool(mean.any()) for mean in means):
            rank_zero_info(
                "anatozoo: FrozenStatistics holds statistics that nobody has measured, because the fit "
                "starts from no other weights: give --model.init_weights or --model.encoder_weights."
            )

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        """Put the layers into evaluation mode, which ends with each validation."""
        for part in self.layers:
            part.eval()

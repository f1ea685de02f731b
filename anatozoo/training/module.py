"""What the LightningModules of all methods share."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar

import lightning as L
import torch
from torch import Tensor

from anatozoo.errors import ConfigError
from anatozoo.io.intensity import check_intensity
from anatozoo.nn.half_precision import full_where_small
from anatozoo.tasks.precision import PredictsInPrecision
from anatozoo.training.guards import FitGuard, refuse_diverged, refuse_weights_alone

if TYPE_CHECKING:
    from anatozoo.io.intensity import Intensity
    from anatozoo.metrics.cases import Case
    from anatozoo.metrics.per_image import PerImageMean

FRAGMENT = 0.05
"""Share of an organ's area outside its largest part from which on a result is flagged."""


class ZooModule(PredictsInPrecision, L.LightningModule):
    """A method of the zoo: network, losses and metrics set up in this order, JSON hyper-parameters only.

    Subclasses call ``super().__init__()`` and then `initialise` with their arguments.

    Attributes:
        architecture: hyper-parameters that make the network; a fit takes them over from its starting
            weights (``init_weights``) unless it is told otherwise.
        links: hyper-parameter -> setting of the data module that always has the same value; users give it
            once, on the model.
    """

    architecture: ClassVar[tuple[str, ...]] = ()
    links: ClassVar[Mapping[str, str]] = {}

    columns: list[str]
    val_metrics: "PerImageMean"
    test_metrics: "PerImageMean"
    checkpoint_name: str = "untrained"
    checkpoint_version: str = "0"
    intensity: "Intensity" = "percentiles"
    """How grey values become [0, 1]; methods that offer a choice have it among their settings."""

    def initialise(self) -> None:
        """Save the hyper-parameters, check that they are JSON, and build the parts.

        Raises:
            ConfigError: a hyper-parameter is no JSON value, so that a checkpoint would need pickle.
        """
        try:
            plain = json.loads(json.dumps(dict(self.hparams)))
        except TypeError as error:
            raise ConfigError(f"hyper-parameters must be JSON values: {error}.") from error
        self.hparams.update(plain)
        # Lightning's command line notes here how it made the module, which is no argument of ours.
        self.hparams.pop("_instantiator", None)
        self.intensity = self.hparams.get("intensity", "percentiles")
        check_intensity(self.intensity)
        self.configure_network()
        full_where_small(self)
        self.configure_losses()
        self.configure_metrics()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Name the method in a training run's file, so that the command line knows it again.

        Raises:
            DivergedError: a weight is NaN or infinite; good weights of before must not give way to it.
        """
        from anatozoo.training.weights import METHOD_KEY
        from anatozoo.zoo.checkpoint import method_of

        refuse_diverged(checkpoint)
        with suppress(ConfigError):  # a module that nobody registered has no name
            checkpoint[METHOD_KEY] = method_of(self)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to go on from weights alone.

        Raises:
            ConfigError: a fit is resumed from a file without the state of a fit.
        """
        if self._trainer is not None and self._trainer.state.fn == "fit":
            refuse_weights_alone(checkpoint, self._trainer.ckpt_path)

    def configure_callbacks(self) -> list[L.Callback]:
        """What every fit is watched by."""
        return [FitGuard()]

    def configure_network(self) -> None:
        """Build the network from ``self.hparams``."""

    def configure_losses(self) -> None:
        """Prepare what the losses need."""

    def configure_metrics(self) -> None:
        """Say by `judge_by` what is measured."""

    def judge_by(self, columns: Sequence[str]) -> None:
        """Measure these columns in validation and test, one value per image over all processes.

        The progress bar shows the first. Subclasses give the values by `measure`.
        """
        from anatozoo.metrics.per_image import PerImageMean

        self.columns = list(columns)
        self.val_metrics, self.test_metrics = PerImageMean(len(columns)), PerImageMean(len(columns))

    def infer(self, batch: Mapping[str, Tensor]) -> Any:
        """The network's answer to a validation batch: computed once, for `measure` and `cases`."""
        raise TypeError(f"{type(self).__name__} does not define infer.")

    def measure(self, output: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """The values of a batch, (B, columns); NaN where a column does not apply.

        Args:
            output: what `infer` gave.
            batch: the validation batch.
        """
        raise TypeError(f"{type(self).__name__} does not define measure.")

    def cases(self, output: Any, batch: Mapping[str, Tensor]) -> "list[Case]":
        """Predictions beside what the data says, one per image of the batch, on the CPU.

        Args:
            output: what `infer` gave.
            batch: the validation batch; its ``spacing_mm`` (B, n), NaN where unknown, gives millimetres.
        """
        raise TypeError(f"{type(self).__name__} does not define cases.")

    def total(self, terms: Mapping[str, Tensor], batch_size: int) -> Tensor:
        """The sum of the terms of a training step's loss; logs it and every term."""
        loss = torch.stack(list(terms.values())).sum()
        values = {f"train/{k}": v.detach() for k, v in terms.items()}
        self.log_dict(values, on_step=False, on_epoch=True, batch_size=batch_size)
        self.log("train/loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=batch_size)
        return loss

    def begins_afresh(self, stage: str) -> bool:
        """Prepare the network for a fit; whether the fit is fresh, so that it needs its starting weights."""
        if stage != "fit":
            return False
        # Convolutions train fastest so, on CPUs and tensor cores alike; maps follow the weights' format.
        # Before processes are joined, for these share gradients by the layout that they find.
        for part in self.children():
            part.to(memory_format=torch.channels_last)
        return self._trainer is None or not self.trainer.ckpt_path

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Any]:
        """Collect the values of each image; callbacks find the answer under ``output``."""
        return self._judge(self.val_metrics, batch)

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Any]:
        """Collect the values of each image; callbacks find the answer under ``output``."""
        return self._judge(self.test_metrics, batch)

    def _judge(self, metric: "PerImageMean", batch: dict[str, Tensor]) -> dict[str, Any]:
        output = self.infer(batch)
        metric.update(batch["index"], self.measure(output, batch))
        return {"output": output}

    def on_validation_epoch_end(self) -> None:
        """Log the means over the validation images."""
        self._report("val", self.val_metrics)

    def on_test_epoch_end(self) -> None:
        """Log the means over the test images."""
        self._report("test", self.test_metrics)

    def _report(self, stage: str, metric: "PerImageMean") -> None:
        means = metric.compute()
        metric.reset()
        for column, value in zip(self.columns, means, strict=True):
            shown = column == self.columns[0]
            # The metric has gathered the processes already.
            self.log(f"{stage}/{column}", value, prog_bar=shown, rank_zero_only=False, sync_dist=False)

"""The training of every method: step, validation, optimiser and starting weights."""

import inspect
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar

import lightning as L
import torch
from lightning.fabric.utilities.data import AttributeDict
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from anatozoo.errors import ConfigError
from anatozoo.frames.spec import FrameSpec
from anatozoo.metrics.cases import OVERLAP, Measures, case_numbers
from anatozoo.metrics.per_image import PerImageMean
from anatozoo.nn.half_precision import full_where_small
from anatozoo.tasks.base import Predictor, parameters_of, plain
from anatozoo.training.guards import FitGuard, refuse_diverged, refuse_weights_alone
from anatozoo.training.objective import Objective, average_gradients
from anatozoo.training.optim import Optim
from anatozoo.training.step import Step
from anatozoo.training.weights import fill_in, read_weights
from anatozoo.zoo.runs import METHOD_KEY

OBJECTIVES_KEY = "anatozoo_objectives"
"""Key of a training checkpoint under which the objectives of its fit are stored."""


class ZooModule(Predictor, L.LightningModule):
    """Turns a model into a LightningModule; the first base class of every module.

    ``class UNetModule(ZooModule, UNetModel)`` takes the settings of both. A subclass defines `losses`, and
    keeps each argument of its constructor in an attribute of the same name.

    Args:
        optim: the optimiser and its schedule.
        init_weights: checkpoint name, folder or ``.ckpt`` file that a new fit starts from.
        **model: the settings of the model.

    Attributes:
        measures: metrics of a validation: those that are logged or, with a `MetricsCallback`, all that it
            writes.
        fast_layout: train in "channels last" order, which is fastest for convolutions of images on CPUs and
            tensor cores.
    """

    measures: Measures = OVERLAP
    fast_layout: ClassVar[bool] = False
    extra_links: ClassVar[Mapping[str, str]] = {}
    """Further settings, beside organs and frame, that model and data module share: model's name to data's."""
    init_methods: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Other methods whose weights `adapted` takes in part: method -> settings that must agree."""

    val_metrics: PerImageMean
    test_metrics: PerImageMean

    def __init__(self, *, optim: Optim = Optim(), init_weights: str | None = None, **model: Any) -> None:
        super().__init__(**model)
        self.optim = Optim.of(optim)
        self.init_weights = init_weights
        full_where_small(self)
        count = len(self.columns())
        self.val_metrics, self.test_metrics = PerImageMean(count), PerImageMean(count)

    # For subclasses to define.

    def answer(self, batch: Mapping[str, Tensor]) -> Any:
        """The network's output for a training batch."""
        return self(batch["image"])

    def losses(self, output: Any, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weighted terms of the method's own loss; their sum is minimised.

        Args:
            output: the result of `answer`.
            batch: the training batch.
        """
        raise TypeError(f"{type(self).__name__} does not define losses.")

    def own_terms(self, step: Step) -> dict[str, Tensor]:
        """The method's own terms of a step, which may share maps or images with objectives."""
        return self.losses(step.output, step.batch)

    @property
    def encoder_part(self) -> nn.Module | None:
        """The part of the network whose learning rate ``optim.encoder_lr_scale`` scales."""
        return None

    def start(self) -> None:
        """Load the starting weights of a new fit."""
        if self.init_weights:
            state, settings = read_weights(self.init_weights, self._method(), *self.init_methods)
            fill_in(self, self.adapted(state, settings))

    def adapted(self, state: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Mapping[str, Tensor]:
        """Starting weights, adapted to this network.

        Args:
            state: tensors of another checkpoint of the method, or of one of `init_methods`.
            settings: its settings.
        """
        return state

    # The one step.

    @property
    def objectives(self) -> list[Objective]:
        """The trainer's objectives, in their order."""
        trainer = self._trainer
        callbacks = [] if trainer is None else trainer.callbacks  # type: ignore[attr-defined]
        return [each for each in callbacks if isinstance(each, Objective)]

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """One step: the method's own terms of the loss, then those of the objectives; logs every term."""
        steps = [Step(self, part, self.answer(part), self.global_step) for part in self._parts(batch)]
        terms = [self._terms(step) for step in steps]
        self._last = steps, terms
        return self.total(self.current_terms, _size(batch))

    def _parts(self, batch: Mapping[str, Tensor]) -> Sequence[Mapping[str, Tensor]]:
        """The batch, or its parts if an objective divides it."""
        found = [(type(each).__name__, parts) for each in self.objectives if (parts := each.parts(batch))]
        if len(found) > 1:
            names = " and ".join(name for name, _ in found)
            raise ConfigError(f"one objective may divide batches, not {names}; leave one out.")
        return found[0][1] if found else [batch]

    def _terms(self, step: Step) -> dict[str, Tensor]:
        """All terms of a step's loss: the method's own, then those of the objectives."""
        terms = self.own_terms(step)
        for objective in self.objectives:
            for name, value in objective.terms(step).items():
                if name in terms:
                    raise ConfigError(
                        f"two terms of the loss are called {name!r}; leave one of them out, such as "
                        f"objective {type(objective).__name__}."
                    )
                terms[name] = value.mean()
        return terms

    @property
    def current_terms(self) -> Mapping[str, Tensor]:
        """The terms of the loss by name, with their graph, from a training step to its backpropagation."""
        steps, terms = self._last
        return _together(terms, [_size(step.batch) for step in steps])

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Backpropagate, unless an objective sets the gradients."""
        steps, terms = self._last
        del self._last  # it holds the graph of the step
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        scale = (1.0 if scaler is None else scaler.get_scale()) / self.trainer.accumulate_grad_batches
        scaled = [{name: term * scale for name, term in each.items()} for each in terms]
        if any(objective.backward(steps, scaled) for objective in self.objectives):
            average_gradients(self.parameters())
        else:
            super().backward(loss, *args, **kwargs)

    def total(self, terms: Mapping[str, Tensor], batch_size: int) -> Tensor:
        """The sum of the terms of a training step's loss; logs means over all processes of it and of each."""
        loss = torch.stack(list(terms.values())).sum()
        values = {f"train/{k}": v.detach() for k, v in terms.items()}
        how: dict[str, Any] = {
            "on_step": False,
            "on_epoch": True,
            "sync_dist": True,
            "batch_size": batch_size,
        }
        self.log_dict(values, **how)
        self.log("train/loss", loss, prog_bar=True, **how)
        return loss

    def configure_optimizers(self) -> Any:
        """The optimiser and schedule of ``optim``."""
        return self.optim.build(self, self.encoder_part)

    def configure_callbacks(self) -> list[L.Callback]:
        """The callbacks of every fit."""
        return [FitGuard()]

    def setup(self, stage: str) -> None:
        """Before a new fit, load its starting weights.

        Raises:
            ConfigError: a setting is not a JSON value, so that a checkpoint would need pickle.
        """
        try:
            json.dumps(self.all_settings())
        except TypeError as error:
            raise ConfigError(f"settings must be JSON values: {error}.") from error
        if stage != "fit":
            return
        data = None if self._trainer is None else getattr(self.trainer, "datamodule", None)
        if getattr(data, "unlabelled", None) and not any(
            "unlabelled" in each.needs for each in self.objectives
        ):
            rank_zero_info(
                "anatozoo: data.unlabelled is given, but no objective learns from images without annotation: "
                "add one, such as Denoising, or leave the setting out."
            )
        if self.fast_layout:
            # Before processes are joined: they exchange gradients in the memory layout that they find.
            volumes = len(self.shape) == 3
            for part in self.children():
                part.to(memory_format=torch.channels_last_3d if volumes else torch.channels_last)
        if self._trainer is None or not self.trainer.ckpt_path:
            self.start()

    # Storage.

    def all_settings(self) -> dict[str, Any]:
        """The settings of model and training as JSON values."""
        return {name: plain(getattr(self, name)) for name in parameters_of(type(self))}

    @property
    def hparams(self) -> Any:
        """`all_settings`, under the name that Lightning stores and logs."""
        return AttributeDict(self.all_settings())

    @property
    def hparams_initial(self) -> Any:
        """`all_settings`; settings do not change during a fit."""
        return self.hparams

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the names of the method and the objectives, which the command line needs to resume.

        Raises:
            DivergedError: a weight is NaN or infinite, and must not replace earlier good weights.
        """
        refuse_diverged(checkpoint)
        with suppress(ConfigError):  # a module that is not registered has no name
            checkpoint[METHOD_KEY] = self._method()
        checkpoint[OBJECTIVES_KEY] = [[type(each).__name__, each.settings()] for each in self.objectives]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse weights of a model with other settings, and a resume from weights alone or with a new loss.

        Raises:
            ConfigError: the model's settings, such as its organs, are not those of the checkpoint, the file
                lacks the state of the fit, or this fit lacks an objective of that fit.
        """
        if self._trainer is None:
            return
        stored, mine = plain(dict(checkpoint.get("hyper_parameters", {}))), self.settings()
        # Weights may fit all the same, and organs in another order would take one another's names. As text,
        # because mappings in another order are equal.
        names = [n for n in mine if n in stored and json.dumps(stored[n]) != json.dumps(mine[n])]
        if names:
            raise ConfigError(
                f"{self._trainer.ckpt_path} was trained with other settings of the model: {', '.join(names)} "
                f"({names[0]} {stored[names[0]]!r} there, {mine[names[0]]!r} here). Leave these out, because "
                "a checkpoint brings its own; to begin a fit from its weights, use --model.init_weights."
            )
        if self._trainer.state.fn != "fit":
            return
        refuse_weights_alone(checkpoint, self._trainer.ckpt_path)
        self._check_objectives(checkpoint.get(OBJECTIVES_KEY, ()))

    def _check_objectives(self, stored: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """Refuse to go on without an objective of that fit, or with other settings of one."""
        mine = [(type(each).__name__, each.settings()) for each in self.objectives]
        missing = Counter(name for name, _ in stored)
        missing -= Counter(name for name, _ in mine)
        added = Counter(name for name, _ in mine)
        added -= Counter(name for name, _ in stored)
        if added:
            raise ConfigError(
                f"the fit that is to go on had no objective {', '.join(sorted(added))}: leave it out; with "
                "it, it is another fit, which --model.init_weights begins."
            )
        if missing:
            raise ConfigError(
                f"the fit that is to go on had the objectives {', '.join(sorted(missing))} too: give them "
                "and their settings again, as --objectives or in the configuration; without them it is "
                "another fit, which --model.init_weights begins."
            )
        for name, theirs in stored:
            own = [settings for other, settings in mine if other == name]
            if theirs in own:
                continue
            told = ", ".join(
                f"{key} {theirs[key]!r}, not {own[0].get(key)!r}"
                for key in theirs
                if theirs[key] != own[0].get(key)
            )
            raise ConfigError(
                f"the fit that is to go on had objective {name} with {told}: give its settings again; with "
                "others it is another fit, which --model.init_weights begins."
            )

    def _method(self) -> str:
        from anatozoo.zoo.checkpoint import method_of

        return method_of(self)

    # Validation.

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Any]:
        """Measure each image; callbacks find the answer, the cases and their rows of numbers."""
        return self._judge(self.val_metrics, batch)

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Any]:
        """Measure each image; callbacks find the answer, the cases and their rows of numbers."""
        return self._judge(self.test_metrics, batch)

    def _judge(self, metric: PerImageMean, batch: dict[str, Tensor]) -> dict[str, Any]:
        output = self.infer(batch)
        cases = self.cases(output, batch)
        rows = [case_numbers(case, self.measures) for case in cases]
        values = torch.tensor([[row.get(name, torch.nan) for name in self.columns()] for row in rows])
        metric.update(batch["index"], values.to(batch["index"].device))
        return {"output": output, "cases": cases, "rows": rows}

    def on_validation_epoch_end(self) -> None:
        """Log the means over the validation images."""
        self._report("val", self.val_metrics)

    def on_test_epoch_end(self) -> None:
        """Log the means over the test images."""
        self._report("test", self.test_metrics)

    def _report(self, stage: str, metric: PerImageMean) -> None:
        columns = self.columns()
        means = metric.compute().reshape(len(columns))  # torchmetrics makes one number a scalar
        metric.reset()
        for column, value in zip(columns, means, strict=True):
            shown = column == columns[0]
            # The metric has collected all processes already.
            self.log(f"{stage}/{column}", value, prog_bar=shown, rank_zero_only=False, sync_dist=False)


def links_of(module: type, data: type) -> dict[str, str]:
    """Settings that a module shares with its data module: the module's name -> the data module's.

    Users give them once, on the model: organs, the fields of the frame, and the module's `extra_links`.
    """
    ours, theirs = set(parameters_of(module)), set(inspect.signature(data).parameters)
    if hasattr(module, "links"):  # of another package
        return dict(module.links)
    found = {"organs": "organs"} if "organs" in ours & theirs else {}
    if "frame" in ours & theirs:
        found |= {f"frame.{field}": f"frame.{field}" for field in FrameSpec.__dataclass_fields__}
    return found | dict(getattr(module, "extra_links", {}))


def _together(terms: Sequence[Mapping[str, Tensor]], sizes: Sequence[int]) -> dict[str, Tensor]:
    """Means over all items of a batch, from the terms of its parts and their numbers of items."""
    if len(terms) == 1:
        return dict(terms[0])
    found: dict[str, Tensor] = {}
    for each, size in zip(terms, sizes, strict=True):
        for name, term in each.items():
            found[name] = found.get(name, 0) + term * (size / sum(sizes))
    return found


def _size(batch: Mapping[str, Tensor]) -> int:
    """Number of items of a batch."""
    return len(next(iter(batch.values())))

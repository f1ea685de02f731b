"""Errors for fits that have failed, which Lightning would end as if they had succeeded."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info

from anatozoo.errors import ConfigError, DivergedError
from anatozoo.text import some


def refuse_diverged(checkpoint: Mapping[str, Any]) -> None:
    """Check the weights of a checkpoint that Lightning is about to store.

    Args:
        checkpoint: Lightning's, with ``state_dict`` and ``global_step``.

    Raises:
        DivergedError: a weight is NaN or infinite.
    """
    state = checkpoint.get("state_dict", {})
    lost = [name for name, value in state.items() if not bool(torch.isfinite(value).all())]
    if lost:
        raise DivergedError(
            f"training has diverged: at step {checkpoint.get('global_step', 0)}, {lost[0]} and "
            f"{len(lost) - 1} more of {len(state)} tensors hold NaN or infinity. They were not stored; files "
            "of before are as they were. Try a lower --model.optim.lr, --trainer.gradient_clip_val 1, "
            "or --trainer.precision 32-true."
        )


def refuse_weights_alone(checkpoint: Mapping[str, Any], source: object) -> None:
    """Check that a fit can resume from a checkpoint.

    Args:
        checkpoint: Lightning's.
        source: its path, for the message.

    Raises:
        ConfigError: it has weights, but not the state of the fit.
    """
    lacking = [key for key in ("optimizer_states", "lr_schedulers", "loops") if key not in checkpoint]
    if lacking:
        raise ConfigError(
            f"--ckpt_path {source}: this file holds weights alone, as save_weights_only stores them, and no "
            "fit can go on from it. Give the last.ckpt of the run, or begin a new fit with "
            f"--model.init_weights {source}."
        )


def _has_bf16() -> bool:
    """Whether oneDNN convolves in bfloat16 here; where it does not, torch takes its slowest way."""
    # Not in torch's documentation; a torch without it is not judged.
    ask = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return ask is None or bool(ask())


class FitGuard(Callback):
    """Ends a fit with an error if it trains no batch, or if the metric that selects weights stays NaN.

    A new fit does not begin in a folder with the checkpoints of another: its best weights would be stored as
    ``best-v1.ckpt`` beside the other's ``best.ckpt``, and its ``last.ckpt`` in the other's place.

    Validation metrics are checked after the first validation: a monitor that is NaN for all cases then, as
    the landmarks' error of data with masks only, will never be a number.
    """

    def __init__(self) -> None:
        self.batches = 0
        self.numbers: set[str] = set()

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin to count; says so if the processor is slow in the precision of the fit.

        Raises:
            ConfigError: the fit is new, and its folder holds checkpoints of another.
        """
        if not trainer.ckpt_path and not trainer.global_step and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            _refuse_others_checkpoints(trainer)
        if str(trainer.precision).startswith("bf16") and pl_module.device.type == "cpu" and not _has_bf16():
            rank_zero_info(
                f"anatozoo: this processor has no fast convolutions in bfloat16: with --trainer.precision "
                f"{trainer.precision} a step takes several times as long as with 32-true."
            )
        self.batches, self.numbers = 0, set()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Count a batch."""
        self.batches += 1

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note which monitors are numbers."""
        self._note(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Check the monitors of the validation, before any checkpoint is chosen by them.

        Raises:
            ConfigError: a monitor is missing or NaN.
        """
        if trainer.state.fn != TrainerFn.FITTING:
            return
        few = trainer.sanity_checking and trainer.num_sanity_val_batches != trainer.num_val_batches
        if few:
            return
        self._note(trainer)
        for name in _monitors(trainer):
            value = trainer.callback_metrics.get(name)
            if name.startswith("val/") and (value is None or math.isnan(float(value))):
                what = "is not measured" if value is None else "is NaN for every validation case"
                raise ConfigError(f"{name}, by which checkpoints are chosen, {what}. {_advice(trainer)}")

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Check that the fit has trained something.

        Raises:
            ConfigError: no batch was trained, or a monitor was never a number.
            DivergedError: the weights are not numbers.
        """
        if self.batches == 0:
            self._untrained(trainer)
            return
        refuse_diverged({"state_dict": pl_module.state_dict(), "global_step": trainer.global_step})
        self._note(trainer)
        never = [name for name in _monitors(trainer) if name not in self.numbers]
        if never:
            raise ConfigError(
                f"{never[0]}, by which checkpoints are chosen, was never a number in this fit of "
                f"{trainer.global_step} steps. {_advice(trainer)}"
            )

    def _note(self, trainer: L.Trainer) -> None:
        metrics = trainer.callback_metrics
        self.numbers |= {n for n in _monitors(trainer) if n in metrics and math.isfinite(float(metrics[n]))}

    def _untrained(self, trainer: L.Trainer) -> None:
        loop = trainer.fit_loop
        settings = {
            name: getattr(trainer, name) for name in ("limit_train_batches", "max_steps", "max_epochs")
        }
        if zero := [f"--trainer.{name}" for name, value in settings.items() if value == 0]:
            raise ConfigError(f"nothing was trained: {zero[0]} is 0. Leave it out, or give more.")
        if loop.max_batches and trainer.global_step:
            rank_zero_info(
                f"anatozoo: nothing is left to train: {trainer.ckpt_path} is at the end of its fit, epoch "
                f"{trainer.current_epoch}, step {trainer.global_step}. To go on, raise --trainer.max_epochs "
                "or --trainer.max_steps."
            )
            return
        raise ConfigError(
            f"nothing was trained: the training data come to no batch for each of {trainer.world_size} "
            "process(es). Give more images, fewer processes, a lower --data.batch_size, or no "
            "--trainer.limit_train_batches."
        )


def _refuse_others_checkpoints(trainer: L.Trainer) -> None:
    savers = [each for each in trainer.checkpoint_callbacks if isinstance(each, ModelCheckpoint)]
    for folder in dict.fromkeys(Path(saver.dirpath) for saver in savers if saver.dirpath):
        names = sorted(path.name for path in folder.glob("*.ckpt"))
        if not names:
            continue
        last = "last.ckpt" if "last.ckpt" in names else names[-1]
        raise ConfigError(
            f"{folder} holds checkpoints of another fit: {some(names)}. To go on with that fit, give "
            f"--ckpt_path {folder / last}; for a new one, choose another folder, or move these files away."
        )


def _monitors(trainer: L.Trainer) -> list[str]:
    """The metrics by which callbacks choose checkpoints, or stop."""
    found = (getattr(callback, "monitor", None) for callback in trainer.callbacks)  # type: ignore[attr-defined]
    return list(dict.fromkeys(name for name in found if isinstance(name, str)))


def _advice(trainer: L.Trainer) -> str:
    metrics = trainer.callback_metrics
    known = [n for n, v in metrics.items() if n.startswith("val/") and math.isfinite(float(v))]
    if not known:
        return (
            "No validation has given a number: are there validation cases, and is the learning rate too high?"
        )
    return (
        f"Set `monitor` of the callback to one that is: {', '.join(sorted(known))} (`mode: max` where more "
        "is better)."
    )

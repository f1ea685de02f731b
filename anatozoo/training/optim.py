"""The optimiser and the learning-rate schedule of a fit."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import lightning as L
import torch
from torch import nn

from anatozoo.errors import ConfigError

FLOOR = 0.01
"""Share of the learning rate at which a cosine schedule ends."""


@dataclass(frozen=True)
class Optim:
    """Optimiser and learning-rate schedule.

    Args:
        name: ``"adam"`` (weight decay as an L2 term of the gradient) or ``"adamw"``.
        lr: learning rate.
        weight_decay: weight decay.
        encoder_lr_scale: factor on the learning rate of the network's encoder.
        schedule: ``"constant"``, ``"step"`` (times `lr_gamma` every `lr_step` epochs), ``"cosine"`` (down
            to 1 % at the end of the fit) or ``"linear"`` (constant for half of the fit, then down to 0).
        lr_step: epochs between steps of ``"step"``.
        lr_gamma: factor of each step of ``"step"``.
        warmup_steps: optimiser steps of linear warm-up for ``"cosine"``.
        beta1: share of earlier gradients in Adam's mean; 0.5 is usual where two networks compete.

    Raises:
        ConfigError: a setting is out of range.
    """

    name: Literal["adam", "adamw"] = "adam"
    lr: float = 1e-3
    weight_decay: float = 0.0
    encoder_lr_scale: float = 1.0
    schedule: Literal["constant", "step", "cosine", "linear"] = "constant"
    lr_step: int = 1000
    lr_gamma: float = 1.0
    warmup_steps: int = 0
    beta1: float = 0.9

    def __post_init__(self) -> None:
        if self.name not in ("adam", "adamw"):
            raise ConfigError(f"optim.name={self.name!r} is unknown; choose adam or adamw.")
        if self.schedule not in ("constant", "step", "cosine", "linear"):
            raise ConfigError(
                f"optim.schedule={self.schedule!r} is unknown; choose constant, step, cosine or linear."
            )
        if not 0 <= self.beta1 < 1:
            raise ConfigError(f"optim.beta1={self.beta1} must be from 0 to below 1.")
        if not self.lr >= 0 or min(self.weight_decay, self.encoder_lr_scale, self.warmup_steps) < 0:
            raise ConfigError(
                f"optim.lr={self.lr}, weight_decay={self.weight_decay}, encoder_lr_scale="
                f"{self.encoder_lr_scale} and warmup_steps={self.warmup_steps} must not be negative."
            )
        if self.lr_step < 1:
            raise ConfigError(f"optim.lr_step={self.lr_step} must be at least 1.")

    @classmethod
    def of(cls, given: "Optim | Mapping[str, Any]") -> "Optim":
        """The record itself, or one made from a mapping.

        Raises:
            ConfigError: the mapping has other keys, or a setting is out of range.
        """
        if isinstance(given, Optim):
            return given
        unknown = sorted(set(given) - set(cls.__dataclass_fields__))
        if unknown:
            raise ConfigError(f"an optimiser has no setting {', '.join(unknown)}.")
        return cls(**given)

    def build(self, module: L.LightningModule, encoder: nn.Module | None = None) -> Any:
        """The optimiser and schedule, as `configure_optimizers` returns them.

        Args:
            module: its trainable parameters are optimised.
            encoder: part of it whose learning rate is scaled by `encoder_lr_scale`.
        """
        scaled = [] if encoder is None else [p for p in encoder.parameters() if p.requires_grad]
        own = {id(p) for p in scaled}
        rest = [p for p in module.parameters() if p.requires_grad and id(p) not in own]
        groups: list[dict[str, Any]] = [{"params": rest}]
        if encoder is not None:
            groups.append({"params": scaled, "lr": self.lr * self.encoder_lr_scale})
        kind = torch.optim.Adam if self.name == "adam" else torch.optim.AdamW
        betas = (self.beta1, 0.999)
        optimizer = kind(groups, lr=self.lr, betas=betas, weight_decay=self.weight_decay)
        if self.schedule == "constant":
            return optimizer
        if self.schedule == "step":
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, self.lr_step, self.lr_gamma)]
        steps = module.trainer.estimated_stepping_batches
        if not math.isfinite(steps):
            raise ConfigError(
                f"the {self.schedule} schedule ends with the fit, which has no end: give trainer.max_steps "
                "or trainer.max_epochs, or --model.optim.schedule constant."
            )
        made = self._cosine if self.schedule == "cosine" else self._linear
        return [optimizer], [{"scheduler": made(max(int(steps), 1), optimizer), "interval": "step"}]

    def _linear(self, total: int, optimizer: torch.optim.Optimizer) -> Any:
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, 2 * (1 - step / total)))

    def _cosine(self, total: int, optimizer: torch.optim.Optimizer) -> Any:
        schedules = torch.optim.lr_scheduler
        warmup = min(self.warmup_steps, max(total // 4, 1))
        length, floor = max(total - warmup, 1), self.lr * FLOOR
        decay = schedules.CosineAnnealingLR(optimizer, length, eta_min=floor)
        if not warmup:
            return decay
        ramp = schedules.LinearLR(optimizer, 0.05, total_iters=warmup)
        return schedules.SequentialLR(optimizer, [ramp, decay], [warmup])

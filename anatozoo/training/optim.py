"""Optimisers and schedules that the methods share."""

from typing import Any

import lightning as L
import torch
from torch import nn


def adam_with_schedule(module: L.LightningModule, encoder: nn.Module) -> Any:
    """Adam or AdamW with a step or cosine schedule, from a module's hyper-parameters.

    Hyper-parameters: ``optimizer`` (``"adam"``, L2 in the gradient, or ``"adamw"``), ``lr``,
    ``weight_decay``, ``encoder_lr_scale``, ``schedule`` (``"step"``: × ``lr_gamma`` every ``lr_step`` epochs;
    ``"cosine"``: to 1 % at the fit's end after ``warmup_steps`` optimiser steps of linear warm-up).

    Args:
        module: the module whose trainable parameters are optimised.
        encoder: part of it whose learning rate is scaled by ``encoder_lr_scale``.

    Returns:
        What `configure_optimizers` returns.
    """
    h: Any = module.hparams
    scaled = [p for p in encoder.parameters() if p.requires_grad]
    own = {id(p) for p in scaled}
    rest = [p for p in module.parameters() if p.requires_grad and id(p) not in own]
    groups = [{"params": rest}, {"params": scaled, "lr": h.lr * h.encoder_lr_scale}]
    kind = torch.optim.Adam if h.optimizer == "adam" else torch.optim.AdamW
    optimizer = kind(groups, lr=h.lr, weight_decay=h.weight_decay)
    if h.schedule == "step":
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, h.lr_step, h.lr_gamma)]
    return cosine(module, optimizer)


def cosine(module: L.LightningModule, optimizer: torch.optim.Optimizer) -> Any:
    """A cosine schedule to 1 % of the learning rate at the fit's end, after a linear warm-up.

    Hyper-parameters: ``lr``, and ``warmup_steps``, the optimiser steps of the warm-up.

    Args:
        module: the module that is fitted.
        optimizer: its optimiser.

    Returns:
        What `configure_optimizers` returns.
    """
    h: Any = module.hparams
    total = int(module.trainer.estimated_stepping_batches)
    warmup = min(h.warmup_steps, max(total // 4, 1))
    ramp = torch.optim.lr_scheduler.LinearLR(optimizer, 0.05, total_iters=warmup)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(total - warmup, 1), eta_min=h.lr * 0.01)
    chain = torch.optim.lr_scheduler.SequentialLR(optimizer, [ramp, decay], [warmup])
    return [optimizer], [{"scheduler": chain, "interval": "step"}]

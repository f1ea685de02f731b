"""Objectives for tests: one that remembers something of each case, one that sets the gradients itself."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from anatozoo.training.objective import Objective
from anatozoo.training.step import Step


class Remembered(Objective):
    """Holds the share of foreground of each case near its own past.

    Args:
        cases: of the training split.
        weight: of the term.
        folder: where each process writes its memory when a fit ends; None for nowhere.
        own_gradients: whether it sets the gradients itself, and remembers those of the last step.
    """

    needs = frozenset({"maps"})
    sources = frozenset({"folder"})

    def __init__(
        self, cases: int = 4, weight: float = 1.0, folder: str | None = None, own_gradients: bool = False
    ) -> None:
        self.weight, self.folder, self.own_gradients = weight, folder, own_gradients
        self.memory = torch.full((cases,), 0.5)
        self.gradients: dict[str, Tensor] = {}
        self.restored: Tensor | None = None
        self.dtypes: set[torch.dtype] = set()

    def terms(self, step: Step) -> dict[str, Tensor]:
        probability = step.maps.probability
        self.dtypes.add(probability.dtype)
        found = 1 - probability[:, 0].flatten(1).mean(1)
        value = self.weight * (found - self.memory[step.batch["index"]]).square()
        seen: Any = [step.batch["index"], found.detach()]
        index, share = (each.flatten() for each in step.module.all_gather(seen))  # type: ignore[operator]
        self.memory[index] = (self.memory[index] + share) / 2
        return {"remembered": value}

    def backward(self, steps: Sequence[Step], terms: Sequence[Mapping[str, Tensor]]) -> bool:
        if self.own_gradients:
            learnt = [p for p in steps[0].module.parameters() if p.requires_grad]
            found = torch.autograd.grad(torch.stack(list(terms[0].values())).sum(), learnt)
            for parameter, gradient in zip(learnt, found, strict=True):
                parameter.grad = gradient + (0 if parameter.grad is None else parameter.grad)
        return self.own_gradients

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        self.gradients = {n: p.grad.clone() for n, p in pl_module.named_parameters() if p.grad is not None}

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.folder is not None:
            torch.save(self.state_dict(), Path(self.folder) / f"memory{trainer.global_rank}.pt")

    def state_dict(self) -> dict[str, Any]:
        return {"memory": self.memory.clone(), "gradients": self.gradients}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.memory = state_dict["memory"].clone()
        self.restored = self.memory.clone()

"""Objectives: callbacks that add terms to the loss of any method."""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import lightning as L
import torch
from torch import Tensor, distributed, nn

from anatozoo.errors import ConfigError
from anatozoo.tasks.base import plain
from anatozoo.training.step import Step

VIEWS = frozenset({"maps", "points", "images"})
"""What a module may offer; everything else that an objective needs is in the batches."""


class Objective(L.Callback):
    """A further term of the loss: a prior, a regulariser, or a use of unlabelled data.

    Trainers take it like any callback; ``--objectives`` and the block ``objectives:`` of a configuration
    name it. Its state and its frozen models are in its `state_dict`, hence in the training checkpoint, but
    never among the module's weights or settings.

    Each process of a distributed fit has its own objectives. All of them are asked for their `state_dict`,
    and the file holds that of the first. All are given it when the fit goes on. So what an objective
    remembers must be the same in all processes, as it is if it learns from what ``step.module.all_gather``
    gives. A state is made of tensors, numbers, texts, lists and mappings, because files are read
    without pickle. Two objectives of a class that remembers something need a `state_key` each.

    Arguments that are kept in attributes of the same name are its `settings`, which a fit that goes on must
    give again.

    Attributes:
        needs: of ``"maps"``, ``"points"``, ``"images"``, ``"domain"``, ``"unlabelled"``.
        sources: settings that name checkpoints, files or folders. A fit that goes on may name others, but as
            many, because what was read of them is in the state.
    """

    needs: frozenset[str] = frozenset()
    sources: ClassVar[frozenset[str]] = frozenset()

    def settings(self) -> dict[str, Any]:
        """The settings as JSON values; of `sources` only how many are named."""
        names = [name for name in inspect.signature(type(self).__init__).parameters if hasattr(self, name)]
        found = {name: plain(getattr(self, name)) for name in names}
        return {name: _count(value) if name in self.sources else value for name, value in found.items()}

    def setup(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        """Check, before a fit, that module and data offer what the objective needs.

        Raises:
            ConfigError: they do not; the message says what is missing.
        """
        if stage != "fit":
            return
        missing = sorted((self.needs & VIEWS) - getattr(pl_module, "offers", frozenset()))
        if missing:
            raise ConfigError(
                f"objective {type(self).__name__} needs {', '.join(missing)}, which "
                f"{type(pl_module).__name__} does not give."
            )
        data = getattr(trainer, "datamodule", None)
        if "unlabelled" in self.needs and data is not None and not getattr(data, "unlabelled", None):
            raise ConfigError(
                f"objective {type(self).__name__} needs images without annotation: say how many each step "
                "takes, as --data.unlabelled 4, and put such images into the training split."
            )

    def terms(self, step: Step) -> dict[str, Tensor]:
        """Weighted terms of the loss by name: one value per image (B,), or a scalar; the module averages.

        The names of a step are the same in all processes; the module logs means over all of them.
        """
        return {}

    def parts(self, batch: Mapping[str, Tensor]) -> Sequence[Mapping[str, Tensor]] | None:
        """Parts of a batch that the network answers one after the other, each with terms of its own.

        Returns:
            The parts, which hold each item once; None leaves the batch whole. At most one objective of a fit
            may divide it.
        """
        return None

    def backward(self, steps: Sequence[Step], terms: Sequence[Mapping[str, Tensor]]) -> bool:
        """Add to the gradients, ``parameter.grad``, in place of backpropagation.

        Args:
            steps: the step; where an objective divides the batch, a step for each part.
            terms: of each of these, all terms of the loss, averaged over its items in this process, and
                scaled as their gradients have to be: by one over the number of batches that are accumulated,
                and in float16 by the scale that the trainer takes out again.

        Returns:
            Whether it has; at most one objective of a fit may. The module then averages over processes, so
            all of them must return the same. Take gradients by `torch.autograd.grad`: ``backward()`` of a
            term would make DDP exchange them as well.
        """
        return False


def _count(value: Any) -> int:
    return len(value) if isinstance(value, list) else int(bool(value))


def flat_gradient(loss: Tensor, weights: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The gradient of a loss, whose graph is kept.

    Args:
        loss: a scalar.
        weights: with respect to which.

    Returns:
        (P,) of all weights one after another, in float32 or more, 0 where the loss does not depend on one;
        and, for each weight, (N,) 1 where it does, else 0.
    """
    exact = torch.promote_types(torch.float32, weights[0].dtype)
    found: Sequence[Tensor | None] = [None] * len(weights)
    if loss.requires_grad:
        found = torch.autograd.grad(loss, list(weights), retain_graph=True, allow_unused=True)
    pairs = zip(found, weights, strict=True)
    flat = torch.cat([(torch.zeros_like(w) if g is None else g).to(exact).flatten() for g, w in pairs])
    return flat, torch.tensor([float(g is not None) for g in found], dtype=exact, device=flat.device)


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Average gradients over the processes of a fit, which DDP does in backpropagation alone.

    A parameter that has a gradient in some processes counts as zero in the others.

    Args:
        parameters: those that are trained, in the same order in all processes.
    """
    if not distributed.is_available() or not distributed.is_initialized():
        return
    learnt = [parameter for parameter in parameters if parameter.requires_grad]
    there = torch.tensor([p.grad is not None for p in learnt], dtype=torch.int32, device=learnt[0].device)
    distributed.all_reduce(there, distributed.ReduceOp.MAX)
    for parameter, anywhere in zip(learnt, there.tolist(), strict=True):
        if anywhere:
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            distributed.all_reduce(gradient)
            parameter.grad = gradient / distributed.get_world_size()

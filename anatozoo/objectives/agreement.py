"""Gradient surgery: the network learns what all domains agree on.

In a LightningModule of your own, which divides its batches and gives the loss of each part::

    agreement = Agreement("agr_sum")

    def training_step(self, batch, batch_idx):
        self.losses = [cross_entropy(self(p["image"]), p["label"]) for p in agreement.parts(batch)]
        return torch.stack(self.losses).mean()

    def backward(self, loss):
        agreement.learn(self.losses, self)

    trainer = L.Trainer(callbacks=[agreement])
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import lightning as L
import torch
from torch import Tensor, distributed

from anatozoo.data.base import derived_seed, global_seed
from anatozoo.data.module import UNLABELLED, ZooDataModule
from anatozoo.errors import ConfigError
from anatozoo.nn.surgery import agreed_or_random, agreed_sum, agreeing, projected
from anatozoo.training.objective import Objective, flat_gradient
from anatozoo.training.step import Step

Rule = Literal["agr_sum", "agr_rand", "pcgrad", "sum"]
"""How the gradients of the domains become one, see `Agreement`."""


class Agreement(Objective):
    """Combines the gradients of the domains, so that a network works in domains that it has not seen.

    The domains of a batch are answered one after the other, each with all terms of the loss, dropout and
    batch statistics of its own. Their gradients are averaged over the processes and then combined. With
    accumulation it is their sums that are combined.

    Logs ``train/agreement``, the share of the components of the gradient in which all domains have the same
    sign, and ``train/agreement/LAYER`` for each layer: means over the steps of an epoch.

    Args:
        how: ``"agr_sum"`` (0 where signs differ) or ``"agr_rand"`` (noise there, of the mean magnitude of the
            rest; Mansilla et al., ICCV 2021), ``"pcgrad"`` (Yu et al., NeurIPS 2020), or ``"sum"`` (nothing
            is changed; for comparison). The result is divided by the number of domains; see
            `anatozoo.nn.surgery`.

    Attributes:
        share: share of the last step, None before the first.
        shares: layer -> its share of the last step.

    Raises:
        ConfigError: the rule is unknown.
    """

    needs = frozenset({"domain"})

    def __init__(self, how: Rule = "agr_sum") -> None:
        if how not in get_args(Rule):
            raise ConfigError(f"Agreement's how={how!r} is unknown; choose {', '.join(get_args(Rule))}.")
        self.how = how
        self.share: Tensor | None = None
        self.shares: dict[str, Tensor] = {}
        self._forget()

    def _forget(self) -> None:
        self._domains: list[int] = []
        self._gradients: Tensor | None = None
        self._sums: dict[str, Tensor] = {}
        self._steps = 0

    def setup(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        """Check precision and data before a fit.

        Raises:
            ConfigError: gradients are in float16, or batches do not hold several domains each.
        """
        super().setup(trainer, pl_module, stage)
        if stage != "fit":
            return
        self._forget()
        if str(trainer.precision).startswith("16"):
            raise ConfigError(
                "objective Agreement compares the signs of gradients, and float16 rounds small ones to zero: "
                f"instead of --trainer.precision {trainer.precision}, choose bf16-mixed or 32-true."
            )
        data = getattr(trainer, "datamodule", None)
        if isinstance(data, ZooDataModule):
            _check_data(data)

    def parts(self, batch: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        """The items of each domain, in the order of the domains' numbers.

        Args:
            batch: tensors (B, ...), among them ``domain`` (B,).

        Raises:
            ConfigError: the batch says nothing of domains, has one alone, or not the same as those before;
                or the processes differ.
        """
        if "domain" not in batch or UNLABELLED in batch:
            raise ConfigError(
                "objective Agreement needs batches of tensors with `domain`, a number for each item"
                + ("." if "domain" not in batch else ", without unlabelled items; leave out data.unlabelled.")
            )
        domains = batch["domain"].unique().tolist()
        if not self._domains:
            _check_domains(domains)
            self._domains = domains
        if domains != self._domains:
            raise ConfigError(
                "objective Agreement needs all domains in each batch: the first had "
                f"{_listed(self._domains)}, this one has {_listed(domains)}. With a data module of anatozoo, "
                "set data.balance to each."
            )
        places = [torch.nonzero(batch["domain"] == domain)[:, 0] for domain in domains]
        return [{name: value[place] for name, value in batch.items()} for place in places]

    def backward(self, steps: Sequence[Step], terms: Sequence[Mapping[str, Tensor]]) -> bool:
        """Set the gradients from all terms of the loss; see `learn`."""
        self.learn([torch.stack(list(each.values())).sum() for each in terms], steps[0].module)
        return True

    def learn(self, losses: Sequence[Tensor], module: Any) -> None:
        """Set the gradients of a LightningModule, in place of backpropagation.

        Until the gradients are set to None, those of further calls are added before they are combined.

        Args:
            losses: of the domains in their order, scalars; divided by the number of batches that are
                accumulated.
            module: what is trained; all processes give the same domains.

        Raises:
            ConfigError: there is one loss alone.
        """
        if len(losses) < 2:
            raise ConfigError("Agreement compares the gradients of several domains, but there is one loss.")
        named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
        found = _gradients(losses, [parameter for _, parameter in named])
        if self._gradients is not None and any(p.grad is not None for _, p in named):
            found = self._gradients + found
        self._gradients = found
        sizes = [parameter.numel() for _, parameter in named]
        # Of several processes each takes part in the mean, so that all have the same gradients.
        rows, reached = _averaged(found).split([sum(sizes), len(named)], 1)
        agree = agreeing(rows)
        seed = derived_seed(global_seed() or 0, int(module.global_step))
        pieces = self._combined(rows, agree, seed).split(sizes)
        counted: dict[str, list[Tensor]] = {}
        there = (reached.amax(0) > 0).tolist()
        for (name, parameter), piece, signs, learns in zip(
            named, pieces, agree.split(sizes), there, strict=True
        ):
            if not learns:
                continue  # no loss depends on it: without a gradient, neither weight decay nor noise moves it
            parameter.grad = torch.empty_like(parameter).copy_(piece.view_as(parameter))
            counted.setdefault(name.rpartition(".")[0] or name, []).append(signs)
        self._note(counted)

    def _combined(self, rows: Tensor, agree: Tensor, seed: int) -> Tensor:
        if self.how == "agr_sum":
            return agreed_sum(rows, agree)
        if self.how == "agr_rand":
            return agreed_or_random(rows, agree, torch.Generator(rows.device).manual_seed(seed))
        if self.how == "pcgrad":
            order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
            return projected(rows, order.tolist())
        return rows.mean(0)

    def _note(self, counted: Mapping[str, list[Tensor]]) -> None:
        """Keep the shares of a step, from the signs of each layer's parameters."""
        sums = {name: torch.stack([s.sum() for s in signs]).sum() for name, signs in counted.items()}
        sizes = {name: sum(s.numel() for s in signs) for name, signs in counted.items()}
        self.share = torch.stack(list(sums.values())).sum() / sum(sizes.values())
        self.shares = {name: sums[name] / sizes[name] for name in sums}

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        """Count the shares of this step."""
        self._gradients = None
        if self.share is not None:
            self._steps += 1
            for name, share in (("", self.share), *self.shares.items()):
                self._sums[name] = self._sums.get(name, 0) + share

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Log the means over the steps of the epoch; they are the same in all processes."""
        for name, value in self._sums.items():
            title = f"train/agreement/{name}" if name else "train/agreement"
            pl_module.log(title, value / self._steps, sync_dist=True)
        self._sums, self._steps = {}, 0


def _check_data(data: ZooDataModule) -> None:
    """Check that the batches of a data module will hold several domains each.

    Raises:
        ConfigError: they will not.
    """
    if data.unlabelled is not None:
        raise ConfigError(
            "objective Agreement compares annotated domains and does not take unlabelled images; leave out "
            "data.unlabelled."
        )
    domains = sorted({case.domain for case in getattr(data.sets.get("train"), "cases", ())})
    if len(domains) == 1:
        raise ConfigError(
            f"objective Agreement compares domains, and all training cases are of one, {domains[0]}; give a "
            "folder for each site, several layouts, or the column `domain` of a manifest."
        )
    if data.balance != "each":
        raise ConfigError(
            "objective Agreement needs all domains in each batch; set data.balance to each, and "
            "data.batch_size to a multiple of "
            + (f"{len(domains)}, the number of domains." if domains else "the number of domains.")
        )


def _check_domains(domains: Sequence[int]) -> None:
    """Check the domains of the first batch.

    Raises:
        ConfigError: there is one alone, or the processes differ.
    """
    if len(domains) < 2:
        raise ConfigError(
            "objective Agreement compares domains, and the first batch has "
            f"{_listed(domains)} alone; put items of each domain into each batch."
        )
    if distributed.is_initialized():
        found: list[Any] = [None] * distributed.get_world_size()
        distributed.all_gather_object(found, list(domains))
        if any(each != found[0] for each in found):
            shown = "; ".join(map(_listed, found))
            raise ConfigError(
                f"objective Agreement needs the same domains in all processes, which have {shown}."
            )


def _listed(domains: Sequence[int]) -> str:
    return ("domain " if len(domains) == 1 else "domains ") + ", ".join(map(str, domains))


def _gradients(losses: Sequence[Tensor], learnt: Sequence[Tensor]) -> Tensor:
    """Gradients (D, P) of losses; beside them, a 1 for each parameter that is reached."""
    # Losses may share a graph, as of one answer to the whole batch.
    return torch.stack([torch.cat(flat_gradient(loss, learnt)) for loss in losses])


def _averaged(rows: Tensor) -> Tensor:
    """Means over the processes of a fit, as new numbers."""
    if not distributed.is_initialized():
        return rows
    rows = rows.clone()
    distributed.all_reduce(rows)
    return rows / distributed.get_world_size()
